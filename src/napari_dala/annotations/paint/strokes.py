"""Painting and erasing: a stroke is added to the regions of a class, or taken out of them, as polygons with holes.

Nothing here knows pixels: areas are united and cut as polygons (shapely), so that a stroke over a slide of a hundred
thousand pixels a side costs what its outline costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_dala.annotations.document import Annotation, AnnotationDocument, areas_of, is_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import ArrayLike

    from napari_dala.annotations.document import Area

_OF_A_CELL = 0.25  # of a CAM cell that an outline is simplified by
_OF_A_BRUSH = 0.05  # and at most of a brush's radius, so that a small brush leaves round marks
_ARC = 8  # segments of a quarter of a circle


@dataclass(frozen=True)
class Stroke:
    """What one drag of the mouse went over.

    Attributes
    ----------
    area
        Level-0 px.
    radius
        Of the brush, level-0 px.
    erases
        It takes away.
    """

    area: Area
    radius: float
    erases: bool = False

    def simplified(self, cell: float) -> Stroke:
        """Return the stroke with as few corners as a map of CAM cells of this side (level-0 px) can show."""
        off = min(_OF_A_CELL * cell, _OF_A_BRUSH * self.radius)
        return replace(self, area=areas_of(shapely.make_valid(self.area.simplify(off))))


def swept(points: ArrayLike, radius: float) -> shapely.Polygon:
    """Return what a round brush goes over on its way along `points`, (n, 2), which may be a single one."""
    way = np.asarray(points, np.float64)
    line = shapely.LineString(way) if len(way) > 1 else shapely.Point(way[0])
    return line.buffer(radius, quad_segs=_ARC)


def painted(document: AnnotationDocument, stroke: Stroke, class_name: str | None) -> AnnotationDocument:
    """Return the document with a stroke of a class painted over it.

    The stroke and the regions of its class that it touches become one, in the place and with the id of the lowest of
    them; where it touches none it is a new region on top. All looks as before, but for the stroke: regions of other
    classes above the joined one give way where they would hide it. QuPath's frames (`is_frame`) neither hide nor give
    way.

    Parameters
    ----------
    document
        As it is.
    stroke
        Its area is added.
    class_name
        None for regions without a class.
    """
    touched = _touched(document, stroke, lambda item: item.class_name == class_name)
    if not touched:
        new = Annotation.drawn(stroke.area, class_name)
        return replace(document, annotations=(*document.annotations, new))
    lowest, shown, kept = touched[0], stroke.area, []
    for item in reversed(document.annotations):  # the topmost first
        if item is lowest:
            joined = shapely.union_all([stroke.area, *(one.area for one in touched)])
            kept += _reshaped(item, joined, stroke)
            shown = shapely.Polygon()
        elif item in touched:
            shown = shown.union(item.area)
        elif is_frame(item.class_name) or not item.area.intersects(shown):
            kept.append(item)
        else:
            kept += _reshaped(item, item.area.difference(shown), stroke)
    return replace(document, annotations=tuple(reversed(kept)))


def erased(document: AnnotationDocument, stroke: Stroke, class_name: str | None) -> AnnotationDocument:
    """Return the document without what a stroke went over; itself where it met nothing.

    It takes away from the regions of the class; where it touches none of them, from all that it touches, but for
    QuPath's frames. A region may fall into several parts, or go.
    """
    touched = _touched(document, stroke, lambda item: item.class_name == class_name)
    touched = touched or _touched(document, stroke, lambda item: not is_frame(item.class_name))
    if not touched:
        return document
    annotations: list[Annotation] = []
    for item in document.annotations:
        is_touched = any(item is one for one in touched)
        annotations += _reshaped(item, item.area.difference(stroke.area), stroke) if is_touched else [item]
    return replace(document, annotations=tuple(annotations))


def filled(document: AnnotationDocument, ids: Collection[str]) -> AnnotationDocument:
    """Return the document with the holes of some regions filled; itself where they have none."""
    annotations = tuple(
        replace(item, geometry=_without_holes(item.area)) if item.id in ids and _has_holes(item.area) else item
        for item in document.annotations
    )
    same = all(one is other for one, other in zip(annotations, document.annotations, strict=True))
    return document if same else replace(document, annotations=annotations)


def _touched(document: AnnotationDocument, stroke: Stroke, counts: Callable[[Annotation], bool]) -> list[Annotation]:
    return [item for item in document.annotations if counts(item) and item.area.intersects(stroke.area)]


def _reshaped(item: Annotation, geometry: shapely.Geometry, stroke: Stroke) -> list[Annotation]:
    """Return the annotation with another geometry, without crumbs and cracks that the stroke left; none if it is gone.

    What is farther off, however small, was drawn so.
    """
    least, near = (2 * _OF_A_BRUSH * stroke.radius) ** 2, stroke.area.envelope

    def is_meant(part: shapely.Polygon) -> bool:
        return part.area >= least or (part.area > 0 and not part.intersects(near))

    parts = [part for part in shapely.get_parts(areas_of(geometry)) if is_meant(part)]
    parts = [
        shapely.Polygon(part.exterior, [hole for hole in part.interiors if is_meant(shapely.Polygon(hole))])
        for part in parts
    ]
    if not parts:
        return []
    return [replace(item, geometry=parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts), ellipse=None)]


def _has_holes(area: Area) -> bool:
    return any(len(part.interiors) for part in shapely.get_parts(area))


def _without_holes(area: Area) -> Area:
    return areas_of(shapely.MultiPolygon([shapely.Polygon(part.exterior) for part in shapely.get_parts(area)]))
