from __future__ import annotations

import errno
import json
import os
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument, crossings, ellipse_polygon
from napari_dala.annotations.files import (
    annotations_path,
    load_for,
    previous_of,
    read_annotations,
    save_for,
    set_aside,
    write_annotations,
)
from napari_dala.errors import AnnotationError

if TYPE_CHECKING:
    from pathlib import Path

SQUARE = [[0.1, 0], [100.123456789, 0], [100, 100], [0, 100], [0.1, 0]]
HOLE = [[40, 40], [60, 40], [60, 60], [40, 60], [40, 40]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE, HOLE]}
MULTI = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [[[200, 0], [300, 0], [300, 50], [200, 0]]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
POINT = {"type": "Feature", "id": "x", "geometry": {"type": "Point", "coordinates": [5, 5]}, "properties": {"a": 1}}
CELL = {"type": "Feature", "geometry": POLYGON, "properties": {"objectType": "cell"}, "nucleusGeometry": BOW_TIE}
ID = "0b7d7e5e-5c1a-4a53-9a43-a3a7b1c0d7aa"
TUMOR = AnnotationClass("Tumor", (200, 0, 0))
FOLD = AnnotationClass("Fold", (90, 90, 90), ignore=True)


def feature(geometry: Any = POLYGON, identity: str = ID, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "id": identity, "geometry": geometry, "properties": properties}


def written(folder: Path, content: Any) -> Path:
    path = folder / "drawn.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def drawn(*annotations: Annotation) -> AnnotationDocument:
    return AnnotationDocument("f00d", (TUMOR, FOLD), annotations, "patient 7")


def box(*bounds: float, name: str | None = "Tumor") -> Annotation:
    return Annotation.drawn(shapely.box(*bounds), name)


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    corners = ((0.0, 10.0), (20.0, 0.0), (25.0, 10.0), (5.0, 20.0))
    document = drawn(
        box(1 / 3, 2, 3, 4),
        Annotation.drawn(shapely.Polygon(SQUARE, [HOLE]), None),
        Annotation.drawn(ellipse_polygon(corners), "Fold", ellipse=corners),
    )
    path = tmp_path / "drawn.geojson"
    write_annotations(document, path)
    assert read_annotations(path) == replace(
        document,
        annotations=tuple(
            replace(item, extra={"properties": {"objectType": "annotation"}}) for item in document.annotations
        ),
    )


@pytest.mark.parametrize("geometry", [POLYGON, MULTI, BOW_TIE], ids=["hole", "parts", "crossed"])
def test_coordinates_and_unknown_properties_are_written_as_they_were_read(tmp_path: Path, geometry: Any) -> None:
    measured = [{"name": "Area", "value": float("nan")}]
    before = feature(geometry, objectType="annotation", isLocked=True, name="é", measurements=measured)
    content = {"type": "FeatureCollection", "features": [before | {"bbox": [0, 0, 1, 1]}, POINT, CELL]}
    document = read_annotations(written(tmp_path, content))
    path = tmp_path / "again.geojson"
    write_annotations(document, path)
    after = json.loads(path.read_text())["features"]
    assert json.dumps(after[0]["properties"]) == json.dumps(before["properties"])
    as_floats = [json.loads(json.dumps(item["geometry"]), parse_int=float) for item in (after[0], before)]
    assert as_floats[0] == as_floats[1]
    assert (after[0]["id"], after[0]["bbox"]) == (ID, [0, 0, 1, 1])
    assert after[1:] == [POINT, CELL]


def test_qupath_opens_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "drawn.geojson"
    write_annotations(drawn(box(1, 2, 3, 5)), path)
    content = json.loads(path.read_text())
    (found,) = content["features"]
    assert content["type"] == "FeatureCollection"
    assert str(uuid.UUID(found["id"])) == found["id"]
    assert found["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
    }
    assert sorted(found["geometry"]["coordinates"][0])[0] == [1, 2]


@pytest.mark.parametrize(
    ("classification", "expected"),
    [
        ({"name": "Tumor", "color": [200, 0, 0]}, TUMOR),
        ({"name": "Tumor", "colorRGB": -3670016}, TUMOR),
        ({"names": ["Immune", "CD8"], "color": [1, 2, 3]}, AnnotationClass("Immune: CD8", (1, 2, 3))),
        ({"name": "Ignore*", "color": [1, 2, 3]}, AnnotationClass("Ignore*", (1, 2, 3), ignore=True)),
        ({"name": "Plain"}, AnnotationClass("Plain", (213, 94, 0))),
    ],
    ids=["colour", "old colour", "two names", "ignore", "none"],
)
def test_classes_come_from_the_features(tmp_path: Path, classification: Any, expected: AnnotationClass) -> None:
    document = read_annotations(written(tmp_path, [feature(classification=classification)]))
    assert document.classes == (expected,)
    assert document.annotations[0].class_name == expected.name


@pytest.mark.parametrize("identity", ["PathAnnotationObject", "", "7"])
def test_every_annotation_has_an_id_of_its_own(tmp_path: Path, identity: str) -> None:
    path = written(tmp_path, [feature(identity=identity), feature(identity=identity), feature(), feature()])
    ids = [item.id for item in read_annotations(path).annotations]
    assert len({uuid.UUID(each) for each in ids}) == 4
    assert ids[2] == ID
    assert [item.id for item in read_annotations(path).annotations] == ids


@pytest.mark.parametrize(
    "content", [POLYGON, feature(), [feature()], {"type": "FeatureCollection", "features": [feature()]}]
)
def test_reads_every_form_of_geojson(tmp_path: Path, content: Any) -> None:
    (annotation,) = read_annotations(written(tmp_path, content)).annotations
    assert annotation.area.area == pytest.approx(9600, abs=10)


def test_an_outline_that_crosses_itself_has_an_area(tmp_path: Path) -> None:
    (annotation,) = read_annotations(written(tmp_path, feature(BOW_TIE))).annotations
    assert annotation.area.is_valid
    assert annotation.area.area == pytest.approx(50)


def test_an_ellipse_changed_elsewhere_is_a_polygon(tmp_path: Path) -> None:
    corners = ((0.0, 0.0), (20.0, 0.0), (20.0, 10.0), (0.0, 10.0))
    path = tmp_path / "drawn.geojson"
    write_annotations(drawn(Annotation.drawn(ellipse_polygon(corners), None, ellipse=corners)), path)
    content = json.loads(path.read_text())
    content["features"][0]["geometry"]["coordinates"][0][3][0] += 1
    assert read_annotations(written(tmp_path, content)).annotations[0].ellipse is None


def test_an_ellipse_has_64_points_on_the_ellipse() -> None:
    points = shapely.get_coordinates(ellipse_polygon([(0, 0), (20, 0), (20, 10), (0, 10)]))[:-1]
    assert len(points) == 64
    assert ((points[:, 0] - 10) / 10) ** 2 + ((points[:, 1] - 5) / 5) ** 2 == pytest.approx(np.ones(64))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ({"type": "FeatureCollection"}, "not a GeoJSON file"),
        ([feature({"type": "Polygon", "coordinates": [[[0, "a"]]]})], "not a GeoJSON file"),
        (feature({"type": "Polygon", "coordinates": [[[0, 0], [1, float("nan")], [1, 1], [0, 0]]]}), "finite"),
        ([1], "not a GeoJSON file"),
    ],
)
def test_says_what_is_wrong_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        read_annotations(written(tmp_path, content))
    assert "drawn.geojson" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_comes_back_by_fingerprint_and_keeps_the_version_before(workspace: Path) -> None:
    assert load_for("f00d") is None
    first, second = drawn(box(0, 0, 1, 1)), drawn(box(0, 0, 2, 2))
    path = save_for(first)
    assert path == annotations_path("f00d") == workspace / "f00d" / "annotations.geojson"
    assert not previous_of(path).exists()
    save_for(second)
    save_for(second)  # nothing new: the version before stays
    loaded = load_for("f00d")
    assert loaded is not None
    assert loaded.annotations[0].area.area == 4
    assert (loaded.patient, loaded.classes) == ("patient 7", (TUMOR, FOLD))
    assert read_annotations(previous_of(path)).annotations[0].area.area == 1


