from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from napari_dala.errors import AnnotationError
from napari_dala.evaluation.explanations.localisation import (
    SlideCells,
    by_tile,
    class_fractions,
    heat_kept,
    hottest,
    shifted_tiles,
    tile_figures,
)
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(7)
CLASSES = ("benign", "malignant")
MASKS = (RNG.random((40, 49)) < 0.4).astype(np.float64)


def test_a_map_that_is_the_mask_is_perfect() -> None:
    found = tile_figures(MASKS, MASKS)
    for figure in (found.auc, found.pointing, found.share):
        np.testing.assert_array_equal(figure, 1)
    np.testing.assert_allclose(found.kept, MASKS.mean(1))
    wrong = tile_figures(1 - MASKS, MASKS)
    for figure in (wrong.auc, wrong.pointing, wrong.share):
        np.testing.assert_array_equal(figure, 0)


def test_a_random_map_is_worth_the_area_of_the_class() -> None:
    inside = np.repeat(MASKS, 20, 0)
    found = tile_figures(RNG.random(inside.shape), inside)
    assert found.auc.mean() == pytest.approx(0.5, abs=0.01)
    assert found.share.mean() == pytest.approx(inside.mean(), abs=0.01)
    assert found.pointing.mean() == pytest.approx(inside.mean(), abs=0.05)


def test_an_empty_map_is_worth_chance() -> None:
    found = tile_figures(np.zeros_like(MASKS), MASKS)
    np.testing.assert_array_equal(found.auc, 0.5)
    np.testing.assert_allclose(found.pointing, MASKS.mean(1))
    assert np.isnan(found.share).all()
    assert not found.kept.any()


def test_auc_is_scikit_learns_with_cells_of_two_classes() -> None:
    inside = RNG.random((5, 49))
    values = RNG.integers(0, 6, (5, 49)) / 5  # with ties
    for auc, part, cells in zip(tile_figures(values, inside).auc, inside, values, strict=True):
        truth = np.repeat((1, 0), 49)
        expected = roc_auc_score(truth, np.tile(cells, 2), sample_weight=np.concatenate([part, 1 - part]))
        assert auc == pytest.approx(expected)


def test_heat_that_is_kept() -> None:
    plain, inside = np.array([[4.0, 2.0, 1.0, 3.0]]), np.array([[1.0, 0.5, 0.0, 0.0]])
    kept = heat_kept(plain, np.array([[True, True, False, False]]), inside)
    assert (kept.inside, kept.outside) == (1, 0.2)
    nothing = heat_kept(0 * plain, np.ones((1, 4), np.bool_), inside)
    assert (nothing.inside, nothing.outside) == (None, None)


@pytest.mark.parametrize("per_tile", [True, False])
def test_grad_cam_cut_to_the_same_area(per_tile: bool) -> None:
    plain = np.array([[5.0, 4.0, 3.0], [2.0, 1.0, 0.5]])
    mask = np.array([[True, False, False], [False, True, True]])
    expected = [[True, False, False], [True, True, False]] if per_tile else [[True] * 3, [False] * 3]
    np.testing.assert_array_equal(hottest(plain, mask, per_tile=per_tile), expected)


def test_a_dt_map_that_keeps_the_class_alone() -> None:
    plain = (RNG.random((6, 49)) + 0.1).astype(np.float32)
    inside = MASKS[:6].astype(np.float32)
    cells = SlideCells("slide", "malignant", inside, np.arange(6) < 4, plain)
    found, figures = cells.measure_kept("DT", plain * inside, per_tile=True)
    assert (found.tiles, len(figures.auc)) == (4, 4)
    assert found.share == 1
    assert found.mixed is not None
    assert found.cut is not None
    assert (found.mixed.inside, found.mixed.outside) == (1, 0)
    assert found.cut.inside is not None
    assert found.cut.inside < 1  # the same area of a random map is elsewhere
    whole, _ = cells.measure("Grad-CAM", plain)
    assert whole.kept == 1
    assert whole.mixed is None


def squares(path: Path, *boxes: tuple[str, float, float, float, float], hole: list | None = None) -> Path:
    features = []
    for number, (name, left, top, right, bottom) in enumerate(boxes):
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        rings = [ring, hole] if hole and not number else [ring]
        properties = {"objectType": "annotation", "classification": {"name": name}}
        geometry = {"type": "Polygon", "coordinates": rings}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def grid_of(side: int, tile_px: int, scale: float = 1.0) -> TileGrid:
    return TileGrid((side, side), tile_px, (scale, scale), tile_px // 32)


def test_tiles_shifted_by_half_straddle_the_cells_of_a_mosaic(tmp_path: Path) -> None:
    path = squares(
        tmp_path / "m.truth.geojson", ("Benign", 0, 0, 448, 224), ("Malignant", 0, 224, 224, 448)
    )  # and no tissue at the bottom right
    fractions = class_fractions(path, CLASSES, grid_of(448, 224))
    assert fractions.shape == (2, 7, 7)
    benign, malignant = fractions
    np.testing.assert_allclose(benign[3, 0], 0.5)  # the border runs through the middle cells
    np.testing.assert_allclose(malignant[3], [0.5, 0.5, 0.5, 0.25, 0, 0, 0])
    assert (benign[:3].min(), benign[4:].max(), malignant[4:, :3].min()) == (1, 0, 1)
    np.testing.assert_allclose(by_tile(fractions, 7).mean((1, 2, 3)), (0.5, 0.25))


def test_the_smaller_outline_holds_and_holes_are_no_tissue(tmp_path: Path) -> None:
    hole = [[96, 96], [96, 160], [160, 160], [160, 96], [96, 96]]
    path = squares(tmp_path / "n.geojson", ("BENIGN", 0, 0, 256, 256), ("malignant", 112, 112, 128, 128), hole=hole)
    benign, malignant = class_fractions(path, CLASSES, grid_of(256, 64)) * 32**2
    assert malignant.sum() == 16**2
    assert benign.sum() == 192**2 - 64**2  # half a tile at each border is outside the shifted grid


def test_a_class_that_is_not_outlined_is_one_line(tmp_path: Path) -> None:
    path = squares(tmp_path / "b.truth.geojson", ("Benign", 0, 0, 64, 64))
    with pytest.raises(AnnotationError, match=r"b\.truth\.geojson: holds no outline of malignant"):
        class_fractions(path, CLASSES, grid_of(128, 64))


def test_shifted_tiles_are_the_slides_pixels() -> None:
    pixels = RNG.integers(0, 256, (200, 270, 3)).astype(np.uint8)
    with open_slide(pixels, mpp=0.5) as slide:
        bands = list(shifted_tiles(slide, TileGrid.over(slide, 64, 0.5).regular))
    assert [band.shape for band in bands] == [(3, 64, 64, 3)] * 2
    np.testing.assert_array_equal(bands[1][2], pixels[96:160, 160:224])
