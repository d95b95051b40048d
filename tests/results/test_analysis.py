"""What counts of an analysis, and what is not judged: one rule for maps, areas, spots, regions and tables."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_dala.results.report.export import regions_of, write_regions, write_tiles
from napari_dala.results.report.outputs import write_outputs
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.results.analysis import Analysis

LADDER = np.arange(48, dtype=np.float32).reshape(6, 8) / 50  # a tile's probability of malignant: 0.00, 0.02, ... 0.94


@pytest.fixture
def ladder(paint_analysis: Any) -> Analysis:
    slide = open_slide(np.full((700, 1000, 3), 200, np.uint8), mpp=0.25)
    return paint_analysis(slide, lambda grid: LADDER)


def test_without_a_band_every_tile_is_judged(ladder: Analysis) -> None:
    assert ladder.doubt == 0
    assert not ladder.in_doubt().any()
    assert ladder.judged.all()
    assert ladder.summary().why_not_judged == ""


def test_tiles_in_the_band_are_not_judged(ladder: Analysis) -> None:
    """From its upper end on a tile is malignant, below its lower end benign."""
    ladder.threshold, ladder.doubt = 0.5, 0.1
    within = (LADDER >= np.float32(0.4)) & (LADDER < np.float32(0.6))
    np.testing.assert_array_equal(ladder.in_doubt(), within)
    np.testing.assert_array_equal(ladder.judged, ~within)
    np.testing.assert_array_equal(ladder.class_map(), np.where(within, 0, np.where(LADDER >= 0.6, 2, 1)))
    summary = ladder.summary()
    assert summary.tiles == {"benign": 20, "malignant": 18}
    assert (summary.in_doubt, summary.not_judged, summary.judged) == (10, 10, 38)
    assert summary.why_not_judged == "10 in doubt"
    mm2 = ladder.grid.areas() * ladder.mpp[0] * ladder.mpp[1] / 1e6
    assert summary.not_judged_mm2 == pytest.approx(mm2[within].sum())
    assert summary.judged_mm2 == pytest.approx(mm2[~within].sum())
    assert min(spot.probability for spot in ladder.spots()) >= np.float32(0.6)
    assert sum(region.tiles for region in regions_of(ladder)) == 38


def test_the_band_moves_with_the_threshold(ladder: Analysis) -> None:
    ladder.doubt = 0.05
    assert ladder.in_doubt(0.3)[LADDER == np.float32(0.3)].all()
    assert ladder.summary(0.3).tiles["malignant"] == int((LADDER >= np.float32(0.35)).sum())


def test_an_unfamiliar_tile_is_not_counted_as_in_doubt_too(ladder: Analysis) -> None:
    ladder.threshold, ladder.doubt = 0.5, 0.1
    ladder.unfamiliar = LADDER == np.float32(0.5)
    summary = ladder.summary()
    assert summary.why_not_judged == "1 unfamiliar, 9 in doubt"
    assert summary.not_judged == 10


def test_files_leave_the_band_out_as_the_window_does(ladder: Analysis, tmp_path: Path) -> None:
    ladder.threshold, ladder.doubt = 0.5, 0.1
    write_tiles(ladder, tmp_path / "tiles.csv")
    with (tmp_path / "tiles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    called = {round(float(row["prob_malignant"]), 2): row["class"] for row in rows}
    assert (called[0.38], called[0.4], called[0.58], called[0.6]) == ("benign", *["not judged"] * 2, "malignant")
    write_regions(ladder, tmp_path / "regions.geojson")
    features = json.loads((tmp_path / "regions.geojson").read_text())["features"]
    measured = [feature["properties"]["measurements"] for feature in features]
    assert sum(one["Tiles"] for one in measured) == 38
    slide = open_slide(np.full((700, 1000, 3), 200, np.uint8), mpp=0.25)
    run = write_outputs(ladder, slide, tmp_path, {})
    assert (run["threshold"], run["doubt"]) == (0.5, 0.1)
    report = (tmp_path / "report.html").read_text()
    assert "Not judged (10 in doubt)" in report
    assert "Tiles within 0.10 of it (in doubt)" in report