def test_a_damaged_file_names_the_version_before(workspace: Path) -> None:
    path = save_for(drawn(box(0, 0, 1, 1)))
    save_for(drawn(box(0, 0, 2, 2)))
    path.write_text('{"type": "Fea')
    with pytest.raises(AnnotationError, match="previous"):
        load_for("f00d")


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_leaves_both_versions(workspace: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    save_for(drawn(box(0, 0, 1, 1)))
    path = save_for(drawn(box(0, 0, 2, 2)))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    real, calls = os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(AnnotationError, match="No space left on device; what was saved before is intact"):
        save_for(drawn(box(0, 0, 3, 3)))
    after = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert after["annotations.geojson"] == before["annotations.geojson"]
    assert after.keys() == before.keys()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnnotationError, match="cannot be saved"):
        save_for(drawn(), tmp_path / "file")


def test_renames_a_class_everywhere() -> None:
    document = drawn(box(0, 0, 1, 1), box(0, 0, 1, 1, name=None)).renamed("Tumor", "Cancer")
    assert [item.name for item in document.classes] == ["Cancer", "Fold"]
    assert [item.class_name for item in document.annotations] == ["Cancer", None]
    with pytest.raises(ValueError, match="Fold"):
        document.renamed("Cancer", "Fold")


def test_gives_annotations_another_class() -> None:
    document = drawn(box(0, 0, 1, 1), box(2, 0, 3, 1, name=None))
    first, second = document.annotations
    assert document.with_class({first.id}, first.class_name) is document, "nothing is new"
    assert document.with_class({second.id}, "Fold").annotations == (first, replace(second, class_name="Fold"))


