"""The table of regions: what is found and what is drawn has the same figures."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely

from napari_dala.results.report.export import regions_of
from napari_dala.results.report.region_table import DrawnRegion, as_tab_text, region_rows
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from napari_dala.results.analysis import Analysis

RED = (200, 0, 0)
RING = tuple((row, column) for row in (1, 2, 3) for column in (2, 3, 4) if (row, column) != (2, 3))


def box(left: float, top: float, right: float, bottom: float) -> Any:
    """Of tiles, which are 128 px."""
    return shapely.box(128 * left, 128 * top, 128 * right, 128 * bottom)


@pytest.fixture
def ringed(paint_analysis: Any) -> Analysis:
    """6 x 8 tiles of 128 px at 0.25 um/px: a malignant ring around one benign tile, and a malignant tile apart."""
    slide = open_slide(np.full((700, 1000, 3), 200, np.uint8), mpp=0.25)

    def malignant(grid: Any) -> Any:
        values = np.full(grid.shape, 0.2)
        values[tuple(np.transpose(RING))] = 0.8
        values[1, 2] = 0.9
        values[5, 0] = 0.7
        return values

    return paint_analysis(slide, malignant)


def test_found_regions_come_as_in_the_files_with_their_figures(ringed: Analysis) -> None:
    rows = region_rows(ringed)
    assert [row.name for row in rows] == [region.name for region in regions_of(ringed)]
    ring = rows[0]
    assert (ring.class_name, ring.is_drawn) == ("malignant", False)
    assert ring.area_mm2 == pytest.approx(8 * (128 * 0.25) ** 2 / 1e6)
    assert ring.mean == pytest.approx((7 * 0.8 + 0.9) / 8)
    assert ring.highest == pytest.approx(0.9)
    assert ring.foci == 1
    assert ring.bounds == (256, 128, 640, 512)
    benign = next(row for row in rows if row.name == "benign 1")
    assert benign.highest == pytest.approx(0.2), "of malignant, as in every row"
    assert benign.foci == 1, "the ring lies in its hole; the tile in the corner does not"


def test_drawn_regions_have_the_figures_of_the_tiles_in_them(ringed: Analysis) -> None:
    left = DrawnRegion("tumour", RED, box(0, 0, 4, 6))
    right = DrawnRegion(None, RED, shapely.MultiPolygon([box(5, 0, 6, 1), box(6, 2, 7, 3)]))
    first, second, *found = region_rows(ringed, [left, right])
    assert [first.name, second.name] == ["tumour 1", "no class 1"]
    assert first.is_drawn
    assert not found[0].is_drawn
    inside = [0.9, *[0.8] * 4, 0.7, *[0.2] * 18]  # 5 of the ring's tiles, the one apart, and others
    assert first.mean == pytest.approx(np.mean(inside))
    assert first.highest == pytest.approx(0.9)
    assert first.area_mm2 == pytest.approx(24 * (128 * 0.25) ** 2 / 1e6 * (5 * 128 + 60) / (6 * 128), rel=0.1)
    assert first.foci == 2
    assert (second.mean, second.foci) == (pytest.approx(0.2), 0)
    assert second.area_mm2 == pytest.approx(2 * (128 * 0.25) ** 2 / 1e6)


def test_a_region_smaller_than_a_tile_has_the_tile_it_lies_in(ringed: Analysis) -> None:
    small = shapely.box(256 + 3, 128 + 3, 256 + 20, 128 + 20)
    (row, *_) = region_rows(ringed, [DrawnRegion("tumour", RED, small)])
    assert row.highest == pytest.approx(0.9)
    assert row.foci == 1


def test_what_is_not_judged_is_in_no_probability_and_is_said(ringed: Analysis) -> None:
    unfamiliar = np.zeros(ringed.grid.shape, bool)
    unfamiliar[1, 2] = True
    ringed.unfamiliar = unfamiliar
    ringed.threshold, ringed.doubt = 0.75, 0.1  # the ring's tiles of 0.8, and that of 0.7
    drawn = DrawnRegion("tumour", RED, box(2, 1, 5, 4))
    row = region_rows(ringed, [drawn])[0]
    assert row.unfamiliar == pytest.approx(1 / 9)
    assert row.not_judged == pytest.approx(8 / 9)
    assert (row.mean, row.highest) == (pytest.approx(0.2), pytest.approx(0.2))
    assert row.foci == 0
    nothing = region_rows(ringed, [DrawnRegion("tumour", RED, box(2, 1, 3, 2))])[0]
    assert nothing.mean is None
    assert nothing.highest is None


def test_where_nothing_is_found_or_drawn_there_is_no_row(paint_analysis: Any) -> None:
    slide = open_slide(np.full((700, 1000, 3), 200, np.uint8), mpp=0.25)
    analysis = paint_analysis(slide, 0.5, background=tuple(np.ndindex(6, 8)))
    assert region_rows(analysis) == []
    (row,) = region_rows(analysis, [DrawnRegion("tumour", RED, box(0, 0, 2, 2))])
    assert row.unfamiliar is None
    assert row.area_mm2 > 0


def test_copied_rows_go_into_a_spreadsheet_cell_by_cell(ringed: Analysis) -> None:
    rows = region_rows(ringed, [DrawnRegion('=HYPERLINK("x")\t1', RED, box(0, 0, 2, 2))])
    text = as_tab_text(rows[:2], "malignant")
    head, drawn, found = (line.split("\t") for line in text.splitlines())
    assert len(head) == len(drawn) == len(found) == 13
    assert head[4] == "Mean probability malignant"
    assert drawn[1].startswith("'="), "a class' name is no formula"
    assert found[:3] == ["malignant 1", "malignant", "found"]
    assert float(found[3]) == pytest.approx(rows[1].area_mm2)


def test_a_large_slide_takes_seconds_at_most(paint_analysis: Any) -> None:
    slide = open_slide(np.full((640, 640, 3), 200, np.uint8), mpp=0.25)
    analysis = paint_analysis(slide, 0.5)
    rng, store = np.random.default_rng(0), analysis.store
    grid = replace(store.grid, slide_size=(200 * 128, 200 * 128))
    store.setting = replace(store.setting, grid=grid)
    malignant = (rng.random(grid.shape) > 0.7).astype(np.float32) * 0.6 + 0.2
    analysis.probability = np.stack((1 - malignant, malignant))
    analysis.status = np.ones(grid.shape, np.uint8)
    analysis.unfamiliar = np.zeros(grid.shape, bool)
    drawn = [DrawnRegion("tumour", RED, box(x, x, x + 40, x + 40)) for x in range(0, 160, 4)]
    start = time.process_time()
    rows = region_rows(analysis, drawn)
    assert time.process_time() - start < 8  # about 1 s
    assert len(rows) > 5000
