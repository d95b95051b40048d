"""The result layers lie on the tissue they speak of, show what the store holds, and follow it while it grows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from scipy.ndimage import gaussian_filter

from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.model.threshold import DynamicThreshold, Scope
from napari_dala.plugin.viewer.cam_picture import CamView
from napari_dala.plugin.viewer.result_layers import ResultLayers
from napari_dala.results.analysis import Analysis
from napari_dala.results.loaded import load, read_blocks
from napari_dala.results.opening import create_store, for_bundle
from napari_dala.results.tile_results import RescoredTiles, TileResults, TileStatus
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def laid_over(slide_layer: Image, folder: Path) -> ResultLayers:
    viewer = ViewerModel()
    viewer.add_layer(slide_layer)
    return ResultLayers(viewer.layers, slide_layer, load(folder))


def slide_layer(grid: TileGrid, **placement: Any) -> Image:
    width, height = grid.slide_size
    return Image(np.zeros((height // 8, width // 8, 3), np.uint8)[:1, :1], rgb=True, **placement)


GRIDS = {
    "model's own mpp": TileGrid((2000, 1500), 224, (1.0, 1.0), 7),
    "finer slide": TileGrid((5000, 4100), 224, (0.5 / 0.236, 0.5 / 0.236), 7),
    "coarser in y than in x": TileGrid((2000, 1500), 224, (0.5 / 0.4, 0.5 / 0.45), 7),
    "overlap": TileGrid((2000, 1500), 224, (0.5 / 0.4, 0.5 / 0.4), 4),
}
PLACEMENTS: dict[str, dict[str, Any]] = {
    "pixels": {},
    "micrometres": {"scale": (0.236, 0.236), "units": ("um", "um")},
    "scaled and moved": {"scale": (3.0, 2.0), "translate": (-70.0, 1234.5)},
    "turned": {"scale": (0.5, 0.5), "translate": (10, 20), "rotate": 30, "affine": [[0, -1, 5], [1, 0, 7], [0, 0, 1]]},
}


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("grid", GRIDS)
def test_far_corner_lies_on_its_tissue(tmp_path: Path, painted: Any, grid: str, placement: str) -> None:
    tiles = GRIDS[grid]
    painted(tmp_path, tiles)
    slide = slide_layer(tiles, **PLACEMENTS[placement])
    results = laid_over(slide, tmp_path)
    left, top = (edges[-1] for edges in tiles.origins())
    width, height = tiles.tile_size

    tile = np.argwhere(np.asarray(results.probability.data) > 0.5)
    assert tile.tolist() == [[shape - 1 for shape in tiles.shape]]
    place = [(count - 1) * step for count, step in zip(tiles.shape, tiles.stride[::-1], strict=True)]  # not moved back
    on_slide = (place[0] + height / 2 - 0.5, place[1] + width / 2 - 0.5)  # napari's pixel centres are at whole numbers
    for layer in (results.probability, results.classes):
        np.testing.assert_allclose(layer.data_to_world(tile[0]), slide.data_to_world(on_slide), atol=1e-6)

    cell = np.argwhere(results.raw_cam(1) > 0)
    assert cell.tolist() == [[shape - 1 for shape in tiles.cam_shape]]
    side = (height / 7, width / 7)
    on_slide = (top + height - side[0] / 2 - 0.5, left + width - side[1] / 2 - 0.5)
    np.testing.assert_allclose(results.cam.data_to_world(cell[0]), slide.data_to_world(on_slide), atol=1e-6)
    # and the pixel is as large as the cell: its far corner is the tile's
    np.testing.assert_allclose(
        results.cam.data_to_world(cell[0] + 0.5),
        slide.data_to_world((top + height - 0.5, left + width - 0.5)),
        atol=1e-6,
    )
    assert results.tile_cam(*tile[0]).shape == (7, 7)
    assert results.tile_at(slide.data_to_world(np.subtract(tiles.slide_size[::-1], 1))) == tuple(tile[0])
    assert results.tile_at(slide.data_to_world(np.add(tiles.slide_size[::-1], 1))) is None


def test_layers_follow_the_slide_layer(tmp_path: Path, painted: Any) -> None:
    grid = GRIDS["overlap"]
    painted(tmp_path, grid)
    slide = slide_layer(grid)
    results = laid_over(slide, tmp_path)
    slide.scale, slide.translate, slide.units = (0.4, 0.4), (30, 40), ("um", "um")
    np.testing.assert_allclose(
        results.probability.data_to_world((0, 0)), slide.data_to_world(np.subtract(grid.tile_frame[1], 0.5))
    )
    assert {layer.units for layer in results.all} == {slide.units}


def test_overlapping_maps_are_composed_as_the_analysis_does(tmp_path: Path, painted: Any) -> None:
    store = painted(tmp_path, GRIDS["overlap"])
    store._arrays["cam"][:] = np.random.default_rng(0).random(store._arrays["cam"].shape)
    results = laid_over(slide_layer(store.grid), tmp_path)
    np.testing.assert_allclose(results.raw_cam(1), Analysis(store).cam(1), rtol=1e-6)


def test_what_was_not_analysed_is_transparent(tmp_path: Path, painted: Any) -> None:
    store = painted(tmp_path, GRIDS["model's own mpp"])
    store._arrays["scored"][0, 0] = 0
    results = laid_over(slide_layer(store.grid), tmp_path)
    assert np.isnan(results.probability.data[0, 0])
    assert results.probability.colormap.map(np.array([np.nan, 0.0]))[:, 3].tolist() == [0, 0]
    assert results.classes.data[0, 0] == 0
    assert not results.cam.data[:7, :7].any()
    assert results.tile_at(results.slide_layer.data_to_world((100, 100))) is None


def test_the_names_say_what_is_shown_and_by_whom(tmp_path: Path, painted: Any) -> None:
    painted(tmp_path, GRIDS["overlap"])
    results = laid_over(slide_layer(GRIDS["overlap"]), tmp_path)
    assert [layer.name for layer in results.all] == [
        "DT Grad-CAM: malignant · Image · painted",
        "Predicted class · Image · painted",
        "Malignant probability · Image · painted",
    ]
    assert [layer.metadata["dala_role"] for layer in results.all] == ["cam", "class", "probability"]
    assert [layer.visible for layer in results.all] == [False, False, True], "one map at a time"
    painted(tmp_path / "untrained", GRIDS["overlap"], UNTRAINED_CARD)
    results = laid_over(slide_layer(GRIDS["overlap"]), tmp_path / "untrained")
    assert all("(untrained)" in layer.name for layer in results.all)


def test_they_lie_above_the_slide_and_leave_the_selection(tmp_path: Path, painted: Any) -> None:
    painted(tmp_path, GRIDS["overlap"])
    viewer = ViewerModel()
    slide = viewer.add_layer(slide_layer(GRIDS["overlap"]))
    shapes = viewer.add_shapes()
    viewer.layers.selection = {slide}
    results = ResultLayers(viewer.layers, slide, load(tmp_path))
    assert list(viewer.layers) == [slide, results.probability, results.classes, results.cam, shapes]
    assert viewer.layers.selection == {slide}
    results.remove()
    assert list(viewer.layers) == [slide, shapes]


def test_new_tiles_appear_from_the_store(tmp_path: Path, painted: Any, explained: Any) -> None:
    store = painted(tmp_path, GRIDS["model's own mpp"])
    for name, value in (("scored", 0), ("exact", 0), ("status", TileStatus.TODO)):
        store._arrays[name][:] = value
    results = laid_over(slide_layer(store.grid), tmp_path)
    assert np.isnan(results.probability.data).all()
    probability = np.array([[0.2, 0.8]], np.float32)
    cam = np.stack([np.zeros((7, 7)), np.arange(49.0).reshape(7, 7)])[None]
    row, column = np.array([5]), np.array([6])
    store.write(TileResults(row, column, probability, cam, np.zeros((1, 2048))), [(5, 7)])
    results.add(read_blocks(store, [(1, 1)]))
    assert np.argwhere(np.isfinite(results.probability.data)).tolist() == [[5, 6]]
    assert results.probability.data[5, 6] == pytest.approx(0.8)
    assert results.classes.data[5, 6] == 2
    explained(results)
    assert results.cam.data[35:42, 42:49].max() == 1
    summary = results.analysis.summary()
    assert (summary.analysed, summary.unreadable) == (1, 1)
    assert "malignant" in results.describe(results.probability.data_to_world((5, 6)))


def test_a_new_head_shows_no_old_map_and_says_until_when_its_own_is_approximate(
    tmp_path: Path, painted: Any, explained: Any
) -> None:
    old = painted(tmp_path, GRIDS["model's own mpp"])
    store = for_bundle(old, "1" * 16, old.card)
    tile = np.array([5]), np.array([6])
    probability = np.array([[0.2, 0.8]], np.float32)
    cam = np.stack([np.zeros((7, 7)), np.arange(49.0).reshape(7, 7)])[None]
    store.write_rescored(RescoredTiles(*tile, probability, None))
    results = laid_over(slide_layer(store.grid), tmp_path)
    assert np.argwhere(np.isfinite(results.probability.data)).tolist() == [[5, 6]]
    assert not np.nan_to_num(results.cam.data).any()
    assert results.cam.name.split(" · ")[0].endswith(": malignant (approximate)")

    store.write_rescored(RescoredTiles(*tile, probability, cam))
    results.add(read_blocks(store, [(1, 1)]))
    explained(results)
    assert results.cam.data[35:42, 42:49].max() == 1
    assert results.cam.name.split(" · ")[0].endswith(": malignant (approximate)")

    store.write(TileResults(*tile, probability, cam, np.zeros((1, 2048))), [])
    results.add(read_blocks(store, [(1, 1)]))
    assert results.cam.name.split(" · ")[0].endswith(": malignant")


def test_unfamiliar_tissue_is_hatched(tmp_path: Path, painted: Any) -> None:
    old = painted(tmp_path, GRIDS["model's own mpp"])
    assert laid_over(slide_layer(old.grid), tmp_path).unfamiliar is None, "the model does not know"
    card = {**old.card, "name": "knowing"}
    store = create_store(old.path, old.setting, slide=old.slide, bundle_hash="2" * 16, card=card, knows_unfamiliar=True)
    tiles = np.array([5, 5]), np.array([6, 7])
    probability, cam = np.full((2, 2), 0.5, np.float32), np.ones((2, 2, 7, 7))
    results = laid_over(slide_layer(store.grid), tmp_path)
    assert not np.asarray(results.unfamiliar.data).any()
    store.write(TileResults(*tiles, probability, cam, np.zeros((2, 2048)), None, np.array([1.2, 0.9])), [])
    results.add(read_blocks(store, [(1, 1)]))
    assert results.analysis.unfamiliar[5, 6]
    assert results.analysis.summary().unfamiliar == 1
    hatched = np.asarray(results.unfamiliar.data)
    assert np.argwhere(hatched).tolist() == [[5, 6]]
    assert results.all[0] is results.unfamiliar
    assert results.unfamiliar.name.split(" · ")[0] == "Unfamiliar tissue"
    np.testing.assert_allclose(results.unfamiliar.scale, results.probability.scale)
    np.testing.assert_allclose(results.unfamiliar.translate, results.probability.translate)


def test_threshold_and_explanation_need_no_model(tmp_path: Path, painted: Any, explained: Any) -> None:
    painted(tmp_path, GRIDS["model's own mpp"])
    results = laid_over(slide_layer(GRIDS["model's own mpp"]), tmp_path)
    assert (np.asarray(results.classes.data) == 2).sum() == 1
    results.set_threshold(0.05)
    assert (np.asarray(results.classes.data) == 2).all()
    results.explain(CamView(1, True, DynamicThreshold(min_area_um2=0)))
    explained(results)
    assert results.cam.data[-1, -1] == 1
    results.explain(CamView(1, True, DynamicThreshold(min_area_um2=1000)))
    explained(results)
    assert not results.cam.data.any()
    results.explain(CamView(0, thresholded=False))
    assert results.cam.name.split(" · ")[0] == "Grad-CAM: benign"


def test_a_shown_grad_cam_dims_the_probability_unless_the_user_chose_its_opacity(tmp_path: Path, painted: Any) -> None:
    painted(tmp_path, GRIDS["overlap"])
    results = laid_over(slide_layer(GRIDS["overlap"]), tmp_path)
    plain = results.probability.opacity
    results.cam.visible = True
    assert results.probability.visible
    assert results.probability.opacity < plain / 3
    results.cam.visible = False
    assert results.probability.opacity == plain
    results.probability.opacity = 0.9
    results.cam.visible = True
    assert results.probability.opacity == 0.9


def test_the_probability_is_of_the_class_that_is_explained(tmp_path: Path, painted: Any, explained: Any) -> None:
    store = painted(tmp_path, GRIDS["model's own mpp"])
    results = laid_over(slide_layer(store.grid), tmp_path)
    results.explain(CamView(0))
    assert results.probability.name.split(" · ")[0] == "Benign probability"
    assert np.nanmin(results.probability.data) == pytest.approx(0.1), "where the malignant tile is"
    tile = np.array([0]), np.array([0])
    store.write(TileResults(*tile, np.array([[0.3, 0.7]], np.float32), np.ones((1, 2, 7, 7)), np.zeros((1, 2048))), [])
    results.add(read_blocks(store, [(0, 0)]))
    assert results.probability.data[0, 0] == pytest.approx(0.3), "it does not follow the store"
    explained(results)
    results.explain(CamView(1))
    explained(results)
    assert results.probability.name.split(" · ")[0] == "Malignant probability"


@pytest.mark.parametrize("scope", get_args(Scope))
def test_above_the_most_strength_nothing_is_left(tmp_path: Path, painted: Any, explained: Any, scope: Scope) -> None:
    store = painted(tmp_path, GRIDS["model's own mpp"])
    cam = np.random.default_rng(0).random(store._arrays["cam"].shape)
    store._arrays["cam"][:] = gaussian_filter(cam, (0, 1, 1))
    results = laid_over(slide_layer(store.grid), tmp_path)
    for area in (400.0, 1500.0):
        results.explain(CamView(1, True, DynamicThreshold(scope=scope, min_area_um2=area)))
        explained(results)
        most = results.most_strength
        for strength, left in ((most, True), (most + 0.01, False)):
            results.explain(CamView(1, True, DynamicThreshold(scope=scope, min_area_um2=area, strength=strength)))
            explained(results)
            assert bool(np.asarray(results.cam.data).any()) is left
            assert results.most_strength == most


def test_a_layer_that_the_user_removed_is_left_alone(tmp_path: Path, painted: Any) -> None:
    painted(tmp_path, GRIDS["overlap"])
    results = laid_over(slide_layer(GRIDS["overlap"]), tmp_path)
    results._layers.remove(results.cam)
    results.add(read_blocks(results.analysis.store, [(0, 0)]))
    results.set_threshold(0.3)
    results.remove()


def test_what_is_in_view_is_explained_first_and_as_in_the_whole(tmp_path: Path, painted: Any, explained: Any) -> None:
    grid = TileGrid((9000, 9000), 224, (1.0, 1.0), 7)
    store = painted(tmp_path, grid)
    store._arrays["cam"][:] = gaussian_filter(np.random.default_rng(0).random(store._arrays["cam"].shape), (0, 2, 2))
    results = laid_over(slide_layer(grid), tmp_path)
    before = np.asarray(results.cam.data).copy()
    for scope in get_args(Scope):
        seen: list[tuple[Any, ...]] = []
        results._explainer.part_made.connect(lambda *made, seen=seen: seen.append((*made, results.cam.data.copy())))
        results.explain(CamView(1, True, DynamicThreshold(scope=scope, strength=0.9)), (2300, 1200, 3200, 2000))
        np.testing.assert_array_equal(results.cam.data, before, "the caller does not wait")
        explained(results)
        _, (rows, columns), picture, layer = seen.pop()
        assert (rows.start, columns.start) == (4 * 7, 9 * 7), "one tile around the view"
        assert (rows.stop, columns.stop) == (10 * 7, 16 * 7)
        after = np.asarray(results.cam.data)
        inner = slice(7, -7), slice(7, -7)
        np.testing.assert_allclose(picture[inner], after[rows, columns][inner], atol=1e-6)
        np.testing.assert_array_equal(layer[rows, columns], picture)
        np.testing.assert_array_equal(layer[: rows.start], before[: rows.start], "the rest came later")
        assert not np.array_equal(after[: rows.start], before[: rows.start])
        before = after.copy()


def test_of_many_moves_of_a_slider_the_last_one_is_shown(tmp_path: Path, painted: Any, explained: Any) -> None:
    store = painted(tmp_path, GRIDS["model's own mpp"])
    store._arrays["cam"][:] = np.random.default_rng(0).random(store._arrays["cam"].shape)
    results = laid_over(slide_layer(store.grid), tmp_path)
    made: list[CamView] = []
    results._explainer.made.connect(lambda explanation, _: made.append(explanation))
    for strength in np.linspace(0.5, 1.5, 30):
        results.explain(CamView(1, True, DynamicThreshold(strength=float(strength))))
    explained(results)
    assert made[-1] == results.explanation
    assert len(made) < 30, "each was computed"
    expected = results.explanation.rule(results.raw_cam(1), cell_um=results.analysis.cell_um, tile_cells=7)
    np.testing.assert_array_equal(results.cam.data, expected.map)


@pytest.mark.parametrize("grows", [False, True], ids=["there before", "comes while it runs"])
def test_ink_and_blur_are_a_hidden_layer_where_there_are_any(tmp_path: Path, painted: Any, grows: bool) -> None:
    store = painted(tmp_path, GRIDS["model's own mpp"])
    artefacts = np.zeros(store.grid.shape, np.uint8)
    artefacts[1, 2], artefacts[2, 0] = TileStatus.INK, TileStatus.BLUR
    if grows:
        results = laid_over(slide_layer(store.grid), tmp_path)
        assert results.left_out is None
        results.mark(store.mark_background(store.status == TileStatus.DONE, artefacts))
    else:
        store.mark_background(store.status == TileStatus.DONE, artefacts)
        results = laid_over(slide_layer(store.grid), tmp_path)
    layer = results.left_out
    assert layer is not None
    assert layer.name.split(" · ")[0] == "Ink and blur"
    assert not layer.visible
    assert (layer.data[1, 2], layer.data[2, 0], np.count_nonzero(layer.data)) == (1, 2, 2)
    np.testing.assert_allclose(layer.scale, results.classes.scale)
    np.testing.assert_allclose(layer.translate, results.classes.translate)
    assert not results.analysis.analysed[1, 2]
    results.end_names(" (other)")
    assert layer.name == "Ink and blur · Image · painted (other)"
    results.remove()
    assert layer not in results._layers


@pytest.mark.timed
def test_10_000_tiles_are_shown_within_50_ms(tmp_path: Path, painted: Any) -> None:
    grid = TileGrid((22400, 22400), 224, (1.0, 1.0), 7)
    store = painted(tmp_path, grid)
    store._arrays["cam"][:] = np.random.default_rng(0).random(store._arrays["cam"].shape)
    results = laid_over(slide_layer(grid), tmp_path)

    def fastest(call: Callable[[], None]) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(lambda: results.set_threshold(0.4)) < 0.05
    assert fastest(lambda: results.explain(CamView(1, True, DynamicThreshold(strength=1.2)))) < 0.05
    every_block = read_blocks(store, np.ndindex(25, 25))  # as after re-scoring the whole slide
    assert fastest(lambda: results.add(every_block)) < 0.05