def test_joins_two_documents() -> None:
    document = replace(drawn(box(0, 0, 1, 1)), patient="one")
    (own,) = document.annotations
    stroma, tumor = AnnotationClass("Stroma", (1, 2, 3)), AnnotationClass("TUMOR", (4, 5, 6))
    other = AnnotationDocument(
        "other", (stroma, tumor), (replace(own, class_name="TUMOR"), box(5, 0, 6, 1, name="Stroma")), "two", ({"a": 1},)
    )
    joined = document.joined(other)
    assert joined.fingerprint == document.fingerprint
    assert joined.classes == (*document.classes, stroma), "a class is told by its name, its colour stays"
    assert joined.annotations[0] is own
    assert [item.class_name for item in joined.annotations[1:]] == ["Tumor", "Stroma"]
    assert joined.annotations[1].id != own.id
    assert joined.annotations[2].id == other.annotations[1].id
    assert (joined.patient, joined.others) == ("one", ({"a": 1},))


def test_a_damaged_file_is_set_aside_under_a_name_that_is_free(workspace: Path) -> None:
    names = []
    for content in ("{", "["):
        annotations_path("f", workspace).parent.mkdir(parents=True, exist_ok=True)
        annotations_path("f", workspace).write_text(content)
        aside = set_aside("f", workspace)
        assert aside.read_text() == content
        names.append(aside.name)
    assert names == ["annotations.damaged-1.geojson", "annotations.damaged-2.geojson"]
    with pytest.raises(AnnotationError, match="cannot be renamed"):
        set_aside("f", workspace)


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


TOO_SHORT = {"type": "Polygon", "coordinates": [[[0, 0], [9, 9]]]}


@pytest.mark.parametrize("key", ["objectType", "object_type", "type"])
@pytest.mark.parametrize("kind", ["detection", "cell", "tile", "tmaCore", "tma_core", "root", "PathTileObject"])
def test_objects_that_are_no_annotations_label_nothing(tmp_path: Path, key: str, kind: str) -> None:
    others = [feature(**{key: kind}), feature(**{key: kind}, classification={"name": "a"})]
    document = read_annotations(written(tmp_path, collection(feature(), *others)))
    assert len(document.annotations) == 1
    assert list(document.others) == others
    (note,) = document.notes
    assert "left out, for they are no drawn regions: 2 " in note


@pytest.mark.parametrize("identity", ["PathTileObject", "TMACoreObject", "PathRootObject", "PathCellObject"])
def test_old_ids_name_a_kind_and_a_file_without_annotations_says_so(tmp_path: Path, identity: str) -> None:
    document = read_annotations(written(tmp_path, collection(feature(identity=identity))))
    assert (len(document.annotations), len(document.others)) == (0, 1)
    kind = {"Cell": "cell", "Tile": "tile", "TMAC": "TMA core", "Root": "root object"}[
        identity.removeprefix("Path")[:4]
    ]
    assert document.notes == (f"left out, for they are no drawn regions: 1 {kind}; they stay in the file",)


