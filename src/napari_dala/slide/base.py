"""A slide: its size, its resolution and its pixels, whatever file they come from."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray

MppSource = Literal["file", "objective power", "given"]
PLAUSIBLE_MPP = (0.02, 20.0)  # um/px; outside lies a printer's 72 dpi, not a microscope
_HASHED_BYTES = 1 << 16
_STRIP_BYTES = 1 << 25


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes
    ----------
    width, height
        Size in this level's pixels.
    downsample
        Level-0 pixels per pixel of this level.
    tile
        Width and height of the tiles that the file stores, in this level's pixels.
    """

    width: int
    height: int
    downsample: float
    tile: tuple[int, int]


@dataclass(frozen=True)
class SlideFacts:
    """What a backend learns from the file when it opens it.

    Attributes
    ----------
    levels
        Finest first.
    mpp
        Micrometres per level-0 pixel (x, y) as the file states it, or None.
    objective_power
        Magnification of the objective, or None.
    vendor
        The scanner's or file format's name.
    background
        Colour (red, green, blue) of what was never scanned.
    identity
        What identifies the slide where one file's bytes do not: arrays have none, a DICOM slide has many.
    """

    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None = None
    objective_power: float | None = None
    vendor: str = "unknown"
    background: tuple[int, int, int] = (255, 255, 255)
    identity: bytes | None = None


