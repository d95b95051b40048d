"""What lies at the right and lower edge of a picture is analysed, counted once, and shown where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_dala.analysis.engine import analyze
from napari_dala.analysis.plan import artefact_tiles, tissue_tiles
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import ModelBundle, seeded_network
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.analysis import Analysis, joined_cams
from napari_dala.results.report.export import regions_of
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.mask import SlideMask
from napari_dala.slide.tiles import CELL_PX, TileGrid, read_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.slide import Slide
    from tests.conftest import PaintAnalysis

MM2_PER_PX = (0.5 / 1000) ** 2


def photograph(width: int = 700, height: int = 460, mpp: float = 0.5) -> Slide:
    pixels = np.random.default_rng(1).integers(90, 220, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return open_slide(pixels.repeat(4, 0).repeat(4, 1)[:height, :width], mpp=mpp)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(ModelBundle(seeded_network(2), UNTRAINED_CARD), "cpu", "fp32")


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Analyse as the version of before did, on a grid that left the edges out."""
    over = TileGrid.over

    def analyse(*args: Any, **options: Any) -> Analysis:
        with monkeypatch.context() as patch:
            patch.setattr(TileGrid, "over", lambda *about, **more: over(*about, **more).regular)
            return analyze(*args, **options)

    return analyse


def test_all_of_a_photograph_is_analysed_and_its_middle_as_before(
    predictor: Predictor, before: Any, tmp_path: Path
) -> None:
    slide = photograph()
    old, now = before(slide, predictor, tmp_path / "old"), analyze(slide, predictor, tmp_path / "new")
    assert old.analysed.sum() == 6
    assert now.grid.shape == (3, 4)
    assert (now.status == TileStatus.DONE).all()
    np.testing.assert_array_equal(now.probability[:, :2, :3], old.probability[:, :2, :3])
    np.testing.assert_array_equal(now.store.read("features")[:2, :3], old.store.read("features")[:2, :3])
    np.testing.assert_array_equal(now.store.read_cams()[:, :14, :21], old.store.read_cams()[:, :14, :21])
    tile = predictor(read_tiles(slide, now.grid, 2, 3, 1, 1)[None])
    np.testing.assert_allclose(now.probability[:, 2, 3], tile.probability[0], atol=1e-5)
    assert sum(now.summary().area_mm2.values()) == pytest.approx(700 * 460 * MM2_PER_PX)
    assert sum(now.summary().share.values()) == pytest.approx(1)
    assert now.cam(1).shape == (15, 22)
    assert np.isfinite(now.cam(1)).all()


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5])
def test_maps_of_moved_tiles_are_the_mean_over_the_tiles_of_a_cell(overlap: float) -> None:
    grid = TileGrid.over(photograph(), 224, 0.5, overlap)
    (rows, columns), cells = grid.shape, grid.cells
    tiles = np.random.default_rng(0).random((rows, columns, cells, cells), np.float32)
    tiles[0, 1] = np.nan
    joined = joined_cams(tiles.swapaxes(1, 2).reshape(rows * cells, columns * cells), grid)
    stack = np.full((rows * columns, *grid.cam_shape), np.nan, np.float32)
    for number, (row, column) in enumerate(np.ndindex(rows, columns)):
        top, left = grid.starts[0][row], grid.starts[1][column]
        stack[number, top : top + cells, left : left + cells] = tiles[row, column]
    known = np.isfinite(stack).any(0)
    np.testing.assert_allclose(joined[known], np.nanmean(stack[:, known], 0), rtol=1e-5)
    assert np.isnan(joined[~known]).all()
    alone = np.isfinite(stack).sum(0) == 1
    np.testing.assert_array_equal(joined[alone], np.nansum(stack[:, alone], 0))  # to the last bit


def test_a_spot_in_the_last_strip_is_found_and_weighs_what_lies_on_the_picture(paint_analysis: PaintAnalysis) -> None:
    def corner(grid: TileGrid) -> Any:
        malignant = np.zeros(grid.shape)
        malignant[-1, -1] = 1
        return malignant

    slide = photograph(140, 110)  # tiles of 64 px: 128 + 12 and 64 + 46
    analysis = paint_analysis(slide, corner)
    (spot,) = analysis.spots()
    assert (spot.x, spot.y) == (96 + 32, 64 + 32)  # of the tile as it was read, three cells and two from the corner
    assert analysis.summary().area_mm2["malignant"] == pytest.approx(12 * 46 * MM2_PER_PX)
    assert analysis.summary().share["malignant"] == pytest.approx(12 * 46 / (140 * 110))
    region = regions_of(analysis)[0]
    assert region.polygon.bounds == (128, 64, 140, 110)
    assert region.area_mm2 == pytest.approx(12 * 46 * MM2_PER_PX)
    assert not any("not looked at" in warning for warning in analysis.warnings)