def test_what_is_left_out_of_a_file_of_qupath_is_counted_by_kind(tmp_path: Path) -> None:
    others = (
        [feature(objectType="cell")] * 40
        + [feature(objectType="tmaCore")] * 2
        + [POINT, *[feature() | {"geometry": None}] * 2]
    )
    frame = feature(objectType="annotation", classification={"name": "Region*"})
    drawn = [feature(objectType="annotation", classification={"name": "benign"}), feature(objectType="annotation")]
    document = read_annotations(written(tmp_path, collection(frame, *drawn, *others)))
    assert [item.class_name for item in document.annotations] == ["Region*", "benign", None]
    assert document.notes == (
        "left out, for they are no drawn regions: 40 cells, 2 TMA cores, 1 point, 2 outlineless objects; "
        "they stay in the file",
    )
    write_annotations(document, tmp_path / "again.geojson")
    again = read_annotations(tmp_path / "again.geojson")
    assert [item.class_name for item in again.annotations] == ["Region*", "benign", None]
    assert [item.is_learned for item in again.classes] == [False, True]
    assert (again.others, again.notes) == (document.others, document.notes)


@pytest.mark.parametrize("name", ["childObjects", "children"])
def test_children_and_parts_of_collections_are_annotations_and_are_written(tmp_path: Path, name: str) -> None:
    inner = feature(classification={"name": "inner"}) | {"id": "x"}
    middle = feature(classification={"name": "middle"}, **{name: [inner]}) | {"id": "y"}
    core = feature(objectType="tmaCore", **{name: [middle]}) | {"id": "z"}
    mixed = feature({"type": "GeometryCollection", "geometries": [POLYGON, POINT["geometry"], MULTI]}, name="mixed")
    document = read_annotations(written(tmp_path, collection(core, mixed)))
    assert [item.class_name for item in document.annotations] == ["middle", "inner", None, None]
    assert [item.geometry.geom_type for item in document.annotations][2:] == ["Polygon", "MultiPolygon"]
    assert len(document.others) == 2, "the core and the point"
    write_annotations(document, tmp_path / "again.geojson")
    again = read_annotations(tmp_path / "again.geojson")
    assert [item.geometry for item in again.annotations] == [item.geometry for item in document.annotations]
    assert (again.others, again.notes) == (document.others, document.notes)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (feature(TOO_SHORT), "at least three corners"),
        (feature({"type": "Polygon", "coordinates": [[["a", "b"], [1, 2], [3, 4], [0, 0]]]}), "at least three corners"),
        (feature({"type": "Polygon", "coordinates": None}), "at least three corners"),
        (feature({"type": "Polygon", "coordinates": [[[0, 0], [1, float("nan")], [1, 1]]]}), "finite number"),
        (feature({"type": "Polygon", "coordinates": [[[0, 0], [1e300, 0], [1, 1]]]}), "finite number"),
        (feature({"type": "Circle", "coordinates": [0, 0]}), "no kind that GeoJSON knows"),
        (feature("POLYGON ((0 0))"), "geometry or its properties"),
        (feature() | {"properties": ["x"]}, "geometry or its properties"),
        (feature(classification={"name": {"x": 1}}), "name of its class is not text"),
        ({"type": "Feature"}, "not a feature"),
        (7, "not a feature"),
        (None, "not a feature"),
    ],
)
def test_an_odd_feature_is_named_and_the_rest_is_read(tmp_path: Path, odd: Any, why: str) -> None:
    path = written(tmp_path, collection(feature(classification={"name": "benign"}), odd, feature()))
    document = read_annotations(path)
    assert len(document.annotations) == 2
    assert document.notes[0].startswith("1 of 3 features cannot be read as regions: feature 2 (")
    assert why in document.notes[0]
    if isinstance(odd, dict):
        assert json.dumps(document.others) == json.dumps([odd]), "nothing is lost"
    with pytest.raises(AnnotationError, match=why) as caught:
        read_annotations(written(tmp_path, collection(odd)))
    assert "\n" not in str(caught.value)


def test_a_note_names_the_first_few_of_many_features(tmp_path: Path) -> None:
    nested = feature(childObjects=[feature(TOO_SHORT)])
    (note,) = read_annotations(written(tmp_path, collection(nested, *[feature(TOO_SHORT)] * 9))).notes
    assert "10 of 11" in note
    assert "feature 1, part 1 (" in note
    assert note.endswith("and 7 more")
    assert "\n" not in note


