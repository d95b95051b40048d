"""Regions that a user drew, from a GeoJSON file, and the tiles they ask for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_dala.annotations.document import areas_of, prepared
from napari_dala.annotations.files import read_annotations
from napari_dala.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_dala.annotations.document import Area
    from napari_dala.slide.tiles import TileGrid

_log = logging.getLogger(__name__)


def read_regions(path: str | Path) -> list[Area]:
    """Read the regions to analyse from a GeoJSON file, as QuPath, napari-dala and others write them.

    Parameters
    ----------
    path
        Read as `read_annotations` does: objects of QuPath that are no annotations ask for nothing, and what lies in a
        region to ignore (``Ignore*``) is left out of the others.

    Returns
    -------
    list of Polygon and MultiPolygon
        Level-0 px. Holes are kept, polygons that cross themselves are repaired. What was left out stands in the log.

    Raises
    ------
    AnnotationError
        When the file cannot be read, is not GeoJSON or holds no polygon with an area; one line.
    """
    path = Path(path)
    document = read_annotations(path)
    ignored = {item.name for item in document.classes if item.ignore}
    mask = shapely.union_all([item.area for item in document.annotations if item.class_name in ignored])
    asked = [shapely.force_2d(item.area) for item in document.annotations if item.class_name not in ignored]
    if not mask.is_empty:
        asked = [areas_of(shapely.difference(area, mask)) for area in asked]
    regions = [area for area in asked if not area.is_empty]
    if not regions:
        others = (feature.get("geometry") for feature in document.others)
        found = {item.geometry.geom_type for item in document.annotations}
        found |= {str(geometry["type"]) for geometry in others if isinstance(geometry, dict) and "type" in geometry}
        kinds = ", ".join(sorted(found)) or "no geometry"
        reasons = "; ".join((f"a Polygon with an area is needed, found {kinds}", *document.notes))
        raise AnnotationError(f"{path.name}: no region in it; {reasons}")
    for note in document.notes:
        _log.warning("%s: %s", path.name, note)
    if left_out := len(document.annotations) - len(regions):
        _log.warning("%s: %d shapes that ask for no area were left out", path.name, left_out)
    return regions


def tiles_in(regions: Sequence[Area], grid: TileGrid) -> NDArray[np.bool_]:
    """Return the tiles whose centre lies in a region or on its border.

    A region that is too small to hold any centre asks for the tile whose centre is nearest.

    Parameters
    ----------
    regions
        Level-0 px.
    grid
        Of the slide.

    Returns
    -------
    (rows, columns) bool

    Raises
    ------
    AnnotationError
        When no region lies on the slide.
    """
    x, y = grid.middles()
    slide = shapely.box(0, 0, *grid.slide_size)
    chosen = np.zeros(grid.shape, np.bool_)
    for region in regions:
        on_slide = shapely.intersection(region, slide)
        if not on_slide.area:
            continue
        min_x, min_y, max_x, max_y = region.bounds
        columns = slice(*np.searchsorted(x, (min_x, np.nextafter(max_x, np.inf))))
        rows = slice(*np.searchsorted(y, (min_y, np.nextafter(max_y, np.inf))))
        inside = shapely.intersects_xy(prepared(region), x[None, columns], y[rows, None])
        chosen[rows, columns] |= inside
        if not inside.any():
            point = on_slide.representative_point()
            chosen[grid.nearest(point.x, point.y)] = True
    if not chosen.any():
        width, height = grid.slide_size
        raise AnnotationError(
            f"no region lies on the slide of {width} x {height} px; give their corners in level-0 pixels"
        )
    return chosen
