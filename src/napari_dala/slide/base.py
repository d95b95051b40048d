"""A slide: its size, its resolution and its pixels, whatever file they come from."""

from __future__ import annotations

import errno
import hashlib
import os
from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import floor
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from napari_dala.errors import SlideError
from napari_dala.slide.fingerprint import ends_hashed, fingerprint_of
from napari_dala.slide.profile import profile_in
from napari_dala.slide.thumbnail import draw_thumbnail
from napari_dala.validation import MPP_LIMITS, plausible_mpp

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from napari_dala.slide.profile import ColourProfile

MppSource = Literal["file", "objective power", "given"]
PLAUSIBLE_POWER = (1.0, 150.0)
MOST_BYTES = 1_000_000_000  # that reading a picture, or one tile of a slide, may take
_MOST_COARSEST_PX = 1 << 35  # of the coarsest level, which a thumbnail reads whole: some minutes
PROFILE_IGNORED = "damaged or not RGB, ignored"
_ONCE_BY_THEIR_FILE = ("mirax", "hamamatsu")  # vendors whose slides of many files had one of them hashed


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
    bounds
        Left, top, width and height (px) of the slide's level 0 on the whole glass, where the file knows of more
        glass; coordinates begin at its corner, here as in QuPath.
    icc
        The ICC profile of its colours as the file holds it, or None.
    """

    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None = None
    objective_power: float | None = None
    vendor: str = "unknown"
    background: tuple[int, int, int] = (255, 255, 255)
    identity: bytes | None = None
    bounds: tuple[int, int, int, int] | None = None
    icc: bytes | None = None


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

    Raises
    ------
    SlideError
        When it is too large to be read: a tile, or the coarsest level.

    Attributes
    ----------
    file
        Where `path` is read from: a copy of it, mostly itself.
    objective_power
        Magnification of the objective where the file states a plausible one, or None.
    is_photograph
        True for a picture of one field (PNG, JPEG, array...): all of it counts as tissue.
    jpeg_tiles
        One entry a level: its `JpegTiles`, None where it is read otherwise; empty where all are.
    own_profile
        What brings the file's colours to sRGB; None where it has no profile, or one that changes no colour.
    profile
        By which pixels are brought to sRGB when they are read; `open_slide` sets it, to `own_profile` or None.
    """

    is_photograph = False
    jpeg_tiles: tuple[Any, ...] = ()
    profile: ColourProfile | None = None

    def __init__(self, path: Path | None, facts: SlideFacts, mpp: float | tuple[float, float] | None = None) -> None:
        self.path = self.file = path
        self.facts = facts
        self.levels = facts.levels
        for level in self.levels:
            check_size(f"{self.name}: a tile", level.tile, 8)
        coarsest = self.levels[-1]
        if coarsest.width * coarsest.height > _MOST_COARSEST_PX:
            raise SlideError(
                f"{self.name}: {coarsest.width} x {coarsest.height} px without smaller levels are too many to find the "
                f"tissue on; at most {_MOST_COARSEST_PX // 10**9} gigapixels: save the slide as a pyramid"
            )
        power = facts.objective_power
        self.own_profile, self._wrong_with_profile = profile_in(facts.icc)
        self.objective_power = power if power is not None and _within(power, PLAUSIBLE_POWER) else None
        self._thumbnail: tuple[int, NDArray[np.uint8], NDArray[np.bool_]] | None = None
        self._same_file: Slide | None = None  # whose end would close the file
        self._resolution: tuple[tuple[float, float], MppSource] | None = None
        if mpp is not None:
            self._resolution = checked_mpp(mpp), "given"
        elif facts.mpp is not None and all(_within(side, MPP_LIMITS) for side in facts.mpp):
            self._resolution = facts.mpp, "file"
        elif self.objective_power:
            self._resolution = (10 / self.objective_power,) * 2, "objective power"

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Micrometres per level-0 pixel (x, y), None where they are not known."""
        return self._resolution and self._resolution[0]

    @property
    def mpp_source(self) -> MppSource | None:
        """Who says so."""
        return self._resolution and self._resolution[1]

    def with_mpp(self, mpp: tuple[float, float]) -> Self:
        """Return the same open slide with another resolution (um per level-0 px, x and y); closing one closes both.

        Raises
        ------
        SlideError
            When no microscope has that resolution; see `checked_mpp`.
        """
        other = copy(self)
        other._same_file, other._resolution = self, (checked_mpp(mpp), "given")
        return other

    def with_halves(self) -> Self:
        """Return the same open slide with more levels behind its own: its levels of JPEG tiles, decoded at half size.

        Closing one closes both.
        """
        other = copy(self)
        for level, tiles in zip(self.levels, self.jpeg_tiles, strict=False):
            if tiles is not None and min(level.width, level.height) > 1 and not any(side % 2 for side in tiles.tile):
                half = tiles.halved()
                other.levels += (Level(half.size[0], half.size[1], 2 * level.downsample, half.tile),)
                other.jpeg_tiles += (half,)
        other._same_file = self
        return other

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
        (height, width, 3) uint8, the background colour where there is no slide; in sRGB where `profile` is set.

        Raises
        ------
        SlideError
            When these pixels cannot be decoded.
        """
        pixels = self._read(x, y, width, height, level)
        return pixels if self.profile is None else self.profile.to_srgb(pixels)

    def read_into(self, out: NDArray[np.uint8], x: int, y: int, level: int = 0) -> None:
        """Read a rectangle into an array (height, width, 3) uint8 of its size; see `read`."""
        self._read_into(out, x, y, level)
        if self.profile is not None:
            out[:] = self.profile.to_srgb(out)

    @abstractmethod
    def _read(self, x: int, y: int, width: int, height: int, level: int) -> NDArray[np.uint8]:
        """See `read`; colours are as the file stores them."""

    def _read_into(self, out: NDArray[np.uint8], x: int, y: int, level: int) -> None:
        """See `read_into`; colours are as the file stores them."""
        out[:] = self._read(x, y, out.shape[1], out.shape[0], level)

    def corner(self, x: int, y: int, level: int) -> tuple[float, float]:
        """Return where on `level`, in its pixels, a `read` at the level-0 pixel (x, y) begins.

        That is the nearest whole pixel, unless the reader interpolates between pixels.
        """
        downsample = self.levels[level].downsample
        return floor(x / downsample + 0.5), floor(y / downsample + 0.5)

    def _say_lost(self) -> NoReturn:
        """Raise what is raised where the file, or the drive or server that it lies on, is gone: it may come back.

        Its cause is what tells it from damage.
        """
        gone = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        raise SlideError(f"{self.name}: it is no longer there, or cannot be reached") from gone

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
        """32 hexadecimal digits that identify the file's content, of which much is read but not all."""
        if self.facts.identity is not None:
            return hashlib.sha256(self.facts.identity).hexdigest()[:32]
        assert self.path is not None
        return fingerprint_of(self.path)

    @cached_property
    def old_fingerprint(self) -> str:
        """What `fingerprint` was before November 2026: two files of one size with the same ends have the same."""
        by_file = self.facts.identity is None or self.facts.vendor in _ONCE_BY_THEIR_FILE
        return ends_hashed(self.path) if self.path is not None and by_file else self.fingerprint

    @property
    def profile_problem(self) -> str:
        """Why the file's profile is ignored, one line; mostly empty."""
        wrong = self._wrong_with_profile
        told = f"{self.name}: its colour profile (ICC) {wrong} and is ignored: colours are as the file stores them"
        return told if wrong else ""

    @property
    def profile_id(self) -> str:
        """What tells how colours are read: 12 hexadecimal digits of the profile, empty where they are as stored."""
        return self.profile.digest if self.profile else ""

    @property
    def pixels_id(self) -> str:
        """What identifies its pixels as they are read: by another profile, or none, the same slide has others."""
        return pixels_id(self.fingerprint, self.profile_id)

    @property
    def uses_profile(self) -> bool:
        """False where the file has a profile that changes colours and it is not applied."""
        return self.profile is self.own_profile

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
            **({"bounds": list(self.facts.bounds)} if self.facts.bounds else {}),
            **({"icc_profile": self._use_of_profile} if self.facts.icc else {}),
        }

    @property
    def _use_of_profile(self) -> str:
        """What became of the file's profile."""
        if self._wrong_with_profile:
            return PROFILE_IGNORED
        if self.own_profile is None:
            return "sRGB"
        return f"{self.own_profile.digest} {'applied' if self.profile else 'not applied'}"

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
            self._thumbnail = (max_side, *draw_thumbnail(self, max_side))
        return self._thumbnail


