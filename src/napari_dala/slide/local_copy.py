"""Slides of a slow drive, copied to the cache before they are analysed: checked, bounded, and without their names."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from napari_dala.errors import SlideError
from napari_dala.files import open_to_append, open_to_read, replacing_folder, sha256_of, try_lock
from napari_dala.slide.backends.dicom import dicom_files, dicom_series
from napari_dala.slide.backends.remote import url_of
from napari_dala.slide.backends.zarr_store import is_zarr_folder, ome_zarr_root
from napari_dala.slide.open import open_quietly, open_slide
from napari_dala.slide.profile import warn_of_profile
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.slide.base import Slide

MOST_BYTES = 200 << 30
"""That all copies together take."""
MOST_DAYS = 30
"""That a copy stays after it was last used."""
_LEFT_FREE = 5 << 30  # bytes of the disk
_PIECE = 1 << 22
_PRIVATE = 0o700
_IN_USE = ".in-use"  # ending of files that are locked as long as a copy is read
_DAY_S = 86_400
_log = logging.getLogger(__name__)


class _Parts(NamedTuple):
    """The files of a slide: which one opens it, and each with its name in a copy."""

    opens: str
    files: dict[str, Path]


def open_local_copy(
    path: Path,
    *,
    mpp: float | tuple[float, float] | None = None,
    icc_profile: bool = True,
    told: Callable[[int, int], None] | None = None,
) -> Slide:
    """Open a slide from a copy in the cache, which is made where there is none; it is known as the original.

    Where it cannot be copied (an address, no room, a kind whose files must keep their names) the original is opened,
    and the log says why.

    Parameters
    ----------
    path, mpp, icc_profile
        See `open_slide`.
    told
        Called with the bytes that are copied and all bytes; what it raises ends the copying.

    Raises
    ------
    SlideError
        As `open_slide`; also where the copy is not what was read, or the slide was written to meanwhile.
    """
    path = ome_zarr_root(path) or path
    copy = release = None
    try:
        parts = None if url_of(path) or not path.exists() else _parts(path)
        copy = None if parts is None else _copied(path, parts, told)
        release = None if copy is None else _used(copy)
    except OSError as error:
        _log.warning("%s: read where it is, for it cannot be copied: %s", path.name, error.strerror or error)
        parts = None
    if parts is None or copy is None or release is None:
        return open_slide(path, mpp=mpp, icc_profile=icc_profile)
    try:
        slide = open_quietly(copy if parts.opens == "." else copy / parts.opens, mpp=mpp, icc_profile=icc_profile)
        assert slide.fingerprint  # of the copy, which is near
    except SlideError:
        release()
        return open_slide(path, mpp=mpp, icc_profile=icc_profile)  # which says the same of the file that the user knows
    slide.path = path  # and not `file`, where it is read
    with suppress(OSError):  # others tidy at the same time
        tidy_copies()
    warn_of_profile(slide)
    weakref.finalize(slide, release)
    return slide


def tidy_copies(needed: int = 0) -> None:
    """Remove the copies that were not used for `MOST_DAYS`, and the oldest until `needed` more bytes fit in.

    One that is being read stays.
    """
    folder = _folder()
    copies = [one for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []
    sizes = {one: _size(one) for one in copies}
    total = sum(sizes.values())
    for copy in sorted(copies, key=lambda one: one.stat().st_mtime):
        age = time.time() - copy.stat().st_mtime
        unfinished = copy.name.startswith(".") and age > _DAY_S
        too_old = age > MOST_DAYS * _DAY_S or unfinished
        too_much = total + needed > MOST_BYTES or _free(folder) - needed < _LEFT_FREE
        if (too_old or (too_much and not copy.name.startswith("."))) and not _is_used(copy):
            shutil.rmtree(copy, ignore_errors=True)
            total -= sizes[copy]


def _folder() -> Path:
    return cache_folder() / "slides"


def _parts(path: Path) -> _Parts | None:
    """Return what is to be copied of a slide, None of kinds whose files name each other."""
    suffix = "".join(path.suffixes[-2:]) if path.name.lower().endswith(".zarr.zip") else path.suffix
    if is_zarr_folder(path):
        inside = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
        return _Parts("slide.zarr", {f"slide.zarr/{name}": file for name, file in inside.items()})
    if path.is_dir() or suffix.lower() == ".dcm":
        of_slide = dicom_files(path) if path.is_dir() else dicom_series(path)
        files = {f"{number}.dcm": file for number, file in enumerate(of_slide)}
        opens = "." if path.is_dir() else next((name for name, file in files.items() if file == path), ".")
        return _Parts(opens, files)
    if suffix.lower() in (".vms", ".vmu"):
        return None
    name = f"slide{suffix.lower()}"
    files = {name: path}
    if suffix.lower() == ".mrxs":
        beside = path.with_suffix("")
        files |= {f"slide/{file.name}": file for file in sorted(beside.iterdir()) if file.is_file()}
    return _Parts(name, files)


def _copied(path: Path, parts: _Parts, told: Callable[[int, int], None] | None) -> Path | None:
    """Return the folder of a slide's copy, None where there is no room for one."""
    state = {name: (stat.st_size, stat.st_mtime_ns) for name, file in parts.files.items() if (stat := file.stat())}
    key = hashlib.sha256(f"{path.absolute()} {sorted(state.items())}".encode(errors="backslashreplace")).hexdigest()
    folder = _folder()
    copy, total = folder / key[:32], sum(size for size, _ in state.values())
    if copy.is_dir():
        return copy
    folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
    tidy_copies(total)
    if _free(folder) - total < _LEFT_FREE:
        _log.warning("%s: read where it is, for a copy of it has no room in the cache", path.name)
        return None
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if told is not None:
            told(done, total)

    with replacing_folder(copy) as temporary:
        temporary.chmod(_PRIVATE)
        for name, file in parts.files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            digest = _copy(file, temporary / name, tell)
            if sha256_of(temporary / name) != digest:
                raise SlideError(f"{path.name}: its copy in the cache is not what was read; see the disk of {folder}")
            stat = file.stat()
            if (stat.st_size, stat.st_mtime_ns) != state[name]:
                raise SlideError(f"{path.name}: was written to while it was copied; run it again when it is whole")
    return copy


def _copy(source: Path, target: Path, tell: Callable[[int], None]) -> str:
    """Copy a file and return the SHA-256 (hex) of what was read."""
    digest = hashlib.sha256()
    with open_to_read(source) as reading, target.open("xb") as writing:
        while piece := reading.read(_PIECE):
            digest.update(piece)
            writing.write(piece)
            tell(len(piece))
    return digest.hexdigest()


def _used(copy: Path) -> Callable[[], None]:
    """Mark a copy as being read; what is returned ends that."""
    os.utime(copy)
    mark = copy / f"{secrets.token_hex(4)}{_IN_USE}"
    held = open_to_append(mark)
    try_lock(held.fileno())

    def release() -> None:
        held.close()
        mark.unlink(missing_ok=True)

    return release


def _is_used(copy: Path) -> bool:
    """Return whether somebody reads a copy: a process that ended holds no lock."""
    for mark in copy.glob(f"*{_IN_USE}"):
        with open_to_append(mark) as file:
            if not try_lock(file.fileno()):
                return True
    return False


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
