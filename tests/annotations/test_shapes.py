from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings, strategies as st
from shapely.affinity import rotate, translate

from napari_dala.annotations.document import Annotation, AnnotationDocument, ellipse_polygon
from napari_dala.annotations.shapes import Shape, keyhole, merge_edited, to_shapes

FRAME = shapely.box(0, 0, 100, 100)
HOLED = shapely.Polygon(
    FRAME.exterior.coords, [shapely.box(20, 20, 40, 40).exterior.coords, shapely.box(60, 60, 80, 80).exterior.coords]
)


def redrawn(shapes: list[Shape]) -> shapely.Geometry:
    """Return the area of shapes that a user has drawn anew."""
    document = merge_edited(AnnotationDocument("f"), [replace(shape, class_name=None) for shape in shapes])
    return shapely.union_all([item.area for item in document.annotations])


CORNERS = ((0.0, 0.0), (20.0, 0.0), (20.0, 10.0), (0.0, 10.0))


@st.composite
def regions(draw: st.DrawFn) -> shapely.Polygon | shapely.MultiPolygon:
    """A lasso less some others: several parts, holes that may touch, islands in holes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def lasso(radius: float, points: int) -> shapely.Polygon:
        angle = np.sort(rng.uniform(0, 2 * np.pi, points))
        length = radius * rng.uniform(0.5, 1, points)
        return shapely.Polygon(np.column_stack((length * np.cos(angle), length * np.sin(angle)))).buffer(0)

    area = lasso(1000, draw(st.integers(3, 200)))
    for _ in range(draw(st.integers(0, 25))):
        bite = translate(lasso(rng.uniform(10, 200), int(rng.integers(3, 20))), *rng.uniform(-700, 700, 2))
        area = area.symmetric_difference(bite) if rng.random() < 0.3 else area.difference(bite)
    area = translate(area, *rng.uniform(1000, 90_000, 2))
    polygons = [part for part in shapely.get_parts(area) if part.area > 1]
    area = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    return area if polygons else FRAME


@settings(max_examples=150, deadline=None)
@given(regions())
def test_a_region_survives_as_shapes(region: shapely.Polygon | shapely.MultiPolygon) -> None:
    shapes = to_shapes(Annotation.drawn(region))
    again = redrawn(shapes)
    assert again.is_valid
    assert again.area == pytest.approx(region.area, rel=1e-9)
    assert again.symmetric_difference(region).area <= 1e-6 * region.area
    assert len(shapely.get_parts(again)) == len(shapely.get_parts(region))


@settings(max_examples=75, deadline=None)
@given(regions())
def test_bridges_cross_nothing(region: shapely.Polygon | shapely.MultiPolygon) -> None:
    for polygon in shapely.get_parts(region):
        walk = keyhole(polygon)
        edges = shapely.linestrings(np.stack([walk, np.roll(walk, -1, axis=0)], axis=1))
        crossing = [shapely.crosses(edge, edges).any() for edge in edges]
        assert not any(crossing)


@settings(max_examples=75, deadline=None)
@given(regions(), st.integers(0, 2**32 - 1))
def test_only_what_was_edited_changes(region: shapely.Polygon | shapely.MultiPolygon, seed: int) -> None:
    other = Annotation.drawn(HOLED, "Benign")
    annotation = Annotation.drawn(region, "Tumor")
    document = AnnotationDocument("f", (), (annotation, other))
    shapes = [
        replace(shape, vertices=shape.vertices.astype(np.float32))
        for item in document.annotations
        for shape in to_shapes(item)
    ]
    same = merge_edited(document, shapes)
    assert same == document
    assert all(
        after.geometry is before.geometry for after, before in zip(same.annotations, document.annotations, strict=True)
    )

    rng = np.random.default_rng(seed)
    vertices = shapes[0].vertices.copy()
    moved = int(rng.integers(len(vertices)))
    vertices[moved] += 3
    after = merge_edited(document, [replace(shapes[0], vertices=vertices), *shapes[1:]])
    assert after.annotations[1] == other
    assert after.annotations[0].id == annotation.id
    assert after.annotations[0].geometry.is_valid
    # Nothing changes outside the triangles that the vertex and its copies sweep over.
    old = shapes[0].vertices
    swept = [
        shapely.MultiPoint([*old[[at - 1, at, (at + 1) % len(old)], ::-1], vertices[moved, ::-1]]).convex_hull
        for at in np.flatnonzero((old == old[moved]).all(1))
    ]
    changed = after.annotations[0].geometry.symmetric_difference(region)
    assert changed.difference(shapely.union_all(swept).buffer(0.1)).area < 1


def only(document: AnnotationDocument) -> Annotation:
    (annotation,) = document.annotations
    return annotation


@pytest.mark.parametrize("corner", range(4))
def test_a_dragged_end_of_a_bridge_takes_its_copy_along(corner: int) -> None:
    annotation = Annotation.drawn(HOLED)
    (shape,) = to_shapes(annotation)
    at = shapely.get_coordinates(HOLED.interiors[0])[corner]
    vertices = shape.vertices.copy()
    vertices[np.flatnonzero((vertices == at[::-1]).all(1))[0]] -= 2
    found = only(merge_edited(AnnotationDocument("f", (), (annotation,)), [replace(shape, vertices=vertices)])).geometry
    ring = [
        tuple(at - 2) if (point == at).all() else tuple(point) for point in shapely.get_coordinates(HOLED.interiors[0])
    ]
    assert found.equals(shapely.Polygon(FRAME.exterior, [ring, HOLED.interiors[1]]))


def test_a_vertex_added_or_removed_keeps_the_holes() -> None:
    annotation = Annotation.drawn(HOLED)
    document = AnnotationDocument("f", (), (annotation,))
    (shape,) = to_shapes(annotation)
    at = int(np.flatnonzero((shape.vertices == (100, 100)).all(1))[0])
    outwards = (shape.vertices[at] + shape.vertices[at - 1] - 100) * 0.6 + 50
    vertices = np.insert(shape.vertices, at, outwards, axis=0)
    added = only(merge_edited(document, [replace(shape, vertices=vertices)]))
    assert added.geometry.area == pytest.approx(9200 + 500)
    assert all(hole.equals(ring) for hole, ring in zip(added.geometry.interiors, HOLED.interiors, strict=True))
    (shape,) = to_shapes(added)
    at = int(np.flatnonzero((shape.vertices == outwards).all(1))[0])
    again = merge_edited(
        replace(document, annotations=(added,)), [replace(shape, vertices=np.delete(shape.vertices, at, 0))]
    )
    assert only(again).geometry.equals(HOLED)


def test_shapes_that_were_drawn_copied_removed_or_given_a_class() -> None:
    two = Annotation.drawn(shapely.MultiPolygon([FRAME, translate(HOLED, 200)]), "Tumor")
    gone = Annotation.drawn(translate(FRAME, 500))
    line = Annotation.drawn(shapely.Polygon([(0, 0), (1, 1), (2, 2)]))
    document = AnnotationDocument("f", (), (two, gone, line))
    first, second = to_shapes(two)
    copy = replace(first, vertices=first.vertices + 300)
    new = Shape(np.array([(0, 0), (0, 5), (5, 5)]), class_name="Benign")
    named = replace(new, annotation="7c4a3f0e-0000-4000-8000-000000000001")
    ellipse = Shape(np.array(CORNERS)[:, ::-1], kind="ellipse")
    nothing = Shape(np.array([(0, 0), (0, 5)]))
    first, second = (replace(shape, class_name="Benign") for shape in (first, second))
    after = merge_edited(document, [first, second, copy, new, named, ellipse, nothing]).annotations
    assert [item.geometry.area for item in after] == pytest.approx(
        [19200, 10000, 12.5, 12.5, ellipse_polygon(CORNERS).area, 0]
    )
    assert after[1].id != two.id
    assert (after[0].id, after[0].class_name, after[0].geometry) == (two.id, "Benign", two.geometry)
    assert (after[3].id, after[4].ellipse, after[5]) == (named.annotation, CORNERS, line)
    (left,) = merge_edited(document, [second]).annotations[:1]
    assert left.geometry.equals(translate(HOLED, 200))


def test_ellipses_stay_ellipses() -> None:
    annotation = Annotation.drawn(ellipse_polygon(CORNERS), ellipse=CORNERS)
    document = AnnotationDocument("f", (), (annotation,))
    (shape,) = to_shapes(annotation)
    assert shape.vertices.tolist() == [[y, x] for x, y in CORNERS]
    assert merge_edited(document, [shape]) == document
    moved = only(merge_edited(document, [replace(shape, vertices=shape.vertices + 5)]))
    assert moved.ellipse == tuple((x + 5, y + 5) for x, y in CORNERS)
    assert moved.geometry.equals(ellipse_polygon(moved.ellipse))


@pytest.mark.parametrize("angle", [0, 30, 90, 200])
def test_holes_that_touch(angle: float) -> None:
    touching = FRAME.difference(shapely.Polygon([(0, 50), (30, 40), (50, 50), (30, 60)])).difference(
        shapely.Polygon([(50, 50), (70, 40), (90, 50), (70, 60)])
    )
    touching = rotate(touching, angle)
    again = redrawn(to_shapes(Annotation.drawn(touching)))
    assert again.symmetric_difference(touching).area < 1e-6
