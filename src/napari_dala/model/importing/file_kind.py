"""What kind of file a user brings, told by its contents and not by its name. No torch."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from napari_dala.errors import BundleError
from napari_dala.files import open_to_read
from napari_dala.model.tensor_file import is_pickle, read_header

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

WHAT_WORKS = "a PyTorch state dict (.pth, .pt, .ckpt, .bin) or a .safetensors file can be imported"

_START = 512  # bytes that are looked at
_MOST_INDEX = 4 << 20  # bytes of JSON that are looked at
_MOST_HEADER = 1 << 32  # of safetensors; the first 8 bytes of anything else are a larger number
_ASK_FOR_PYTORCH = f"ask its authors for PyTorch weights: {WHAT_WORKS}"
_UNPACK = "unpack it and import the file of weights in it"
_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", f"this is an HDF5 file, as Keras writes; {_ASK_FOR_PYTORCH}"),
    (b"GGUF", f"this is a GGUF file of a language model; {WHAT_WORKS}"),
    (b"\x93NUMPY", f"this is an array of NumPy; {WHAT_WORKS}"),
    (b"\x1f\x8b", f"this is a gzip archive; {_UNPACK}"),
    (b"BZh", f"this is a bzip2 archive; {_UNPACK}"),
    (b"\xfd7zXZ", f"this is an xz archive; {_UNPACK}"),
    (b"7z\xbc\xaf", f"this is a 7z archive; {_UNPACK}"),
    (b"Rar!", f"this is a RAR archive; {_UNPACK}"),
    (
        b"version https://git-lfs",
        "this is Git LFS's note of where the file lies, not the file; download the file itself",
    ),
)
_WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml)", re.IGNORECASE)
_ENDINGS = {
    ".onnx": f"this is an ONNX network, which can be run but not learned from; {_ASK_FOR_PYTORCH}",
    ".pb": f"this is a network of TensorFlow; {_ASK_FOR_PYTORCH}",
    ".tflite": f"this is a network of TensorFlow Lite; {_ASK_FOR_PYTORCH}",
    ".index": f"this is a part of a checkpoint of TensorFlow; {_ASK_FOR_PYTORCH}",
}
_WEIGHTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".h5", ".onnx", ".pb")

Kind = Literal["safetensors", "torch"]


def kind_of(path: Path) -> Kind:
    """Tell whether a file is one of safetensors or of `torch.save`, whatever its name says.

    Raises
    ------
    BundleError
        If it is neither; one line that says what it is and what would work.
    """
    try:
        with open_to_read(path) as file:
            kind, problem = _looked_at(file, path.suffix.lower())
    except FileNotFoundError:
        raise BundleError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        if path.is_dir():
            raise BundleError(f"{path.name}: this is a folder; give the file of weights in it") from None
        raise BundleError(f"{path.name}: it cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if kind is None:
        raise BundleError(f"{path.name}: {problem}")
    return kind


def is_bundle(path: Path) -> bool:
    """Tell whether a file has a model card, so that it is installed as it is, or weights to be imported.

    Raises
    ------
    BundleError
        If it is neither, one line that says what it is.
    """
    return kind_of(path) == "safetensors" and "card" in read_header(path).metadata


def _looked_at(file: BinaryIO, suffix: str) -> tuple[Kind | None, str]:
    """Return the kind of an open file, or None and what it is instead."""
    start = file.read(_START)
    if not start:
        return None, "the file is empty; copy or download it again"
    if int.from_bytes(start[:8], "little") < _MOST_HEADER and start[8:9] == b"{":
        return "safetensors", ""
    if start.startswith(b"PK\x03\x04"):
        return _looked_into(file)
    if is_pickle(start[:8]):
        return "torch", ""
    if start.lstrip()[:1] in (b"{", b"["):
        file.seek(0)
        return None, _json(file.read(_MOST_INDEX))
    found = [text for beginning, text in _BEGINNINGS if start.startswith(beginning)]
    if found:
        return None, found[0]
    if _WEB_PAGE.match(start):
        return None, "this is a web page, perhaps what a failed download left; download the file again"
    if start[257:262] == b"ustar":
        return None, f"this is a tar archive; {_UNPACK}"
    if start[4:8] == b"TFL3":
        return None, _ENDINGS[".tflite"]
    if start[:1] == b"\x08" and start[2:3] == b"\x12" and suffix not in _ENDINGS:  # its version, then who made it
        return None, _ENDINGS[".onnx"]
    return None, _ENDINGS.get(suffix, f"this is no file of weights that is known, or it is damaged; {WHAT_WORKS}")


def _looked_into(file: BinaryIO) -> tuple[Kind | None, str]:
    """Return the same of a zip archive, which `torch.save` writes too."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError):  # zipfile's own, for a compression that it does not know
        return None, "the file is truncated or damaged (a zip archive without its end); copy or download it again"
    ends = {PurePosixPath(name).name for name in names}
    folders = {part for name in names for part in PurePosixPath(name).parts[:-1]}
    if "constants.pkl" in ends or ("data.pkl" in ends and "code" in folders):
        return None, (
            "this is a TorchScript program, which would have to be run; where you trust it, save its weights: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        )
    if "data.pkl" in ends:
        return "torch", ""
    if "model.weights.h5" in ends:
        return None, f"this is a network of Keras; {_ASK_FOR_PYTORCH}"
    if "archive_format" in ends:
        return None, f"this is a program of torch.export; save the network's state_dict() as .pth: {WHAT_WORKS}"
    if names and all(name.endswith(".npy") for name in names):
        return None, f"these are arrays of NumPy; {WHAT_WORKS}"
    inside = [name for name in names if name.lower().endswith(_WEIGHTS)]
    if inside:
        return None, f"this is a zip archive with {inside[0][:100]} in it; {_UNPACK}"
    first = f", its first file is {names[0][:100]}" if names else ""
    return None, f"this is a zip archive without weights{first}; {WHAT_WORKS}"


def _json(data: bytes) -> str:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    parts = value.get("weight_map") if isinstance(value, dict) else None
    if isinstance(parts, dict) and parts:
        files = sorted({str(name) for name in parts.values()})
        return (
            f"this is the index of a network that lies in {len(files)} files ({files[0][:100]}, ...); load it where "
            "it was made and save its state_dict() as one .pth"
        )
    return f"this is JSON, no file of weights; {WHAT_WORKS}"
