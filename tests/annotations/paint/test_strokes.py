"""Painting, erasing, filling: what is seen afterwards is what was seen before, with the stroke over it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument, ellipse_polygon
from napari_dala.annotations.files import read_annotations, write_annotations
from napari_dala.annotations.paint.strokes import Stroke, erased, filled, painted, swept

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = tuple(AnnotationClass(name, (index, 0, 0)) for index, name in enumerate(("benign", "malignant", "Region*")))


def drawn(*items: tuple[shapely.Geometry, str | None]) -> AnnotationDocument:
    return AnnotationDocument("0" * 32, CLASSES, tuple(Annotation.drawn(*item) for item in items))


def dab(x: float, y: float, radius: float = 10, *, erases: bool = False) -> Stroke:
    return Stroke(swept([(x, y)], radius), radius, erases)


def classes_at(document: AnnotationDocument, points: np.ndarray) -> np.ndarray:
    """The class that is on top at each point, "" where there is none."""
    found = np.full(len(points), "", object)
    for item in document.annotations:
        found[shapely.contains_xy(item.area, *points.T)] = item.class_name
    return found


def test_a_stroke_is_a_round_brush_along_its_way() -> None:
    assert swept([(3, 4)], 10).area == pytest.approx(np.pi * 100, rel=0.01)
    long = swept([(0, 0), (100, 0), (100, 50)], 10)
    assert long.area == pytest.approx(150 * 20 + np.pi * 100, rel=0.02)
    assert long.bounds == pytest.approx((-10, -10, 110, 60))


def test_it_is_simplified_to_a_quarter_of_a_cell_and_a_small_brush_stays_round() -> None:
    way = [(x, 20 * np.sin(x / 40)) for x in range(1000)]
    stroke = Stroke(swept(way, 200), 200)
    plain = stroke.simplified(32)
    assert plain.area.hausdorff_distance(stroke.area) <= 8
    assert shapely.get_num_coordinates(plain.area) < shapely.get_num_coordinates(stroke.area) / 10
    small = dab(0, 0, 3).simplified(32).area
    assert small.area == pytest.approx(np.pi * 9, rel=0.1)


def test_a_stroke_that_touches_nothing_is_a_region_on_top() -> None:
    before = drawn((shapely.box(0, 0, 100, 100), "benign"))
    after = painted(before, dab(50, 50), "malignant")
    assert after.annotations[0] is before.annotations[0]
    assert [item.class_name for item in after.annotations] == ["benign", "malignant"]


def test_a_stroke_joins_all_that_it_touches_of_its_class() -> None:
    before = drawn(
        (shapely.box(0, 0, 40, 40), "benign"),
        (shapely.box(500, 500, 600, 600), "benign"),
        (shapely.box(60, 0, 100, 40), "benign"),
    )
    after = painted(before, Stroke(swept([(30, 20), (70, 20)], 10), 10), "benign")
    joined, far = after.annotations
    assert joined.id == before.annotations[0].id
    assert isinstance(joined.geometry, shapely.Polygon)
    assert joined.area.contains(shapely.union(before.annotations[0].area, before.annotations[2].area))
    assert far is before.annotations[1], "what lies elsewhere is the same object, its numbers untouched"


def test_what_is_seen_is_what_was_seen_and_the_stroke() -> None:
    points = np.random.default_rng(0).uniform(0, 400, (4000, 2))
    rng = np.random.default_rng(1)
    document = drawn((shapely.box(150, 150, 250, 250), "malignant"))
    for number in range(60):
        way = rng.uniform(0, 400, 2) + np.cumsum(rng.uniform(-40, 40, (5, 2)), axis=0)
        stroke = Stroke(swept(way, 20), 20, erases=number % 5 == 4).simplified(8)
        name = ("benign", "malignant", None)[number % 3]
        seen = classes_at(document, points)
        inside = shapely.contains_xy(stroke.area, *points.T)
        document = (erased if stroke.erases else painted)(document, stroke, name)
        after = classes_at(document, points)
        assert (after == seen)[~inside].mean() > 0.998, "crumbs and cracks alone may go"
        if stroke.erases:
            assert not any(item.area.intersection(stroke.area).area > 1e-6 for item in document.annotations
                           if item.class_name == name)  # fmt: skip
        else:
            assert (after == name)[inside].all()
        assert all(item.geometry.is_valid for item in document.annotations)
    assert len({item.id for item in document.annotations}) == len(document.annotations)


def test_a_frame_neither_hides_nor_gives_way() -> None:
    before = drawn((shapely.box(0, 0, 40, 40), "benign"), (shapely.box(0, 0, 300, 300), "Region*"))
    after = painted(before, dab(45, 20), "benign")
    assert after.annotations[1] is before.annotations[1]
    outside = dab(200, 200, erases=True)
    assert erased(before, outside, "benign") is before


def test_the_eraser_takes_from_the_class_in_hand_and_else_from_any() -> None:
    before = drawn((shapely.box(0, 0, 100, 100), "benign"), (shapely.box(50, 0, 150, 100), "malignant"))
    benign, malignant = before.annotations
    after = erased(before, dab(70, 50, erases=True), "benign")
    assert after.annotations[1] is malignant
    assert len(after.annotations[0].geometry.interiors) == 1
    after = erased(before, dab(150, 50, erases=True), "benign")
    assert after.annotations[0] is benign
    assert after.annotations[1].area.area < malignant.area.area
    assert after.annotations[1].id == malignant.id
    assert erased(before, dab(500, 500, erases=True), "benign") is before


def test_the_eraser_splits_and_removes() -> None:
    before = drawn((shapely.box(0, 0, 100, 20), "benign"))
    after = erased(before, Stroke(swept([(50, -20), (50, 40)], 10), 10, erases=True), "benign")
    (item,) = after.annotations
    assert isinstance(item.geometry, shapely.MultiPolygon)
    assert [part.bounds for part in item.geometry.geoms] == [(0, 0, 40, 20), (60, 0, 100, 20)]
    assert erased(after, dab(50, 10, 100, erases=True), "benign").annotations == ()


def test_crumbs_of_a_stroke_go_and_small_regions_elsewhere_stay() -> None:
    small = shapely.box(500, 500, 500.5, 500.5)
    before = drawn((shapely.MultiPolygon([shapely.box(0, 0, 100, 100), small]), "benign"))
    most = shapely.box(-1, -1, 101, 101).difference(shapely.box(0, 0, 0.5, 0.5))
    (item,) = erased(before, Stroke(most, 10, erases=True), "benign").annotations
    assert shapely.equals(item.geometry, small)
    crack = shapely.Polygon(shapely.box(0, 0, 100, 100).exterior, [shapely.box(50, 50, 50.5, 50.5).exterior])
    (item,) = painted(drawn((crack, "benign")), dab(60, 50), "benign").annotations
    assert len(item.geometry.interiors) == 0


def test_an_ellipse_that_is_painted_on_is_one_no_longer() -> None:
    corners = ((0.0, 0.0), (100.0, 0.0), (100.0, 50.0), (0.0, 50.0))
    ellipse = Annotation.drawn(ellipse_polygon(corners), "benign", ellipse=corners)
    before = AnnotationDocument("0" * 32, CLASSES, (ellipse,))
    (item,) = painted(before, dab(100, 25), "benign").annotations
    assert item.ellipse is None
    assert item.area.bounds[2] == pytest.approx(110)


def test_holes_are_filled() -> None:
    ring = shapely.box(0, 0, 100, 100).difference(shapely.box(40, 40, 60, 60))
    parts = shapely.MultiPolygon([ring, shapely.box(200, 0, 300, 100)])
    before = drawn((parts, "benign"), (shapely.box(0, 0, 9, 9), "benign"))
    holed, whole = before.annotations
    after = filled(before, {holed.id, whole.id})
    assert shapely.equals(after.annotations[0].geometry, shapely.MultiPolygon([shapely.box(0, 0, 100, 100),
                                                                              parts.geoms[1]]))  # fmt: skip
    assert after.annotations[1] is whole
    assert filled(before, {whole.id}) is before
    assert filled(after, {holed.id}) is after


def test_holes_and_parts_are_what_qupath_reads(tmp_path: Path) -> None:
    document = painted(drawn(), Stroke(swept([(100, 100), (400, 100)], 60), 60), "benign")
    document = erased(document, dab(150, 100, 20, erases=True), "benign")
    document = erased(document, Stroke(swept([(280, 0), (280, 200)], 15), 15, erases=True), "benign")
    path = write_annotations(document, tmp_path / "painted.geojson") or tmp_path / "painted.geojson"
    (feature,) = json.loads(path.read_text())["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert feature["properties"]["classification"]["name"] == "benign"
    assert sorted(len(rings) for rings in feature["geometry"]["coordinates"]) == [1, 2], "an outline, and one hole"
    for rings in feature["geometry"]["coordinates"]:
        for ring in rings:
            assert ring[0] == ring[-1]
    (read,) = read_annotations(path).annotations
    assert shapely.equals_exact(read.geometry, document.annotations[0].geometry, 0.01)