@pytest.mark.parametrize(("size", "tiles"), [((700, 20), 4), ((30, 460), 3), ((20, 20), 1)])
def test_a_picture_narrower_than_a_tile_is_analysed_too(size: tuple[int, int], tiles: int) -> None:
    tissue = tissue_tiles(photograph(*size), TileGrid.over(photograph(*size), 224, 0.5))
    assert tissue.all()
    assert tissue.size == tiles


def test_a_moved_tile_is_judged_by_the_strip_it_is_there_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = photograph(704, 448)  # 3 tiles and a cell, 2 tiles
    slide.is_photograph = False
    grid = TileGrid.over(slide, 224, 0.5)
    for strip in (True, False):
        mask = np.full((448, 704), not strip)
        mask[:, 672:] = strip
        found = SlideMask(mask, (1.0, 1.0))
        monkeypatch.setattr("napari_dala.analysis.plan.tissue_mask", lambda *_, found=found: found)
        assert tissue_tiles(slide, grid)[:, 3].tolist() == [strip] * 2
        assert (tissue_tiles(slide, grid)[:, :3] != strip).all()
        nowhere = SlideMask(np.zeros_like(mask), (1.0, 1.0))
        monkeypatch.setattr(
            "napari_dala.analysis.plan.artefacts_of", lambda *_, found=found, nowhere=nowhere: (found, nowhere)
        )
        assert (artefact_tiles(slide, grid)[:, 3] == TileStatus.INK).all() == strip


def test_an_analysis_of_before_is_shown_and_goes_on_on_its_grid_until_it_is_started_anew(
    predictor: Predictor, before: Any, tmp_path: Path
) -> None:
    slide = photograph()
    old = before(slide, predictor, tmp_path)
    attributes = dict(old.store._tiles.attrs["setting"]["grid"])
    assert "to_the_edge" not in attributes  # as that version wrote it
    shown = Analysis.open(tmp_path)
    assert shown.grid == old.grid == TileGrid.over(slide, 224, 0.5).regular
    assert shown.cam(1).shape == (14, 21)
    (said,) = (warning for warning in shown.warnings if "not looked at" in warning)
    assert said.startswith(f"{1 - 672 * 448 / (700 * 460):.1%} of the slide")

    told: list[Any] = []
    going_on = analyze(slide, predictor, tmp_path, on_progress=told.append)
    assert going_on.store.setting == old.store.setting
    assert [(one.done, one.total) for one in told] == [(6, 6)]  # nothing is computed again
    anew = analyze(slide, predictor, tmp_path, restart=True)
    assert anew.grid.to_the_edge
    assert anew.analysed.all()
    assert not any("not looked at" in warning for warning in anew.warnings)
    told.clear()
    again = analyze(slide, predictor, tmp_path, on_progress=told.append)
    assert again.store.setting == anew.store.setting == Analysis.open(tmp_path).store.setting
    assert [(one.done, one.total) for one in told] == [(12, 12)]


@pytest.mark.parametrize("mpp", [0.5, 0.9])
def test_a_real_slide_is_covered_to_its_edges(shared_data: Path, mpp: float) -> None:
    with open_slide(shared_data / "slides/CMU-1-Small-Region.svs") as slide:
        grid = TileGrid.over(slide, 224, mpp)
        width, height = slide.dimensions
        ends = (edge[-1] + side for edge, side in zip(grid.origins(), grid.tile_size, strict=True))
        beyond = [end - size for end, size in zip(ends, (width, height), strict=True)]
        assert all(-0.51 * grid.scale[0] < over < CELL_PX * grid.scale[0] for over in beyond)
        assert tissue_tiles(slide, grid)[-1].any()  # tissue reaches the lower edge
        last = grid.shape[0] - 1, int(np.flatnonzero(tissue_tiles(slide, grid)[-1])[0])
        tile = read_tiles(slide, grid, *last, 1, 1)
        line = slide.read(round(grid.origins()[0][last[1]]), height - 8, round(grid.tile_size[0]), 8)
        inside = round((height - grid.origins()[1][-1]) / grid.scale[1])  # model px of the tile
        assert np.abs(tile[inside - 4 : inside - 1].mean((0, 1)) - line.mean((0, 1))).max() < 12
