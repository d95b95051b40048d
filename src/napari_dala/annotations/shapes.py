"""Regions as napari's Shapes can hold them, which has neither holes nor several parts, and back again.

Each part of a region becomes one polygon. Its outline runs along a bridge to each hole, around the hole and back along
the same bridge, so that the even-odd rule gives the region. Rings are derived from such a polygon only where its
vertices changed; every other region keeps the very numbers that were read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import shapely

from napari_dala.annotations.document import (
    Annotation,
    AnnotationDocument,
    areas_of,
    ellipse_polygon,
    prepared,
    repaired,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_dala.annotations.document import Area, Corners

    Points: TypeAlias = NDArray[np.float64]

_CANDIDATES = 4  # ends of a bridge that are tried at once, the nearest first; then four times as many, and so on


@dataclass(frozen=True, eq=False)
class Shape:
    """One shape of a Shapes layer.

    Attributes
    ----------
    vertices
        (n, 2) float, level-0 px (y, x), the first not repeated; of an ellipse the four corners of its box.
    annotation
        Id of the annotation that it is a part of; empty for one just drawn.
    part
        Number of the part within its annotation.
    class_name
        None where it has no class yet.
    kind
        How `vertices` are to be read.
    """

    vertices: NDArray[np.floating]
    annotation: str = ""
    part: int = 0
    class_name: str | None = None
    kind: Literal["polygon", "ellipse"] = "polygon"


def to_shapes(annotation: Annotation) -> list[Shape]:
    """Return an annotation's parts, one shape each; none if it has no area."""
    if annotation.ellipse:
        corners = np.array(annotation.ellipse)[:, ::-1]
        return [Shape(corners, annotation.id, 0, annotation.class_name, "ellipse")]
    return [
        Shape(keyhole(polygon)[:, ::-1], annotation.id, part, annotation.class_name)
        for part, polygon in enumerate(_polygons(annotation.area))
    ]


def merge_edited(document: AnnotationDocument, shapes: Sequence[Shape]) -> AnnotationDocument:
    """Return the document as a Shapes layer that was edited says.

    An annotation whose shapes all have the vertices that `to_shapes` gives keeps its geometry, untouched; so does a
    part, and a vertex. Where one copy of a bridge's end was dragged, the other follows. A shape with an unknown id, or
    with the id and part of another (a copy), is a new annotation; one that has no shape left is removed.

    Parameters
    ----------
    document
        As it was when the shapes were made.
    shapes
        All of the layer, in its order, which becomes that of the annotations. Vertices may have passed through
        float32, as in napari.
    """
    known = {annotation.id: annotation for annotation in document.annotations}
    groups: dict[str, list[Shape]] = {}
    drawn: dict[str, Annotation] = {}
    seen: set[tuple[str, int]] = set()
    for shape in shapes:
        key = (shape.annotation, shape.part)
        if shape.annotation in known and key not in seen:
            seen.add(key)
            groups.setdefault(shape.annotation, []).append(shape)
        elif not (region := _region(shape)).is_empty:
            new = Annotation.drawn(region, shape.class_name, ellipse=_corners(shape))
            if shape.annotation and shape.annotation not in known and shape.annotation not in drawn:
                new = replace(new, id=shape.annotation)
            drawn[new.id] = new
            groups[new.id] = []
    merged = [_edited(known[key], group) if group else drawn[key] for key, group in groups.items()]
    # What has no area has no shape that the user could have removed.
    hidden = [item for item in document.annotations if item.id not in groups and item.area.is_empty]
    return replace(document, annotations=(*(item for item in merged if item is not None), *hidden))


@lru_cache(maxsize=4096)
def keyhole(polygon: shapely.Polygon) -> Points:
    """Return the outline of a polygon and its holes in one walk, (n, 2) level-0 px (x, y), read-only.

    Holes are joined from the left, each from its leftmost vertex to the nearest vertex that it sees of the outline and
    of the holes joined before it; such a vertex always exists (Eberly, Triangulation by Ear Clipping).
    """
    walk: Points = shapely.get_coordinates(shapely.get_exterior_ring(polygon))[:-1]
    holes = [shapely.get_coordinates(ring)[:-1] for ring in polygon.interiors]
    used = np.zeros(len(walk), np.bool_)  # vertices that the walk passes more than once
    bridges: list[shapely.LineString] = []
    indexed = prepared(polygon)
    for hole in sorted(holes, key=lambda ring: tuple(ring.min(0))):
        ring = np.roll(hole, -np.lexsort(hole.T[::-1])[0], axis=0)
        at = _nearest_seen(indexed, walk, used, ring[0], bridges)
        if not (touches := bool((walk[at] == ring[0]).all())):
            bridges.append(shapely.LineString([walk[at], ring[0]]))
            ring = np.concatenate([walk[at : at + 1], ring, ring[:1]])
        used[at] = True
        around = np.zeros(len(ring), np.bool_)
        around[[0] if touches else [0, 1, -1]] = True
        walk = np.concatenate([walk[:at], ring, walk[at:]])
        used = np.concatenate([used[:at], around, used[at:]])
    walk.flags.writeable = False
    return walk


