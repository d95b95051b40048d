"""The outlines of a mask as polygons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from skimage.measure import find_contours

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OFF = 0.5  # mask px that an outline may be off


def outlines_of(mask: NDArray[np.bool_], scale: tuple[float, float], least: float) -> list[shapely.Polygon]:
    """Return what is True in a mask as polygons with holes.

    Parameters
    ----------
    mask
        (height, width); it begins at the origin.
    scale
        Size of its pixels (x, y) in the polygons' units.
    least
        Mask px that a polygon has; smaller ones are specks and left out.
    """
    rings = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    lines = shapely.simplify([shapely.LineString(ring) for ring in rings], _OFF, preserve_topology=False)
    outlines = [shapely.get_coordinates(line)[:, ::-1] for line in lines]
    polygons = [shapely.Polygon((ring - 0.5) * scale) for ring in outlines if len(ring) > 3]
    area = shapely.Polygon()
    for polygon in sorted(polygons, key=lambda one: -one.area):  # holes lie in what is larger
        area = area.symmetric_difference(shapely.make_valid(polygon))
    smallest = least * scale[0] * scale[1]
    return [part for part in shapely.get_parts(area) if isinstance(part, shapely.Polygon) and part.area >= smallest]