class Slide(ABC):
    """A slide that is open for reading; safe to read from several threads.

    Parameters
    ----------
    path
        The file (or DICOM folder), None for an array.
    facts
        What the backend found in it.
    mpp
        Micrometres per level-0 pixel given by the user; it wins over the file's.

    Attributes
    ----------
    is_photograph
        True for a picture of one field (PNG, JPEG, array...): all of it counts as tissue.
    """

    is_photograph = False

    def __init__(self, path: Path | None, facts: SlideFacts, mpp: float | tuple[float, float] | None = None) -> None:
        self.path = path
        self.facts = facts
        self.levels = facts.levels
        self.objective_power = facts.objective_power
        self._thumbnail: tuple[int, NDArray[np.uint8], NDArray[np.bool_]] | None = None
        self._same_file: Slide | None = None  # whose end would close the file
        self._resolution: tuple[tuple[float, float], MppSource] | None = None
        if mpp is not None:
            self._resolution = (mpp, mpp) if isinstance(mpp, (int, float)) else mpp, "given"
        elif facts.mpp is not None and all(PLAUSIBLE_MPP[0] <= side <= PLAUSIBLE_MPP[1] for side in facts.mpp):
            self._resolution = facts.mpp, "file"
        elif facts.objective_power:
            self._resolution = (10 / facts.objective_power,) * 2, "objective power"

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Micrometres per level-0 pixel (x, y), None where they are not known."""
        return self._resolution and self._resolution[0]

    @property
    def mpp_source(self) -> MppSource | None:
        """Who says so."""
        return self._resolution and self._resolution[1]

    def with_mpp(self, mpp: tuple[float, float]) -> Self:
        """Return the same open slide with another resolution (um per level-0 px, x and y); closing one closes both."""
        other = copy(self)
        other._same_file, other._resolution = self, (mpp, "given")
        return other

    @abstractmethod
    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Read a rectangle.

        Parameters
        ----------
        x, y
            Top left corner in level-0 pixels; may lie outside the slide.
        width, height
            Size in pixels of `level`.
        level
            Index into `levels`.

        Returns
        -------
        (height, width, 3) uint8, the background colour where there is no slide.

        Raises
        ------
        SlideError
            When these pixels cannot be decoded.
        """

    def read_into(self, out: NDArray[np.uint8], x: int, y: int, level: int = 0) -> None:
        """Read a rectangle into an array (height, width, 3) uint8 of its size; see `read`."""
        out[:] = self.read(x, y, out.shape[1], out.shape[0], level)

    def corner(self, x: int, y: int, level: int) -> tuple[float, float]:
        """Return where on `level`, in its pixels, a `read` at the level-0 pixel (x, y) begins.

        That is the nearest whole pixel, unless the reader interpolates between pixels.
        """
        downsample = self.levels[level].downsample
        return floor(x / downsample + 0.5), floor(y / downsample + 0.5)

    def close(self) -> None:  # noqa: B027  (a picture in memory holds no file)
        """Release the file."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The file's name, or "image" for an array."""
        return self.path.name if self.path else "image"

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height in level-0 pixels."""
        return self.levels[0].width, self.levels[0].height

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that identify the file's content without reading it whole."""
        if self.facts.identity is not None:
            return hashlib.sha256(self.facts.identity).hexdigest()[:32]
        assert self.path is not None
        return fingerprint_of(self.path)

    @property
    def properties(self) -> dict[str, object]:
        """What may be shown of a slide: never a patient's name, a label or a date."""
        return {
            "name": self.name,
            "width": self.dimensions[0],
            "height": self.dimensions[1],
            "levels": [
                {"width": level.width, "height": level.height, "downsample": level.downsample, "tile": list(level.tile)}
                for level in self.levels
            ],
            "mpp": list(self.mpp) if self.mpp else None,
            "mpp_source": self.mpp_source,
            "objective_power": self.objective_power,
            "vendor": self.facts.vendor,
            "photograph": self.is_photograph,
            "fingerprint": self.fingerprint,
        }

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is at least as fine as `downsample` level-0 pixels per pixel."""
        fine_enough = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * 1.01]
        return max(fine_enough, key=lambda i: self.levels[i].downsample, default=0)

    def thumbnail(self, max_side: int) -> NDArray[np.uint8]:
        """Return the whole slide with its longer side at most `max_side` px, (h, w, 3) uint8.

        What cannot be decoded is shown in the background's colour; see `undecoded`.
        """
        return self._drawn(max_side)[1]

    def undecoded(self, max_side: int) -> NDArray[np.bool_]:
        """Return which pixels of `thumbnail` could not be decoded, in whole or in part, (h, w)."""
        return self._drawn(max_side)[2]

    def _drawn(self, max_side: int) -> tuple[int, NDArray[np.uint8], NDArray[np.bool_]]:
        if self._thumbnail is None or self._thumbnail[0] != max_side:
            self._thumbnail = (max_side, *self._draw_thumbnail(max_side))
        return self._thumbnail

    def _draw_thumbnail(self, max_side: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        width, height = self.dimensions
        shrink = max(1.0, max(width, height) / max_side)
        size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        index = self.level_for(shrink)
        level = self.levels[index]
        factor = max(1, int(shrink / level.downsample))
        # In strips: a slide of one level would not fit into memory as a whole. A few at a time, to decode faster.
        rows = max(1, min(512 * level.width, _STRIP_BYTES // 3) // (level.width * factor)) * factor

        lost: list[tuple[int, int, int, int]] = []  # left, top, right, bottom; px of the level

        def strip(top: int) -> NDArray[np.uint8]:
            pixels = self._read_what_can_be(top, min(rows, level.height - top), index, lost)
            return np.asarray(Image.fromarray(pixels).reduce(factor))

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            strips = list(pool.map(strip, range(0, level.height, rows)))
        undecoded = np.zeros(size[::-1], np.bool_)
        across, down = size[0] / level.width, size[1] / level.height
        for left, upper, right, lower in lost:
            undecoded[floor(upper * down) : ceil(lower * down), floor(left * across) : ceil(right * across)] = True
        return np.asarray(Image.fromarray(np.concatenate(strips)).resize(size, Image.Resampling.BILINEAR)), undecoded

    def _read_what_can_be(
        self, top: int, rows: int, index: int, lost: list[tuple[int, int, int, int]]
    ) -> NDArray[np.uint8]:
        """Read a strip of a level; where that fails tile by tile, the bad ones from finer levels.

        What cannot be read there either is left as background, and added to `lost`.
        """
        level = self.levels[index]
        y = round(top * level.downsample)
        try:
            return self.read(0, y, level.width, rows, index)
        except SlideError:
            strip = plain_picture(level.width, rows, self.facts.background)
        wide, high = level.tile
        for down in range(-(top % high), rows, high):
            first, last = max(0, down), min(rows, down + high)
            for left in range(0, level.width, wide):
                right = min(level.width, left + wide)
                x, y = round(left * level.downsample), round((top + first) * level.downsample)
                pixels = self._read_at_any(x, y, right - left, last - first, index)
                if pixels is None:
                    lost.append((left, top + first, right, top + last))
                else:
                    strip[first:last, left:right] = pixels
        return strip

    def _read_at_any(self, x: int, y: int, width: int, height: int, index: int) -> NDArray[np.uint8] | None:
        """Read a rectangle of a level from it or from the next finer one that can be read; None where none can."""
        for finer in range(index, -1, -1):
            zoom = self.levels[index].downsample / self.levels[finer].downsample
            try:
                pixels = self.read(x, y, round(width * zoom), round(height * zoom), finer)
            except SlideError:
                continue
            return pixels if finer == index else np.asarray(Image.fromarray(pixels).resize((width, height)))
        return None


def fingerprint_of(path: Path) -> str:
    """Hash the size, the first and the last 64 KiB of a file."""
    size = path.stat().st_size
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        digest.update(file.read(_HASHED_BYTES))
        file.seek(max(0, size - _HASHED_BYTES))
        digest.update(file.read(_HASHED_BYTES))
    return digest.hexdigest()[:32]


def plain_picture(width: int, height: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return (height, width, 3) uint8 of one colour."""
    row = np.tile(np.array(colour, np.uint8), (width, 1))
    return np.tile(row, (height, 1, 1))  # row by row: 20 times as fast as pixel by pixel


def read_inside(
    read: Callable[[int, int, int, int], NDArray[np.uint8]],
    box: tuple[int, int, int, int],
    level: Level,
    background: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Read a box (x, y, width, height; pixels of `level`) that may overhang the level.

    `read(left, top, right, bottom)` gives (h, w, 3) uint8 and is asked for pixels inside the level only.
    """
    x, y, width, height = box
    left, top = max(0, x), max(0, y)
    right, bottom = min(level.width, x + width), min(level.height, y + height)
    out = plain_picture(width, height, background)
    if left < right and top < bottom:
        out[top - y : bottom - y, left - x : right - x] = read(left, top, right, bottom)
    return out
