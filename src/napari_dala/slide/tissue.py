"""Where the tissue is on a slide: a mask on its thumbnail, and how much of a rectangle it covers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray


if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float32]

# Optical densities are log10 units relative to the glass: 0 is glass, 0.3 lets half of the light through.
_MIN_DENSITY = 0.08  # mean over the channels; shadows, vignetting and a second white stay below it
_MIN_COLOUR = 0.03  # densest minus clearest channel; glass has none, whatever its brightness
_MIN_FAINT_DENSITY = 0.02  # enough where the density varies: fat, pale stroma
_MIN_TEXTURE = 0.006  # its standard deviation over 7 px; glass with noise of 6 grey levels has 0.001
_ASSUMED_GLASS = (245.0, 245.0, 245.0)
_LARGEST_HOLE = 0.002  # of the picture; a larger one stays glass
_WORKING_SIDE = 1024  # larger pictures are averaged down: less noise, a quarter of the time


class HasThumbnail(Protocol):
    """What a tissue mask needs of a slide."""

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height in level-0 px."""

    def thumbnail(self, max_side: int) -> NDArray[np.uint8]:
        """Return the whole slide as (h, w, 3) uint8, its longer side at most `max_side`."""


@dataclass(frozen=True, eq=False)
class TissueMask:
    """The tissue of one slide.

    Attributes
    ----------
    mask : (h, w) bool array
        True on tissue.
    scale : (float, float)
        Level-0 px per mask px, in x and y.
    """

    mask: Bools
    scale: tuple[float, float]

    def fraction(self, x: ArrayLike, y: ArrayLike, width: ArrayLike, height: ArrayLike) -> NDArray[np.float64]:
        """Return the fraction of each rectangle that is tissue.

        Exact for any rectangle: the integral image of a mask of constant pixels is bilinear between
        its nodes, so interpolating it there counts pixels that are cut by a border in proportion.

        Parameters
        ----------
        x, y : array_like
            Top left corners, level-0 px; broadcast with each other and with the sizes.
        width, height : array_like
            Sizes, level-0 px, above 0. What lies off the slide counts as no tissue.

        Returns
        -------
        float64 array, 0 to 1, of the broadcast shape

        Raises
        ------
        ValueError
            If a width or a height is not above 0.
        """
        x, y, width, height = (np.asarray(value, np.float64) for value in (x, y, width, height))
        if not (np.all(width > 0) and np.all(height > 0)):
            raise ValueError("rectangles need a width and a height above 0")
        left, right = x / self.scale[0], (x + width) / self.scale[0]
        top, bottom = y / self.scale[1], (y + height) / self.scale[1]
        inside = (
            self._tissue_above_left(bottom, right)
            - self._tissue_above_left(top, right)
            - self._tissue_above_left(bottom, left)
            + self._tissue_above_left(top, left)
        )
        return np.clip(inside / ((right - left) * (bottom - top)), 0.0, 1.0)

    @cached_property
    def _integral(self) -> NDArray[np.int64]:
        return np.pad(self.mask.cumsum(0, np.int64).cumsum(1), ((1, 0), (1, 0)))

    def _tissue_above_left(self, row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the tissue in mask px above `row` and left of `col` (mask px, fractions allowed)."""
        height, width = self.mask.shape
        row, col = np.clip(row, 0, height), np.clip(col, 0, width)
        top, left = (np.minimum(row, height - 1).astype(np.intp), np.minimum(col, width - 1).astype(np.intp))
        down, across = row - top, col - left
        table = self._integral
        upper = table[top, left] * (1 - across) + table[top, left + 1] * across
        lower = table[top + 1, left] * (1 - across) + table[top + 1, left + 1] * across
        result: NDArray[np.float64] = upper * (1 - down) + lower * down
        return result


def tissue_mask(slide: HasThumbnail, max_side: int = 2048) -> TissueMask:
    """Return the tissue of `slide`, found on its thumbnail; the last one of a slide is kept.

    Parameters
    ----------
    slide : Slide
        Anything with `dimensions` and `thumbnail`.
    max_side : int
        Longer side of the thumbnail, px.

    Returns
    -------
    TissueMask
        Of the thumbnail's shape.
    """
    known = _masks.get(slide)
    if known is not None and known[0] == max_side:
        return known[1]
    thumbnail = slide.thumbnail(max_side)
    height, width = thumbnail.shape[:2]
    mask = TissueMask(tissue_in(thumbnail), (slide.dimensions[0] / width, slide.dimensions[1] / height))
    _masks[slide] = max_side, mask
    return mask


_masks: WeakKeyDictionary[HasThumbnail, tuple[int, TissueMask]] = WeakKeyDictionary()  # each slide's last one


def tissue_in(rgb: NDArray[np.uint8]) -> Bools:
    """Return which pixels of a picture of a whole slide are tissue.

    Works on optical densities relative to the glass, -log10(I / I_glass) (Beer-Lambert; Ruifrok and
    Johnston 2001), with the glass' colour found in the picture itself (`glass_colour`): thresholds
    then mean the same on white, grey and greenish backgrounds. Tissue is what is dense, coloured or
    uneven; pen ink and black padding (`_ink`) are taken out; gaps narrower than 1/128 of the longer
    side and holes under 0.2 % of the picture (fat, lumina) are closed, specks dropped.

    Parameters
    ----------
    rgb : (h, w, 3) uint8 array
        H&E or DAB with haematoxylin. Other stains that absorb red most (Alcian blue) look like ink.

    Returns
    -------
    (h, w) bool array

    Raises
    ------
    ValueError
        If `rgb` is not an (h, w, 3) uint8 array.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"expected an (h, w, 3) uint8 picture, not {rgb.shape} {rgb.dtype}")
    if rgb.size == 0:
        return np.zeros(rgb.shape[:2], np.bool_)
    step = -(-max(rgb.shape[:2]) // _WORKING_SIDE)
    small = _averaged(rgb, step)
    side = max(small.shape[:2])
    red, green, blue = _density(small)
    ink = _ink(red, green, blue, window=_odd(side / 160))

    colour = ndimage.uniform_filter(_most(red, green, blue) - _least(red, green, blue), 3)
    density = ndimage.uniform_filter((red + green + blue) / 3, 3)
    uneven = ndimage.uniform_filter(np.square(density - ndimage.uniform_filter(density, 7)), 7) > _MIN_TEXTURE**2
    faint = (density > _MIN_FAINT_DENSITY) & uneven
    tissue = ((density > _MIN_DENSITY) | (colour > _MIN_COLOUR) | faint) & ~ink
    tissue = _without_small(tissue, (side / 256) ** 2)
    tissue = _closed(tissue, _odd(side / 128))
    tissue = ~_without_small(~tissue, _LARGEST_HOLE * tissue.size) & ~ink
    return tissue.repeat(step, 0).repeat(step, 1)[: rgb.shape[0], : rgb.shape[1]]


def glass_colour(rgb: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Return the colour of the empty glass.

    Glass is bright, nearly neutral (never pink, which is the stain) and flat. The commonest such
    brightness wins; pure white, with which scanners pad, only where hardly anything else qualifies.
    A picture without glass gets an assumed near-white, so that all of it can be tissue.

    Parameters
    ----------
    rgb : (h, w, 3) uint8 array

    Returns
    -------
    (float, float, float)
        Red, green and blue, 1 to 255.
    """
    red, green, blue = (rgb[..., channel].astype(np.float32) for channel in range(3))
    light = (red + green + blue) / 3
    mean = ndimage.uniform_filter(light, 5)
    variance = ndimage.uniform_filter(np.square(light - mean), 5)
    neutral = _most(red, green, blue) - _least(red, green, blue) < 45
    pink = (red - green >= 12) | (np.minimum(red, blue) - green >= 8)
    glass = (light > 175) & neutral & ~pink & (variance < 4**2)
    padding = glass & (light >= 253)
    if np.count_nonzero(glass & ~padding) > 0.1 * np.count_nonzero(padding):
        glass &= ~padding
    if np.count_nonzero(glass) < 0.005 * glass.size:
        return _ASSUMED_GLASS
    counts = np.bincount(light[glass].astype(np.intp), minlength=256)
    peak = int(np.argmax(np.convolve(counts, np.ones(5), "same")))
    colour = np.median(rgb[glass & (np.abs(light - peak) <= 4)], axis=0)
    return float(colour[0]), float(colour[1]), float(colour[2])


def _density(rgb: NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
    """Return the optical density of the three channels relative to the glass, (h, w) float32 each."""
    levels = np.arange(256) + 1.0
    tables = [np.maximum(-np.log10(levels / (glass + 1)), 0).astype(np.float32) for glass in glass_colour(rgb)]
    return tables[0][rgb[..., 0]], tables[1][rgb[..., 1]], tables[2][rgb[..., 2]]


def _ink(red: Floats, green: Floats, blue: Floats, window: int) -> Bools:
    """Return pen strokes and black padding.

    By how they absorb, where haematoxylin takes red and green alike, eosin green, and DAB blue most:
    blue and green inks take red most; red ink takes green and blue alike and hardly any red; black
    takes all alike. Ink over tissue adds up to more density in red than stained tissue has on a
    thumbnail. Single nuclei can look so too: a stroke fills most of a `window` px square. Violet ink
    absorbs as haematoxylin does and cannot be told from it, nor pale ink over tissue.
    """
    blue_green = (red > 1.3 * green) & (red - green > 0.15)
    scarlet = (green > 0.45) & (blue > 0.8 * green) & (blue < 1.25 * green) & (red < 0.2 * green)
    scarlet |= (green > 1) & (blue > 0.8) & (red < 0.35 * green)  # over eosin
    black = (red > 0.5) & (np.minimum(green, blue) > 0.5) & (_least(red, green, blue) > 0.7 * _most(red, green, blue))
    looks_so = blue_green | scarlet | black | (red > 0.85)
    stroke = _majority(looks_so, window)
    near = _grown(stroke, 2 * window + 1)
    fringe = near & ((red > 1.1 * green + 0.02) | looks_so)
    return _grown(stroke, window) | fringe


def _averaged(rgb: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return the means of `step` px squares; the last ones repeat the border."""
    if step == 1:
        return rgb
    rgb = np.pad(rgb, [(0, -rgb.shape[0] % step), (0, -rgb.shape[1] % step), (0, 0)], mode="edge")
    total = np.zeros((rgb.shape[0] // step, rgb.shape[1] // step, 3), np.uint32)
    for row in range(step):
        for col in range(step):
            total += rgb[row::step, col::step]
    return (total // step**2).astype(np.uint8)


def _odd(size: float) -> int:
    """Return the odd number nearest to `size`, at least 3."""
    return max(3, 2 * int(size / 2) + 1)


def _least(red: Floats, green: Floats, blue: Floats) -> Floats:
    return np.minimum(np.minimum(red, green), blue)


def _most(red: Floats, green: Floats, blue: Floats) -> Floats:
    return np.maximum(np.maximum(red, green), blue)


def _majority(mask: Bools, window: int) -> Bools:
    """Return where more than half of the `window` px square around is set."""
    return np.asarray(ndimage.uniform_filter(mask.astype(np.float32), window) > 0.5)


def _grown(mask: Bools, window: int) -> Bools:
    """Return where any of the `window` px square around is set."""
    return np.asarray(ndimage.maximum_filter(mask, window))


def _closed(mask: Bools, window: int) -> Bools:
    """Return `mask` with gaps narrower than `window` closed (padded, for a border must not grow tissue)."""
    grown = _grown(np.pad(mask, window), window)
    return ~_grown(~grown, window)[window:-window, window:-window]


def _without_small(mask: Bools, area: float) -> Bools:
    """Return `mask` without its (4-connected) parts of fewer than `area` px."""
    labels, _ = ndimage.label(mask)
    keep = np.bincount(labels.ravel()) >= area
    keep[0] = False
    return np.asarray(keep[labels])


MIN_TISSUE = 0.1  # part of a tile that must be tissue
