"""Optical densities of a slide's thumbnail relative to its glass, and the small filters that masks are made with.

Densities are -log10(I / I_glass) (Beer-Lambert; Ruifrok and Johnston 2001), so that thresholds mean the same on white,
grey and greenish backgrounds: 0 is glass, 0.3 lets half of the light through. Stains and inks add up in them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float32]

WORKING_SIDE = 1024  # larger pictures are averaged down: less noise, a quarter of the time
_ASSUMED_GLASS = (245.0, 245.0, 245.0)


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
    neutral = most(red, green, blue) - least(red, green, blue) < 45
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


def densities(
    rgb: NDArray[np.uint8], glass_rgb: tuple[float, float, float] | None = None
) -> tuple[Floats, Floats, Floats]:
    """Return the optical density of the three channels relative to the glass, (h, w) float32 each.

    The glass' colour is found where it is not given.
    """
    glass_rgb = glass_rgb or glass_colour(rgb)
    levels = np.arange(256) + 1.0
    tables = [np.maximum(-np.log10(levels / (glass + 1)), 0).astype(np.float32) for glass in glass_rgb]
    return tables[0][rgb[..., 0]], tables[1][rgb[..., 1]], tables[2][rgb[..., 2]]


def working_step(rgb: NDArray[np.uint8]) -> int:
    """Return by how much a picture must be averaged down so that its longer side is at most `WORKING_SIDE` px."""
    side: int = max(rgb.shape[:2])
    return max(1, math.ceil(side / WORKING_SIDE))


def averaged(rgb: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return the means of `step` px squares; the last ones repeat the border."""
    if step == 1:
        return rgb
    rgb = np.pad(rgb, [(0, -rgb.shape[0] % step), (0, -rgb.shape[1] % step), (0, 0)], mode="edge")
    total = np.zeros((rgb.shape[0] // step, rgb.shape[1] // step, 3), np.uint32)
    for row in range(step):
        for col in range(step):
            total += rgb[row::step, col::step]
    return (total // step**2).astype(np.uint8)


def odd(size: float) -> int:
    """Return the odd number nearest to `size`, at least 3."""
    return max(3, 2 * int(size / 2) + 1)


def least(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Return the density of the clearest channel, pixel by pixel."""
    return np.minimum(np.minimum(red, green), blue)


def most(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Return the density of the densest channel, pixel by pixel."""
    return np.maximum(np.maximum(red, green), blue)


def majority(mask: Bools, window: int) -> Bools:
    """Return where more than half of the `window` px square around is set."""
    return np.asarray(ndimage.uniform_filter(mask.astype(np.float32), window) > 0.5)


def grown(mask: Bools, window: int) -> Bools:
    """Return where any of the `window` px square around is set."""
    return np.asarray(ndimage.maximum_filter(mask, window))


def without_small(mask: Bools, area: float) -> Bools:
    """Return `mask` without its (4-connected) parts of fewer than `area` px."""
    labels, _ = ndimage.label(mask)
    keep = np.bincount(labels.ravel()) >= area
    keep[0] = False
    return np.asarray(keep[labels])
