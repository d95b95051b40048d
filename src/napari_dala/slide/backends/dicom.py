"""Which file of a DICOM slide OpenSlide is given, looked at before: some make it end the process."""

from __future__ import annotations

import mmap
import re
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import openslide

from napari_dala.errors import SlideError

if TYPE_CHECKING:
    from pathlib import Path

_HEAD_BYTES = 1 << 16  # what tells of the image as a whole comes before its frames
_SERIES = re.compile(rb"\x20\x00\x0e\x00UI..([0-9.]+)", re.DOTALL)
_VOLUME = re.compile(rb"\x08\x00\x08\x00CS..[A-Z0-9_ \\]*\\VOLUME", re.DOTALL)
_SPARSE = b"TILED_SPARSE"
_PIXELS = re.compile(rb"\xe0\x7f\x10\x00O[BW]\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0(....)", re.DOTALL)
_MOST_HEADER = 64 << 20  # bytes that are searched for where the frames begin
_ITEM = b"\xfe\xff\x00\xe0"  # before each frame, then its length
_TRIAL = "import sys, openslide; openslide.OpenSlide(sys.argv[1]).get_thumbnail((256, 256))"
_TRIAL_S = 60


def dicom_file(path: Path) -> Path:
    """Return the file that stands for a DICOM slide: `path` itself, or of a folder the first that OpenSlide opens.

    Hidden files are passed over, and files of the same slide are OpenSlide's to find.

    Raises
    ------
    SlideError
        When a folder holds no slide or several, or a file in it is damaged so that OpenSlide would crash.
    openslide.OpenSlideError
        When it can be read by nobody.
    """
    folder = path if path.is_dir() else path.parent
    heads = {file: _head_of(file) for file in dicom_files(folder)}
    if not heads:
        raise SlideError(f"{path.name}: a folder without a slide; a DICOM slide is a folder of .dcm files")
    for file in heads:
        _check_frames(file)
    is_sparse = any(_SPARSE in head for head in heads.values())  # OpenSlide looks at the whole folder
    if path.is_file():
        return _tried(path) if is_sparse else path
    volumes = {file: series for file, head in heads.items() if _VOLUME.search(head) and (series := _series_of(head))}
    if len(set(volumes.values())) > 1:
        raise SlideError(f"{path.name}: holds {len(set(volumes.values()))} slides; name a .dcm file of one of them")
    problem: Exception = SlideError(f"{path.name}: a folder without a slide")
    for file in volumes or heads:
        try:
            openslide.OpenSlide(_tried(file) if is_sparse else file).close()
        except (SlideError, openslide.OpenSlideError) as error:
            problem = error
        else:
            return file
    raise problem


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files of a folder by name, hidden ones left out."""
    return [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() == ".dcm" and not file.name.startswith(".") and file.is_file()
    ]


def dicom_series(file: Path) -> list[Path]:
    """Return the DICOM files beside a file that are of its slide, and itself; all where it does not say its series."""
    series = _series_of(_head_of(file))
    files = dicom_files(file.parent)
    return [one for one in files if series is None or one == file or _series_of(_head_of(one)) == series]


def _check_frames(file: Path) -> None:
    """Raise SlideError where the table of a file's frames does not lead to frames: OpenSlide would crash on it."""
    if not file.stat().st_size:
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = _PIXELS.search(data, 0, _MOST_HEADER)
        if found is None:
            return
        size, start = int.from_bytes(found[1], "little"), found.end()
        table = data[start : start + size]
        end = start + size
        for (offset,) in struct.iter_unpack("<I", table[: len(table) // 4 * 4]):
            at = end + offset
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            if data[at : at + 4] != _ITEM or at + 8 + length > len(data):
                raise SlideError(f"{file.name}: damaged, its frames are not where it says; copy the slide again")


def _head_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_HEAD_BYTES)


def _series_of(head: bytes) -> bytes | None:
    found = _SERIES.search(head)
    return found and found[1]


def _tried(file: Path) -> Path:
    """Return a file that OpenSlide reads in another process, which it may crash.

    Raises
    ------
    SlideError
        When it does.
    """
    try:
        subprocess.run([sys.executable, "-c", _TRIAL, str(file)], check=True, capture_output=True, timeout=_TRIAL_S)
    except (OSError, subprocess.SubprocessError):
        raise SlideError(
            f"{file.name}: a sparse DICOM slide (TILED_SPARSE) that cannot be read; convert it to TILED_FULL"
        ) from None
    return file
