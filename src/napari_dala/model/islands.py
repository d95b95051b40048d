"""Islands of kept cells: their outlines, how small they are, how strong a threshold leaves one of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.model.threshold import ThresholdedMap

    Bools = NDArray[np.bool_]

MOST_STRENGTH = 10
"""No slider needs more."""


def outlines(mask: Bools) -> list[NDArray[np.float64]]:
    """Return the outlines of a mask's islands and holes, as `ThresholdedMap.contours` says."""
    padded = np.pad(mask, 1).astype(np.float32)
    return [line - 1.0 for line in find_contours(padded, 0.5, fully_connected="high")]


def without_islets(mask: Bools, cells: float) -> Bools:
    """Return `mask` without its 8-connected islands of fewer than `cells` cells."""
    if cells <= 1 or not mask.any():
        return mask
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    keep = np.bincount(labels[mask], minlength=1) >= cells * (1 - 1e-9)  # 0 is no island and has no cell here
    return np.asarray(keep[labels])


def most_strength(thresholded: ThresholdedMap, min_area_um2: float, *, cell_um: float | None, tile_cells: int) -> float:
    """Return the largest strength that keeps an island of a map, in hundredths; 0 where none does.

    `MOST_STRENGTH` at most, which a threshold of 0 asks for.

    Parameters
    ----------
    thresholded
        The map, at whatever strength.
    min_area_um2
        As of its `DynamicThreshold`.
    cell_um, tile_cells
        As in its call.
    """
    cut = np.asarray(thresholded.threshold, np.float32)
    if cut.ndim:
        height, width = thresholded.scaled.shape
        cut = cut.repeat(tile_cells, 0).repeat(tile_cells, 1)[:height, :width]
    known = cell_um is not None and math.isfinite(cell_um)
    cells = min_area_um2 / cell_um**2 if known and cell_um is not None else 0.0
    scaled = thresholded.scaled
    kept, lost = 0, 100 * MOST_STRENGTH + 1  # in hundredths
    while lost - kept > 1:
        middle = (kept + lost) // 2
        with np.errstate(invalid="ignore"):
            mask = (scaled >= np.float32(middle / 100) * cut) & (scaled > 0)
        if without_islets(mask, cells).any():
            kept = middle
        else:
            lost = middle
    return kept / 100
