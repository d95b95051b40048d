"""Regions that a user drew, from a GeoJSON file, and the tiles they ask for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import shapely
import shapely.geometry

from napari_dala.annotations.document import repaired
from napari_dala.annotations.geojson import features_of, open_geojson, refuse_infinite
from napari_dala.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_dala.slide.tiles import TileGrid

    Area: TypeAlias = shapely.Polygon | shapely.MultiPolygon

_log = logging.getLogger(__name__)


def read_regions(path: str | Path) -> list[Area]:
    """Read the polygons of a GeoJSON file, as QuPath, napari-dala and others write them.

    Parameters
    ----------
    path
        Holds a FeatureCollection, a list of Features, a Feature or a bare geometry; level-0 px, x before y.

    Returns
    -------
    list of Polygon and MultiPolygon
        Holes are kept, polygons that cross themselves are repaired. Points and lines are left out, with a line
        in the log.

    Raises
    ------
    AnnotationError
        When the file cannot be read, is not GeoJSON or holds no polygon with an area; one line.
    """
    path = Path(path)
    with open_geojson(path) as content:
        geometries = (part for feature in features_of(content) for part in _parts(feature["geometry"]))
        shapes = [shapely.force_2d(shapely.geometry.shape(geometry)) for geometry in geometries]
        refuse_infinite(shapes)
    areas = [shape for shape in shapes if isinstance(shape, (shapely.Polygon, shapely.MultiPolygon))]
    regions = [area for area in map(repaired, areas) if not area.is_empty]
    if not regions:
        kinds = ", ".join(sorted({shape.geom_type for shape in shapes})) or "no geometry"
        raise AnnotationError(f"{path.name}: no region in it; a Polygon with an area is needed, found {kinds}")
    if len(regions) < len(shapes):
        _log.warning("%s: %d shapes without an area were left out", path.name, len(shapes) - len(regions))
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
        shapely.prepare(region)
        inside = shapely.intersects_xy(region, x[None, columns], y[rows, None])
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


def _parts(geometry: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Give the geometries of a collection, or the one; a feature without any (RFC 7946 allows it) gives none."""
    if geometry is None:
        return
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _parts(part)
    else:
        yield geometry
