from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely

from napari_dala.annotations.regions import read_regions, tiles_in
from napari_dala.errors import AnnotationError
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
HOLE = [[40, 40], [60, 40], [60, 60], [40, 60], [40, 40]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE, HOLE]}
FEATURE = {"type": "Feature", "geometry": POLYGON, "properties": {}}
MULTI = {"type": "MultiPolygon", "coordinates": [[SQUARE], [[[200, 0], [300, 0], [300, 50], [200, 0]]]]}
POINT = {"type": "Point", "coordinates": [5, 5]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
GRID = TileGrid((1000, 600), 64, (1.5625, 1.5625), 2)  # tiles of 100 px: 6 rows, 10 columns


def written(folder: Path, content: Any) -> Path:
    path = folder / "drawn.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "areas"),
    [
        (POLYGON, [9600]),
        (FEATURE, [9600]),
        (MULTI, [12500]),
        ({"type": "FeatureCollection", "features": [FEATURE, FEATURE]}, [9600, 9600]),
        ([FEATURE, {**FEATURE, "geometry": MULTI}], [9600, 12500]),
        ({"type": "GeometryCollection", "geometries": [POLYGON, MULTI]}, [9600, 12500]),
        ([FEATURE, {**FEATURE, "geometry": POINT}, {**FEATURE, "geometry": None}], [9600]),
        ({"type": "Polygon", "coordinates": [[[*point, 7] for point in SQUARE]]}, [10000]),
        (BOW_TIE, [50]),
        ("\ufeff" + json.dumps(POLYGON), [9600]),
    ],
    ids=["polygon", "feature", "multi", "collection", "list", "geometries", "others", "3d", "crossed", "bom"],
)
def test_reads_every_form_of_geojson(tmp_path: Path, content: Any, areas: list[float]) -> None:
    regions = read_regions(written(tmp_path, content))
    assert [region.area for region in regions] == pytest.approx(areas)
    assert all(region.is_valid and not region.has_z for region in regions)


def test_says_what_it_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_regions(written(tmp_path, [FEATURE, {**FEATURE, "geometry": POINT}]))
    assert "drawn.geojson: left out, for they are no drawn regions: 1 point" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "not a GeoJSON file"),
        ("{}", "not a GeoJSON file"),
        ({"type": "FeatureCollection"}, "not a GeoJSON file"),
        ({"type": "Polygon", "coordinates": [["a", "b"]]}, "not a GeoJSON file"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "not a GeoJSON file"),
        ({"type": "Circle", "coordinates": [0, 0]}, "not a GeoJSON file"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, NaN], [0, 0]]]}', "not a finite number"),
        (POINT, "found Point"),
        ([], "found no geometry"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [4, 0], [0, 0]]]}, "found Polygon"),
        ({"type": "Polygon", "coordinates": []}, "found Polygon"),
    ],
)
def test_refuses_in_one_line(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(AnnotationError, match=reason) as error:
        read_regions(written(tmp_path, content))
    assert "drawn.geojson" in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"gone\.geojson: cannot be read: No such file"):
        read_regions(tmp_path / "gone.geojson")
    (tmp_path / "bytes.geojson").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(AnnotationError, match="not JSON"):
        read_regions(tmp_path / "bytes.geojson")


def test_reads_as_annotations_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def named(name: str, *bounds: float, **properties: Any) -> dict[str, Any]:
        return {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.box(*bounds)),
            "properties": {"classification": {"name": name}, **properties},
        }

    frame, mask = named("Region*", 0, 0, 100, 100), named("Ignore*", 50, 0, 200, 100)
    cell, child = named("Tumor", 0, 0, 9, 9, objectType="cell"), named("Tumor", 300, 0, 310, 10)
    parent = named("Tumor", 200, 0, 300, 100, childObjects=[child])
    odd = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, 0]]]}, "properties": None}
    regions = read_regions(written(tmp_path, [cell, frame, mask, parent, odd]))
    assert [region.area for region in regions] == pytest.approx([5000, 10_000, 100])
    assert "feature 5" in caplog.text
    with pytest.raises(AnnotationError, match="no region in it"):
        read_regions(written(tmp_path, [mask]))


def chosen(*regions: Any) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in np.argwhere(tiles_in(list(regions), GRID))}


def test_tiles_whose_centre_lies_in_a_region() -> None:
    assert GRID.shape == (6, 10)
    assert chosen(shapely.box(140, 240, 360, 260)) == {(2, 1), (2, 2), (2, 3)}
    assert chosen(shapely.box(150, 50, 250, 50.5)) == {(0, 1), (0, 2)}  # centres on the border
    hole = shapely.box(0, 0, 300, 300) - shapely.box(120, 120, 180, 180)
    assert chosen(hole) == {(row, column) for row in range(3) for column in range(3)} - {(1, 1)}
    assert chosen(shapely.box(0, 0, 99, 99), shapely.box(-500, 520, 5000, 5000)) == {(0, 0)} | {
        (5, column) for column in range(10)
    }
    triangle = shapely.Polygon([(0, 0), (990, 0), (0, 580)])
    inside = shapely.contains_xy(triangle, *np.meshgrid(np.arange(50, 1000, 100), np.arange(50, 600, 100)))
    assert chosen(triangle) == {(int(row), int(column)) for row, column in np.argwhere(inside)}


def test_a_small_region_asks_for_the_tile_it_lies_in() -> None:
    assert chosen(shapely.box(910, 510, 920, 520)) == {(5, 9)}
    assert chosen(shapely.box(310, 110, 320, 120), shapely.box(0, 0, 100, 100)) == {(1, 3), (0, 0)}


@pytest.mark.parametrize("regions", [[], [shapely.box(2000, 0, 3000, 100)], [shapely.box(-50, -50, 0, 0)]])
def test_regions_beside_the_slide_are_refused(regions: list[Any]) -> None:
    with pytest.raises(AnnotationError, match="no region lies on the slide of 1000 x 600 px"):
        tiles_in(regions, GRID)
