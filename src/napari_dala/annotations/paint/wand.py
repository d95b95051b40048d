"""A magic wand: what is of a similar colour around a point, as a polygon."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from scipy.ndimage import binary_fill_holes, gaussian_filter, label

from napari_dala.annotations.document import areas_of
from napari_dala.annotations.outlines import outlines_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.annotations.document import Area

_SMOOTH = 4.0  # px: single nuclei are no border
_ROUND = 2.0  # px: notches of the outline that are filled, and spikes that are cut
_SPREAD = 1.25  # of the standard deviation of the colours around: what differs more is something else
_LEAST = 30.0  # grey values, a distance in RGB, that always count as the same: texture of one tissue
_MIDDLE = 0.15  # of the reach: the colour there is looked for, and it belongs to it
_SPECK = 16  # px


def similar(pixels: NDArray[np.uint8], at: tuple[int, int], reach: float) -> NDArray[np.bool_]:
    """Return what is connected with a place by similar colours, its holes filled.

    Colours are similar if they differ less than those around differ from each other, so that the wand finds the border
    of pale and of dark tissue.

    Parameters
    ----------
    pixels
        (height, width, 3).
    at
        Row and column to begin from.
    reach
        Greatest distance from there, px.

    Returns
    -------
    (height, width) bool
    """
    smooth = gaussian_filter(pixels.astype(np.float32), (_SMOOTH, _SMOOTH, 0))
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    distance = np.hypot(rows - at[0], columns - at[1])
    within, middle = distance <= reach, distance <= _MIDDLE * reach
    apart = np.linalg.norm(smooth - smooth[middle].mean(axis=0), axis=2)
    spread = np.linalg.norm(smooth[within].std(axis=0))
    alike = within & ((apart <= max(_LEAST, _SPREAD * spread)) | middle)
    parts, _ = label(alike)
    whole = binary_fill_holes(parts == parts[at])
    return np.asarray(gaussian_filter(whole.astype(np.float32), _ROUND, mode="nearest") > 0.5, np.bool_)


def similar_area(level: Any, at: tuple[float, float], reach: float, shrink: int = 1) -> Area:
    """Return the area of similar colour around a point of a picture; empty where the point lies beside it.

    Parameters
    ----------
    level
        (height, width, 3) uint8, sliced like an array: a level of a slide, of which only the surroundings are read.
    at
        (x, y) edge coordinate in the level's pixels.
    reach
        How far it may grow, in the level's pixels.
    shrink
        So many pixels along a side are looked at as one: those that are one on the screen.

    Returns
    -------
    Polygon, or MultiPolygon where it hangs together by corners
        In the level's edge coordinates (x, y).
    """
    height, width = level.shape[:2]
    if not (0 <= at[0] < width and 0 <= at[1] < height):
        return shapely.Polygon()
    left, top = (max(0, floor(middle - reach)) for middle in at)
    right, bottom = (min(size, ceil(middle + reach)) for middle, size in zip(at, (width, height), strict=True))
    pixels = np.asarray(level[top:bottom, left:right])[:, :, :3]
    rows, columns = pixels.shape[0] // shrink, pixels.shape[1] // shrink
    if not (rows and columns):
        return shapely.Polygon()
    cut = pixels[: rows * shrink, : columns * shrink]
    shrunk = cut.reshape(rows, shrink, columns, shrink, 3).mean((1, 3)).astype(np.uint8) if shrink > 1 else cut
    begin = (
        min(floor((at[1] - top) / shrink), rows - 1),
        min(floor((at[0] - left) / shrink), columns - 1),
    )
    found = outlines_of(similar(shrunk, begin, reach / shrink), (shrink, shrink), _SPECK)
    return areas_of(shapely.transform(shapely.MultiPolygon(found), lambda points: np.add(points, (left, top))))
