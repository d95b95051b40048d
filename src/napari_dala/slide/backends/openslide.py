"""Slides that OpenSlide reads: SVS, NDPI, MRXS, SCN, BIF, VMS, CZI and DICOM."""

from __future__ import annotations

import threading
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import openslide

from napari_dala.errors import SlideError
from napari_dala.slide.base import Level, Slide, SlideFacts, downsample_of
from napari_dala.slide.colours import over
from napari_dala.slide.pictures import plain_picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_OF_MANY_FILES = (".dcm", ".mrxs", ".vms", ".vmu")


class OpenSlideSlide(Slide):
    """A slide read by OpenSlide, with one handle per thread; cropped to the scan where the file knows more glass.

    A handle keeps the first error it meets for good, so that every later read fails as well: on an error
    the handle is replaced and the read tried once more.

    Parameters
    ----------
    path, mpp
        See `Slide`.
    file
        What to open for it, where that is not `path` itself.
    """

    def __init__(self, path: Path, mpp: float | tuple[float, float] | None = None, file: Path | None = None) -> None:
        self._file = str(file or path)
        self._local = threading.local()
        self._handles: list[openslide.OpenSlide] = []
        self._lock = threading.Lock()
        handle = self._open()
        self._downsamples = handle.level_downsamples  # by which OpenSlide finds a level's pixels
        super().__init__(path, _facts(handle, self._file.lower().endswith(_OF_MANY_FILES)), mpp)
        last = self.levels[0]
        handle.read_region(self._start(last.width - 1, last.height - 1, 0), 0, (1, 1))  # a truncated file fails here

    def _open(self) -> openslide.OpenSlide:
        handle = openslide.OpenSlide(self._file)
        self._local.handle = handle
        with self._lock:
            self._handles.append(handle)
        return handle

    def _handle(self) -> openslide.OpenSlide:
        """Return this thread's handle."""
        handle = getattr(self._local, "handle", None)
        try:
            return handle or self._open()
        except openslide.OpenSlideError:  # which it did not when the slide was opened
            self._say_lost()

    def _drop(self) -> None:
        """Close this thread's handle."""
        handle = getattr(self._local, "handle", None)
        if handle is not None:
            with self._lock:
                self._handles.remove(handle)
            handle.close()
            self._local.handle = None

    def corner(self, x: int, y: int, level: int) -> tuple[float, float]:
        """See `Slide.corner`; OpenSlide interpolates."""
        (left, top), (start_x, start_y) = self._origin(level), self._start(x, y, level)
        return start_x / self._downsamples[level] - left, start_y / self._downsamples[level] - top

    def _origin(self, level: int) -> tuple[float, float]:
        """Return where the slide begins on the whole glass, px of a level."""
        left, top = self.facts.bounds[:2] if self.facts.bounds else (0, 0)
        return left / self.levels[level].downsample, top / self.levels[level].downsample

    def _start(self, x: int, y: int, level: int) -> tuple[int, int]:
        """Return what OpenSlide, whose downsamples are not quite ours, must be given to begin at (x, y)."""
        down, theirs = self.levels[level].downsample, self._downsamples[level]
        left, top = self.facts.bounds[:2] if self.facts.bounds else (0, 0)
        return round((x + left) / down * theirs), round((y + top) / down * theirs)

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> NDArray[np.uint8]:
        """See `Slide.read`."""
        start, down = self._start(x, y, level), self._downsamples[level]
        # A start beyond the glass is cut by OpenSlide to whole pixels of the level: only what lies on it is asked for.
        left, top = (min(side, max(0, ceil(-at / down))) for at, side in zip(start, (width, height), strict=True))
        if left == top == 0:
            return self._region(start, (width, height), level, (x, y))
        out = plain_picture(width, height, self.facts.background)
        if left < width and top < height:
            inside = round(start[0] + left * down), round(start[1] + top * down)
            out[top:, left:] = self._region(inside, (width - left, height - top), level, (x, y))
        return out

    def _region(
        self, start: tuple[int, int], size: tuple[int, int], level: int, asked: tuple[int, int]
    ) -> NDArray[np.uint8]:
        try:
            region = self._handle().read_region(start, level, size)
        except openslide.OpenSlideError:
            self._drop()
            try:
                region = self._handle().read_region(start, level, size)
            except openslide.OpenSlideError as error:
                self._drop()
                raise SlideError(
                    f"{self.name}: pixels at {asked} of level {level} cannot be decoded ({error})"
                ) from error
        return over(np.asarray(region), self.facts.background)

    def close(self) -> None:
        """See `Slide.close`."""
        with self._lock:
            while self._handles:
                self._handles.pop().close()
        self._local = threading.local()


def _facts(handle: openslide.OpenSlide, has_many_files: bool) -> SlideFacts:
    """Read sizes and resolution from OpenSlide's own properties; the vendors' carry patient data.

    Of slides of many files OpenSlide's hash is of what tells them apart; the file that is named is of little.
    """
    properties = handle.properties

    def number(key: str) -> float | None:
        try:
            return float(properties[key])
        except (KeyError, ValueError):
            return None

    def level(index: int, size: tuple[int, int]) -> Level:
        down = downsample_of(sizes[0], size)
        wide, high = (int(number(f"openslide.level[{index}].tile-{side}") or 256) for side in ("width", "height"))
        width, height = (max(1, round(side / down)) for side in bounds[2:]) if bounds else size
        return Level(width, height, down, (wide, high))

    sizes = handle.level_dimensions
    bounds = _bounds(number, sizes[0])
    levels = tuple(level(*one) for one in enumerate(sizes))
    mpp_x, mpp_y = number(openslide.PROPERTY_NAME_MPP_X), number(openslide.PROPERTY_NAME_MPP_Y)
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
    quickhash = properties.get(openslide.PROPERTY_NAME_QUICKHASH1)
    colour = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
    return SlideFacts(
        levels,
        (mpp_x, mpp_y) if mpp_x and mpp_y else None,
        number(openslide.PROPERTY_NAME_OBJECTIVE_POWER),
        vendor,
        (int(colour[0:2], 16), int(colour[2:4], 16), int(colour[4:6], 16)),
        quickhash.encode() if quickhash and has_many_files else None,
        bounds,
        _icc_of(handle),
    )


def _icc_of(handle: openslide.OpenSlide) -> bytes | None:
    """Return the slide's ICC profile, of DICOM that of its optical path; None where it has none.

    Its bytes are the file's. `handle.color_profile` gives those that littleCMS writes anew, each version its own.
    """
    read = openslide.lowlevel.read_icc_profile
    return read(handle._osr) if read.available else None  # OpenSlide before 4 knows no profiles


def _bounds(number: Callable[[str], float | None], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return where the scan lies on the glass (left, top, width, height; level-0 px), None where it is all of it."""
    found = [number(f"openslide.bounds-{name}") for name in ("x", "y", "width", "height")]
    if any(value is None for value in found):
        return None
    left, top, width, height = (int(value) for value in found if value is not None)
    fits = 0 <= left < left + width <= size[0] and 0 <= top < top + height <= size[1]
    return (left, top, width, height) if fits and (width, height) != size else None
