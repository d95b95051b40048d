"""Files that are no weights we can take: each is named, in one line that says what would work."""

from __future__ import annotations

import json
import os
import tarfile
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from napari_dala.errors import BundleError
from napari_dala.model.importing.checkpoint import read_tensors
from napari_dala.model.importing.file_kind import WHAT_WORKS, is_bundle, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def zipped(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


def torch_script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a kind of file that torch gives up
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)


def bytes_of(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "weights.pth")


def cut_short(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    path.write_bytes(path.read_bytes()[:-30])


def cut_short_safetensors(path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    path.write_bytes(path.read_bytes()[:-30])


class Malicious:
    """Runs a command when it is unpickled by a reader that lets it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch malicious-code-ran",)


SHARDS = {
    "metadata": {},
    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
}
WORKS = WHAT_WORKS.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")
FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "Keras .h5": ("model.h5", bytes_of(b"\x89HDF\r\n\x1a\n" + bytes(600)), f"this is an HDF5 file, .*{WORKS}"),
    "Keras .keras": (
        "model.keras",
        zipped("metadata.json", "config.json", "model.weights.h5"),
        "this is a network of Keras",
    ),
    "ONNX": ("model.onnx", bytes_of(b"\x08\x08\x12\x07pytorch"), f"this is an ONNX network, .*{WORKS}"),
    "ONNX, named .bin": ("model.bin", bytes_of(b"\x08\x08\x12\x07pytorch"), "this is an ONNX network"),
    "TensorFlow": ("saved_model.pb", bytes_of(b"\x08\x01\x32" + bytes(90)), "this is a network of TensorFlow"),
    "TensorFlow Lite": ("x", bytes_of(b"\x1c\0\0\0TFL3" + bytes(90)), "this is a network of TensorFlow Lite"),
    "GGUF": ("model.gguf", bytes_of(b"GGUF\3\0\0\0" + bytes(90)), "this is a GGUF file"),
    "TorchScript": (
        "model.pt",
        torch_script,
        r"this is a TorchScript program, .*torch\.jit\.load\(FILE\)\.state_dict\(\)",
    ),
    "torch.export": (
        "model.pt2",
        zipped("model/archive_format", "model/models/model.json"),
        r"this is a program of torch\.export",
    ),
    "a shard index": (
        "model.safetensors.index.json",
        bytes_of(json.dumps(SHARDS).encode()),
        r"this is the index of a network that lies in 2 files \(model-00001-of-00002\.safetensors, \.\.\.\)",
    ),
    "JSON": ("config.json", bytes_of(b'{"architectures": ["ResNet"]}'), f"this is JSON, no file of weights; {WORKS}"),
    "a zip with weights": (
        "weights.zip",
        zipped("readme.txt", "best.pth"),
        r"this is a zip archive with best\.pth in it; unpack",
    ),
    "another zip": (
        "weights.pth",
        zipped("word/document.xml"),
        r"this is a zip archive without weights, its first file is word/",
    ),
    "an empty zip": (
        "weights.pth",
        zipped(),
        f"this is no file of weights|this is a zip archive without weights; {WORKS}",
    ),
    "arrays": ("features.npz", lambda path: np.savez(path, a=np.zeros(3)), "these are arrays of NumPy"),
    "an array": ("features.npy", lambda path: np.save(path, np.zeros(3)), "this is an array of NumPy"),
    "gzip": ("weights.pth.gz", bytes_of(b"\x1f\x8b" + bytes(90)), "this is a gzip archive; unpack"),
    "tar": ("weights.tar", tar, "this is a tar archive; unpack"),
    "Git LFS": (
        "w.pth",
        bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "this is Git LFS's note",
    ),
    "a web page": ("w.pth", bytes_of(b"\n<!DOCTYPE html><html>"), "this is a web page"),
    "text": ("w.pth", bytes_of(b"no weights at all"), f"this is no file of weights that is known, .*{WORKS}"),
    "nothing": ("w.pth", bytes_of(b""), "the file is empty"),
    "a folder": ("saved", lambda path: path.mkdir(), "this is a folder"),
    "cut short": ("w.pth", cut_short, "the file is truncated or damaged"),
    "safetensors cut short": ("w.safetensors", cut_short_safetensors, "the file is truncated or damaged"),
    "an old pickle cut short": ("w.pt", bytes_of(b"\x80\x02 cut short"), "this is not a state dict saved by torch"),
    "a whole network": (
        "net.pth",
        lambda path: torch.save(resnet18(), path),
        r"this is a whole pickled network \(torchvision\.models\.resnet\.ResNet\), .*network\.state_dict\(\)",
    ),
    "a whole layer": (
        "net.pth",
        lambda path: torch.save({"m": nn.Linear(2, 2)}, path),
        "this is a whole pickled network",
    ),
    "code": ("net.pth", lambda path: torch.save(Malicious(), path), r"refused, it asks to run \S*system; "),
    "code beside weights": (
        "net.pth",
        lambda path: torch.save({"conv1.weight": torch.zeros(3), "x": Malicious()}, path),
        r"refused, it asks to run \S*system; ",
    ),
    "no names": ("net.pth", lambda path: torch.save([torch.zeros(1)], path), "it holds no tensors with names"),
    "a lone tensor": ("net.pth", lambda path: torch.save(torch.zeros(1), path), "it holds no tensors with names"),
    "no tensors": ("net.pth", lambda path: torch.save({"epoch": 1}, path), "it holds no tensors with names"),
    "a sparse tensor": (
        "net.pth",
        lambda path: torch.save({"a": torch.zeros(3).to_sparse()}, path),
        "this is not a state dict",
    ),
    "no numbers": (
        "net.pth",
        lambda path: torch.save({"a": torch.zeros(3, device="meta")}, path),
        "it holds no tensors",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_each_is_named_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, write, reason = FILES[name]
    write(tmp_path / file)
    with pytest.raises(BundleError, match=rf"^{file.replace('.', '[.]')}: ({reason})") as error:
        read_tensors(tmp_path / file)
    assert "\n" not in str(error.value)
    assert "dala models import" not in str(error.value), "the very command that was typed"
    assert not (tmp_path / "malicious-code-ran").exists()


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such file"):
        kind_of(tmp_path / "absent.pt")


def test_a_dict_that_holds_itself_ends(tmp_path: Path) -> None:
    state: dict[str, Any] = {"a.weight": torch.zeros(2)}
    state["self"] = state
    state["again"] = {"inner": state, "b.weight": torch.ones(2)}
    torch.save(state, tmp_path / "loop.pth")
    assert sorted(read_tensors(tmp_path / "loop.pth")) == ["a.weight", "again.b.weight"]


def test_kinds_go_by_contents(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "tensors.pth")
    save_file({"a": torch.zeros(2)}, tmp_path / "card.bin", {"card": "{}"})
    assert [kind_of(path) for path in sorted(tmp_path.iterdir())] == ["safetensors", "torch", "safetensors"]
    assert [is_bundle(path) for path in sorted(tmp_path.iterdir())] == [True, False, False]