def _nearest_seen(
    polygon: shapely.Polygon, walk: Points, used: NDArray[np.bool_], point: Points, bridges: list[shapely.LineString]
) -> int:
    """Return which vertex of the walk is the best end of a bridge to `point`."""
    distance = np.hypot(*(walk - point).T)
    order = np.argsort(distance, kind="stable")
    if distance[order[0]] == 0:
        return int(order[0])
    # A second bridge from one vertex might cross the first one in it.
    order = np.concatenate([order[~used[order]], order[used[order]]])
    start, count = 0, _CANDIDATES
    while start < len(order):
        tried = order[start : start + count]
        start, count = start + count, 4 * count
        lines = shapely.linestrings(np.stack([walk[tried], np.broadcast_to(point, (len(tried), 2))], axis=1))
        seen = shapely.covers(polygon, lines)
        if bridges:
            seen &= ~shapely.crosses(lines, shapely.multilinestrings(bridges))
        if seen.any():
            return int(tried[seen.argmax()])
    return int(order[0])  # only by rounding, in touching holes; the even-odd rule holds all the same


def _polygons(area: Area) -> list[shapely.Polygon]:
    return [part for part in shapely.get_parts(area) if not part.is_empty]


def _corners(shape: Shape) -> Corners | None:
    return tuple((float(x), float(y)) for y, x in shape.vertices) if shape.kind == "ellipse" else None


def _region(shape: Shape) -> Area:
    if shape.kind == "ellipse":
        return repaired(ellipse_polygon(_corners(shape) or ()))
    points = np.asarray(shape.vertices, np.float64)[:, ::-1]
    if len(points) < 3:
        return shapely.Polygon()
    return repaired(shapely.Polygon(points))


def _joined(regions: list[Area]) -> Area:
    """Return regions as one geometry; those that do not overlap keep their coordinates and their order."""
    several = shapely.MultiPolygon([polygon for region in regions for polygon in _polygons(region)])
    if len(several.geoms) == 1:
        return several.geoms[0]
    return several if several.is_valid else areas_of(several)


def _edited(annotation: Annotation, shapes: list[Shape]) -> Annotation | None:
    """Return the annotation after its shapes were edited, None if nothing is left of it."""
    annotation = replace(annotation, class_name=shapes[0].class_name)
    before = to_shapes(annotation)
    shapes = sorted(shapes, key=lambda shape: shape.part)
    same = [shape.part < len(before) and _same(shape, before[shape.part]) for shape in shapes]
    if all(same) and len(shapes) == len(before):
        return annotation
    if shapes[0].kind == "ellipse":
        area, ellipse = _region(shapes[0]), _corners(shapes[0])
    else:
        polygons = [] if annotation.ellipse else _polygons(annotation.area)
        parts = [
            polygons[shape.part] if unchanged else _region(_restored(shape, before))
            for shape, unchanged in zip(shapes, same, strict=True)
        ]
        area, ellipse = _joined(parts), None
    return None if area.is_empty else replace(annotation, geometry=area, ellipse=ellipse)


def _same(shape: Shape, before: Shape) -> bool:
    first, second = (np.asarray(vertices, np.float32) for vertices in (shape.vertices, before.vertices))
    return shape.kind == before.kind and np.array_equal(first, second)


def _restored(shape: Shape, before: list[Shape]) -> Shape:
    """Return an edited shape whose untouched vertices have their exact numbers, and whose bridges are closed."""
    if shape.part >= len(before) or before[shape.part].kind != "polygon":
        return shape
    exact = np.asarray(before[shape.part].vertices, np.float64)
    rounded = exact.astype(np.float32).tolist()
    numbers = {tuple(short): number for short, number in zip(rounded, exact.tolist(), strict=True)}
    edited = np.asarray(shape.vertices)
    short = map(tuple, edited.astype(np.float32).tolist())
    vertices = np.array([numbers.get(key, own) for key, own in zip(short, edited.tolist(), strict=True)], np.float64)
    if len(vertices) == len(exact):
        moved = (vertices != exact).any(1)
        copies = Counter(map(tuple, exact.tolist()))
        target = {tuple(old): new for old, new in zip(exact[moved].tolist(), vertices[moved], strict=True)}
        for number, old in enumerate(map(tuple, exact.tolist())):
            if copies[old] > 1 and old in target and not moved[number]:
                vertices[number] = target[old]
    return replace(shape, vertices=vertices)