def pixels_id(fingerprint: str, profile_id: str) -> str:
    """Return what identifies a slide's pixels as they are read, by `Slide.fingerprint` and `Slide.profile_id`."""
    return f"{fingerprint}-{profile_id}" if profile_id else fingerprint


def checked_mpp(mpp: float | tuple[float, float]) -> tuple[float, float]:
    """Return micrometres per level-0 pixel that a user gives, one number or (x, y), as (x, y).

    Raises
    ------
    SlideError
        When no microscope has that resolution.
    """
    sides = (mpp, mpp) if isinstance(mpp, (int, float)) else mpp
    try:
        return plausible_mpp(sides[0]), plausible_mpp(sides[1])
    except ValueError as error:
        raise SlideError(f"mpp {error}") from None


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]  # which is false of what is no number


def check_size(what: str, size: tuple[int, int], bytes_per_px: int) -> None:
    """Refuse what would take more than `MOST_BYTES` when it is read at once, before any of it is read.

    Raises
    ------
    SlideError
        With its size (width and height, px) and the limit.
    """
    if size[0] * size[1] * bytes_per_px > MOST_BYTES:
        raise SlideError(
            f"{what} of {size[0]} x {size[1]} px is too large to be read at once; at most "
            f"{MOST_BYTES // bytes_per_px // 10**6} megapixels: save it as a TIFF with tiles of 256 px"
        )


def downsample_of(finest: tuple[int, int], size: tuple[int, int]) -> float:
    """Return the finest level's pixels per pixel of a level of that width and height.

    Sizes are whole numbers, so that across and down the ratio differs: with this one the far corner is at most half a
    pixel of the level off, however long and narrow the slide.
    """
    return sum(finest) / sum(size)