@pytest.mark.parametrize(
    ("classification", "name", "color"),
    [
        ("benign", "benign", None),
        (" benign ", "benign", None),
        ('{"name": "benign", "colorRGB": -65536}', "benign", (255, 0, 0)),
        ('"benign"', "benign", None),
        ("{odd", "{odd", None),
        (3, "3", None),
        (["Immune", "CD8"], "Immune: CD8", None),
        ({"name": 1}, "1", None),
        ({"name": "x", "color": None}, "x", None),
        ({"name": "x", "color": "#d55e00"}, "x", (213, 94, 0)),
        ({"name": "x", "color": "nonsense"}, "x", None),
        ({"name": "x", "color": [1, 2]}, "x", None),
        ({"name": "x", "color": [1, 2, 999]}, "x", None),
        ({"name": "x", "color": [1, 2, float("nan")]}, "x", None),
        ({"name": "x", "color": {"r": 1}}, "x", None),
        ({"name": "x", "color": -65536}, "x", (255, 0, 0)),
    ],
)
def test_classes_as_other_programs_write_them(tmp_path: Path, classification: Any, name: str, color: Any) -> None:
    document = read_annotations(written(tmp_path, collection(feature(classification=classification))))
    assert [item.class_name for item in document.annotations] == [name]
    assert document.classes[0].color == (color or (213, 94, 0))
    assert not document.notes


@pytest.mark.parametrize("nobody", [None, {}, "", "null", {"name": None}, {"names": []}, {"name": "Unclassified"}])
def test_without_a_class_as_qupath_means_it(tmp_path: Path, nobody: Any) -> None:
    document = read_annotations(written(tmp_path, collection(feature(classification=nobody))))
    assert (document.annotations[0].class_name, document.classes, document.notes) == (None, (), ())


@pytest.mark.parametrize("classes", [None, 3, ["x"], [{"name": 5}], [{"color": 1}], {"name": "x"}])
def test_an_odd_list_of_classes_loses_no_region(tmp_path: Path, classes: Any) -> None:
    content = collection(feature(classification={"name": "x"})) | {"napari_dala": {"classes": classes}}
    document = read_annotations(written(tmp_path, content))
    assert "x" in [item.name for item in document.classes]
    assert len(document.annotations) == 1


def test_an_odd_ellipse_is_a_polygon(tmp_path: Path) -> None:
    for own in ({"ellipse": 5}, {"ellipse": [["a", 0]] * 4}, {"ellipse": [[0, 0]]}, [], "x"):
        (annotation,) = read_annotations(written(tmp_path, feature(napari_dala=own))).annotations
        assert annotation.ellipse is None


def zigzag(points: int) -> dict[str, Any]:
    corners = np.random.default_rng(0).random((points, 2)) * 10_000
    return {"type": "Polygon", "coordinates": [corners.tolist()]}


def test_an_outline_that_crosses_itself_millions_of_times_is_named_within_seconds(tmp_path: Path) -> None:
    start = time.monotonic()
    document = read_annotations(written(tmp_path, collection(feature(), feature(zigzag(20_001)), feature(BOW_TIE))))
    assert len(document.annotations) == 2
    assert "feature 2 (its outline crosses itself too often, at most 3,000 times)" in document.notes[0]
    assert time.monotonic() - start < 60, "some seconds, where nothing else runs"


def test_crossings_are_counted_over_the_whole_file_and_touching_is_none(tmp_path: Path) -> None:
    assert crossings([shapely.Polygon(zigzag(60)["coordinates"][0])], 10_000) > 300
    document = read_annotations(written(tmp_path, collection(*[feature(zigzag(60))] * 20)))
    assert 4 <= len(document.annotations) <= 12
    steps = [(i + d, i) for i in range(2000) for d in (0, 1)] + [(2000, 2000)]
    back = [(i - d, i) for i in range(2000, 0, -1) for d in (0, 1)]
    staircase = shapely.Polygon(steps + back)  # squares in a row that touch at their corners, as masks' outlines do
    assert not staircase.is_valid
    assert crossings([staircase], 10_000) == 0
    assert crossings([shapely.box(0, 0, 2, 2), shapely.box(1, 1, 3, 3), shapely.box(2, 0, 4, 2)], 9) == 4
