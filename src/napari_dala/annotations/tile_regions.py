"""Single tiles as regions: a tile that was labelled is drawn as its box."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_dala.annotations.document import Annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_dala.annotations.document import AnnotationClass, AnnotationDocument
    from napari_dala.slide.tiles import TileGrid

    Tiles = Sequence[tuple[int, int]] | NDArray[np.intp]

_ROUNDING = 0.01  # level-0 px: what a file or a layer makes of a corner


def tile_boxes(grid: TileGrid, tiles: Tiles) -> list[shapely.Polygon]:
    """Return the boxes of tiles (row, column), as far as they lie on the slide, level-0 px."""
    return [shapely.box(*corners) for corners in _corners(grid, tiles).tolist()]


def with_tile_regions(
    document: AnnotationDocument, grid: TileGrid, tiles: Tiles, info: AnnotationClass
) -> AnnotationDocument:
    """Return the document with a region of a class for each tile, on top of what is drawn there.

    It takes the place of the tile's region of before, if there is one; the class is added to the list where it lacks
    there (its name matches whatever its case).

    Parameters
    ----------
    tiles
        (row, column) each.
    info
        The class.
    """
    free = without_tile_regions(document, grid, tiles)
    known = next((item for item in free.classes if item.name.casefold() == info.name.casefold()), None)
    drawn = (Annotation.drawn(box, (known or info).name) for box in tile_boxes(grid, tiles))
    classes = free.classes if known else (*free.classes, info)
    return replace(free, classes=classes, annotations=(*free.annotations, *drawn))


def without_tile_regions(document: AnnotationDocument, grid: TileGrid, tiles: Tiles) -> AnnotationDocument:
    """Return the document without the regions that are the very boxes of tiles; itself where there are none.

    Regions that cover a tile with more around it stay.
    """
    boxes, areas = _corners(grid, tiles), [item.geometry for item in document.annotations]
    if not areas or not len(boxes):
        return document
    bounds = shapely.bounds(areas)
    filled = shapely.area(areas) > 0.999 * shapely.area(shapely.box(*bounds.T))
    nearest = np.array([np.abs(boxes - bound).max(axis=1).min() for bound in bounds])
    kept = ~(filled & (nearest <= _ROUNDING))
    if kept.all():
        return document
    left = (item for item, stays in zip(document.annotations, kept.tolist(), strict=True) if stays)
    return replace(document, annotations=tuple(left))


def _corners(grid: TileGrid, tiles: Tiles) -> NDArray[np.float64]:
    """Return left, top, right and bottom of tiles, within the slide, (n, 4)."""
    rows, columns = np.asarray(tiles, np.intp).reshape(-1, 2).T
    left, top = grid.origins()
    (wide, high), (width, height) = grid.tile_size, grid.slide_size
    right, bottom = np.minimum(left + wide, width), np.minimum(top + high, height)
    return np.stack((left[columns], top[rows], right[columns], bottom[rows]), axis=1)
