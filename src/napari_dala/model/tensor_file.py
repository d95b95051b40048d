"""The header of a safetensors file, read and checked before the library maps the file. No torch.

Such a file is the length n of the header (8 bytes, little-endian), the header (n bytes) and the tensors' bytes, one
after the other, nothing between or behind them. The header is JSON: name -> {"dtype", "shape", "data_offsets"}, and
"__metadata__": name -> text.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from napari_dala.errors import BundleError
from napari_dala.files import open_to_read
from napari_dala.validation import first_problem, parse_json

if TYPE_CHECKING:
    from pathlib import Path

_SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "F16": 2, "BF16": 2, "F32": 4, "F64": 8}  # bytes
_METADATA = "__metadata__"
_MOST_HEADER = 32 << 20  # bytes
_MOST_TENSORS = 10_000
_MOST_BYTES = 8 << 30  # of a file; 1.1 thousand million weights have 4.5 GB in float32
_START = 8  # bytes before the header
_SEAL = b'"sha256":"'  # in the header; within the card's text the quotes are escaped

SUMS_FILE = "SHA256SUMS"
HASH = "hash"
"""Key of the bundle's hash in a file's metadata, so that who has no torch knows it; older files do not have it."""
UNSEALED = {"sha256": "0" * 64}
"""Metadata of a file that `seal` is to be called on."""

Size = Annotated[int, Field(ge=0, strict=True)]


class TensorEntry(BaseModel):
    """What the header says of a tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: str
    shape: Annotated[tuple[Size, ...], Field(max_length=8)]
    data_offsets: tuple[Size, Size]


@dataclass(frozen=True)
class TensorFile:
    """What is in a safetensors file: its metadata, and its tensors by name in the order of their bytes."""

    metadata: dict[str, str]
    tensors: dict[str, TensorEntry]


_METADATA_KIND = TypeAdapter(dict[str, str])
_TENSORS_KIND = TypeAdapter(dict[str, TensorEntry])


def read_header(path: Path) -> TensorFile:
    """Return what is in a safetensors file, from its header alone.

    Raises
    ------
    BundleError
        If the file is missing, is none, or its header and its length do not agree; one line that says what it is
        instead.
    """
    try:
        with open_to_read(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(_START)
            length = int.from_bytes(start, "little")
            if problem := _what_else(path, start, length, size):
                raise BundleError(f"{path.name}: {problem}")
            data = file.read(length)
    except FileNotFoundError:
        raise BundleError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        if path.is_dir():
            raise BundleError(f"{path.name}: this is a folder, not a model bundle") from None
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise BundleError(f"{path.name}: it cannot be read ({reason})") from None
    if not data.startswith(b"{"):
        raise BundleError(f"{path.name}: this is not a safetensors file")
    header: Any = parse_json(data, f"{path.name}: the header", BundleError)
    try:
        metadata = _METADATA_KIND.validate_python(header.pop(_METADATA, None) or {})
        tensors = _TENSORS_KIND.validate_python(header)
        return TensorFile(metadata, _in_order(tensors, size - _START - length))
    except ValidationError as error:
        raise BundleError(f"{path.name}: the header is damaged ({first_problem(error)})") from None
    except ValueError as error:
        raise BundleError(f"{path.name}: {error}") from None


def _what_else(path: Path, start: bytes, length: int, size: int) -> str | None:
    """Say what a file is that cannot be a whole safetensors file, by its first bytes and its size; None if it can."""
    if size == 0:
        return "the file is empty"
    if is_pickle(start):
        return f"this is a PyTorch pickle; use `dala models import {path.name}`"
    if size < _START or length > _MOST_HEADER:
        return "this is not a safetensors file"
    if length > size - _START:
        return "the file is truncated or damaged; copy or download it again"
    if size > _MOST_BYTES:
        return f"the file has {size >> 20} MB; a model of at most {_MOST_BYTES >> 20} MB can be read"
    return None


def is_pickle(start: bytes) -> bool:
    """Tell by its first 8 bytes whether a file is one of `torch.save`, of the zip or of the older kind.

    The length of a header may begin with the same byte, but is less.
    """
    return start.startswith((b"PK\x03\x04", b"\x80")) and int.from_bytes(start, "little") > _MOST_HEADER


def _in_order(tensors: dict[str, TensorEntry], size: int) -> dict[str, TensorEntry]:
    """Return tensors in the order of their bytes, or raise ValueError where they do not fill `size` bytes exactly."""
    if len(tensors) > _MOST_TENSORS:
        raise ValueError(f"it has {len(tensors)} tensors; a model of at most {_MOST_TENSORS} can be read")
    end = 0
    ordered = dict(sorted(tensors.items(), key=lambda item: item[1].data_offsets))
    for name, entry in ordered.items():
        if entry.dtype not in _SIZES:
            raise ValueError(f"{name} is stored as {entry.dtype}; a model's tensors are {', '.join(_SIZES)}")
        begin, next_begin = entry.data_offsets
        if begin != end or next_begin - begin != math.prod(entry.shape) * _SIZES[entry.dtype]:
            raise ValueError(f"the header is damaged: the bytes of {name} are not where its shape says")
        end = next_begin
    if end != size:
        raise ValueError(
            "the file is truncated or damaged; copy or download it again"
            if end > size
            else f"the file is damaged: {size - end} bytes behind its last tensor"
        )
    return ordered


def seal(path: Path) -> None:
    """Write into a file with the metadata `UNSEALED` the SHA-256 of all its bytes, as they are before."""
    digest = _digest(path, UNSEALED["sha256"])
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(_START), "little")
        file.seek(_START + file.read(length).index(_SEAL) + len(_SEAL))
        file.write(digest.encode())


def check_seal(path: Path, metadata: dict[str, str]) -> None:
    """Raise BundleError where a file's bytes are not those that were sealed.

    Older files have no seal; that of the built-in ones stands beside them, as sha256sum writes it.
    """
    stored = metadata.get("sha256")
    if stored is None:
        beside = _listed(path)
        is_damaged = beside is not None and _digest(path, None) != beside
    else:
        is_damaged = _digest(path, stored) != stored
    if is_damaged:
        raise BundleError(f"{path.name}: the file is damaged, its checksum is another; copy or download it again")


def _listed(path: Path) -> str | None:
    """Return the SHA-256 that the file SHA256SUMS beside a file gives for it, if any."""
    try:
        lines = (path.parent / SUMS_FILE).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line[:64] for line in lines if line[64:].lstrip(" *") == path.name), None)


def _digest(path: Path, stored: str | None) -> str:
    with path.open("rb") as file:
        start = file.read(_START)
        header = file.read(int.from_bytes(start, "little"))
        blank = header if stored is None else header.replace(_SEAL + stored.encode(), _SEAL + b"0" * 64, 1)
        sha = hashlib.sha256(start + blank)
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
