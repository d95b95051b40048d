from __future__ import annotations

import csv
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
import shapely.geometry

from napari_dala.annotations.regions import read_regions
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import create_store
from napari_dala.results.report.export import regions_of, write_regions, write_tiles
from napari_dala.results.store import Setting
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.slide import Slide


@pytest.fixture
def slide() -> Slide:
    """1000 x 700 px at 0.25 um/px: tiles of 64 model px are 128 px, 8 columns and 6 rows, the last ones moved back."""
    return open_slide(np.full((700, 1000, 3), 200, np.uint8), mpp=0.25)


def painted(*tiles: tuple[int, int], value: float = 0.9) -> Any:
    def paint(grid: TileGrid) -> Any:
        malignant = np.full(grid.shape, 0.2)
        for tile in tiles:
            malignant[tile] = value
        return malignant

    return paint


RING = tuple((row, column) for row in (1, 2, 3) for column in (2, 3, 4) if (row, column) != (2, 3))


def test_tiles_csv_has_a_row_for_each_tissue_tile(slide: Slide, paint_analysis: Any, tmp_path: Path) -> None:
    analysis = paint_analysis(slide, painted((0, 3)), unreadable=((1, 1),), todo=((2, 2),), background=((0, 0), (4, 7)))
    tiles = analysis.store.read_tiles()
    tiles.unfamiliar[0, 3] = True
    analysis = Analysis(analysis.store, tiles)
    write_tiles(analysis, tmp_path / "tiles.csv")
    with (tmp_path / "tiles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == "minx miny width height status unfamiliar class prob_benign prob_malignant".split()
    assert len(rows) == 6 * 8 - 2
    at = {(row["minx"], row["miny"]): row for row in rows}
    assert at["384.00", "0.00"] == {
        "minx": "384.00", "miny": "0.00", "width": "128.00", "height": "128.00", "status": "done",
        "unfamiliar": "1", "class": "not judged", "prob_benign": "0.100000", "prob_malignant": "0.900000",
    }  # fmt: skip
    assert at["128.00", "128.00"]["status"] == "unreadable"
    assert at["256.00", "256.00"]["status"] == "todo"
    assert at["256.00", "256.00"]["prob_malignant"] == at["256.00", "256.00"]["unfamiliar"] == ""
    assert at["256.00", "256.00"]["class"] == ""
    assert at["128.00", "128.00"]["class"] == "not judged"
    assert (at["512.00", "0.00"]["unfamiliar"], at["512.00", "0.00"]["class"]) == ("0", "benign")
    assert ("0.00", "0.00") not in at


def test_regions_are_connected_tiles_with_holes(slide: Slide, paint_analysis: Any) -> None:
    analysis = paint_analysis(slide, painted(*RING, (4, 5)))
    ring, corner, *others = regions_of(analysis)
    assert (ring.name, ring.tiles) == ("malignant 1", 8)
    hole = shapely.box(3 * 128, 2 * 128, 4 * 128, 3 * 128)
    assert ring.polygon.equals(shapely.box(2 * 128, 128, 5 * 128, 4 * 128) - hole)
    assert ring.area_mm2 == pytest.approx(8 * 0.032**2)
    assert (ring.mean_probability, ring.max_probability) == pytest.approx((0.9, 0.9))
    assert corner.tiles == 1  # touches the ring by a corner only
    assert {region.class_index for region in others} == {0}
    assert sum(region.tiles for region in others) == 48 - 9


def test_threshold_decides_which_tiles_count(slide: Slide, paint_analysis: Any) -> None:
    analysis = paint_analysis(slide, painted((1, 1), value=0.6))
    assert [region.class_index for region in regions_of(analysis)] == [1, 0]
    assert [region.class_index for region in regions_of(analysis, threshold=0.7)] == [0]
    (everything,) = regions_of(analysis, threshold=0.1)
    assert (everything.class_index, everything.tiles) == (1, 48)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_regions_end_at_the_slide_and_do_not_overlap(slide: Slide, paint_analysis: Any, overlap: float) -> None:
    analysis = paint_analysis(slide, lambda grid: np.indices(grid.shape).sum(0) % 2, overlap=overlap)
    polygons = [region.polygon for region in regions_of(analysis)]
    whole = shapely.union_all(polygons)
    assert whole.area == pytest.approx(sum(polygon.area for polygon in polygons))
    assert whole.equals(shapely.box(0, 0, 1000, 700))


def test_geojson_is_what_qupath_opens(slide: Slide, paint_analysis: Any, tmp_path: Path) -> None:
    analysis = paint_analysis(slide, painted(*RING))
    path = tmp_path / "regions.geojson"
    write_regions(analysis, path)
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection"
    ids = [uuid.UUID(feature["id"]) for feature in collection["features"]]
    assert len(set(ids)) == len(ids) == 3
    feature = collection["features"][0]
    assert feature["type"] == "Feature"
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"] == {"name": "malignant", "color": [214, 39, 40]}
    assert set(feature["properties"]["measurements"]) == {"Area mm^2", "Tiles", "Mean probability", "Max probability"}
    outer, _ = feature["geometry"]["coordinates"]
    assert outer[0] == outer[-1]
    assert (min(x for x, _ in outer), min(y for _, y in outer)) == (256, 128)  # x before y
    assert [region.equals(shapely.geometry.shape(f["geometry"])) for region, f in zip(
        read_regions(path), collection["features"], strict=True)] == [True] * 3  # fmt: skip

    first = path.read_bytes()
    write_regions(analysis, path)
    assert path.read_bytes() == first


def test_nothing_analysed_gives_no_region(slide: Slide, paint_analysis: Any, tmp_path: Path) -> None:
    everywhere = tuple(np.ndindex(6, 8))
    analysis = paint_analysis(slide, 0.9, background=everywhere)
    write_regions(analysis, tmp_path / "regions.geojson")
    write_tiles(analysis, tmp_path / "tiles.csv")
    assert json.loads((tmp_path / "regions.geojson").read_text())["features"] == []
    assert len((tmp_path / "tiles.csv").read_text().splitlines()) == 1


def test_many_islands_are_quick(tmp_path: Path) -> None:
    grid = TileGrid((200 * 448, 200 * 448), 224, (2.0, 2.0), 7)
    setting, card = Setting("f" * 32, grid, "trunk", "fp32"), UNTRAINED_CARD.model_dump(mode="json")
    analysis = Analysis(create_store(tmp_path / "a.zarr", setting, slide={}, bundle_hash="b" * 16, card=card))
    malignant = np.random.default_rng(0).random(grid.shape, np.float32)
    analysis.probability = np.stack((1 - malignant, malignant))
    start = time.process_time()
    regions = regions_of(analysis)
    assert time.process_time() - start < 6  # about 1 s
    assert sum(region.tiles for region in regions) == 40_000
    assert {region.polygon.geom_type for region in regions} == {"Polygon"}
    assert all(shapely.is_valid([region.polygon for region in regions]))
    assert sum(region.polygon.area for region in regions) == pytest.approx((200 * 448) ** 2)


def test_unfamiliar_tiles_are_in_no_region(slide: Slide, paint_analysis: Any) -> None:
    analysis = paint_analysis(slide, painted(*RING))
    tiles = analysis.store.read_tiles()
    tiles.unfamiliar[1] = True
    analysis = Analysis(analysis.store, tiles)
    summary = analysis.summary()
    assert (summary.tiles["malignant"], summary.unfamiliar, summary.judged) == (5, 8, 40)
    areas = np.delete(analysis.grid.areas(), 1, axis=0)
    assert summary.share["malignant"] == pytest.approx(5 * areas[0, 0] / areas.sum())
    assert summary.why_not_judged == "8 unfamiliar"
    assert {spot.row for spot in analysis.spots()} <= {2, 3}
    assert sum(region.tiles for region in regions_of(analysis)) == 40
    tiles.unfamiliar[...] = True
    assert not regions_of(analysis)
    assert not analysis.spots(threshold=0)
    assert set(analysis.summary().share.values()) == {0.0}


def test_a_part_says_how_much_of_the_tissue_it_is(slide: Slide, paint_analysis: Any) -> None:
    todo = tuple((row, column) for row in range(6) for column in range(8) if (row, column) != (0, 0))
    summary = paint_analysis(slide, painted((0, 0)), todo=todo).summary()
    assert (summary.analysed, summary.todo, summary.done_share) == (1, 47, 1 / 48)
