from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from shapely import box

from napari_dala.analysis import plan
from napari_dala.analysis.control import RunControl
from napari_dala.analysis.engine import analyze
from napari_dala.analysis.reading import read_block
from napari_dala.errors import DalaError, SlideError
from napari_dala.inference.predictor import Prediction, Predictor
from napari_dala.inference.sampler import Sampler
from napari_dala.inference.streams import Streams
from napari_dala.model.bundle import ModelBundle, load_model, seeded_network
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import open_store
from napari_dala.results.progress import Progress
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import read_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.bundle_head import BundleHead

SMALL_REGION = "slides/CMU-1-Small-Region.svs"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and a third of the pixels that the default model sees of a slide, in tiles nearly as wide."""
    card = UNTRAINED_CARD.model_copy(update={"tile_px": 96, "mpp": 0.9, "name": "small"})
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    ModelBundle(seeded_network(2), card).as_stored().save(path)
    return path


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor(load_model(str(model)))


@pytest.fixture(scope="module")
def whole(mosaic: Path, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """An uninterrupted run over the mosaic."""
    with open_slide(mosaic) as slide:
        return analyze(slide, predictor, tmp_path_factory.mktemp("whole"))


def _same(first: Analysis, second: Analysis) -> None:
    for name in ("status", "scored", "exact", "probability", "cam", "features"):
        assert np.array_equal(first.store.read(name), second.store.read(name), equal_nan=name in ("probability", "cam"))


def test_every_tissue_tile_of_a_real_slide_is_done_once(
    shared_data: Path, predictor: Predictor, tmp_path: Path
) -> None:
    reports: list[Progress] = []
    with open_slide(shared_data / SMALL_REGION) as slide:
        first = analyze(slide, predictor, tmp_path, on_progress=reports.append)
        tissue = first.status != TileStatus.BACKGROUND
        assert 0.2 < tissue.mean() < 0.8
        assert (first.status[tissue] == TileStatus.DONE).all()
        assert reports[0].done == 0
        assert reports[-1].done == reports[-1].total == tissue.sum()
        found = first.probability[:, tissue]
        assert np.isfinite(found).all()
        assert np.abs(found.sum(0) - 1).max() < 1e-6
        assert np.isnan(first.probability[:, ~tissue]).all()

        reports.clear()
        again = analyze(slide, predictor, tmp_path, on_progress=reports.append)
        assert len(reports) == 1  # nothing was left to do
        assert reports[0].done == reports[0].total
        _same(first, again)


def test_stored_maps_are_those_of_the_network(mosaic: Path, predictor: Predictor, whole: Analysis) -> None:
    row, column = (int(index) for index in np.argwhere(whole.analysed)[7])
    with open_slide(mosaic) as slide:
        block = read_block(
            Sampler(slide, whole.grid, predictor.device), whole.analysed, (row // 4, column // 4), [(row, column)]
        )
        (near,) = predictor(read_tiles(slide, whole.grid, row, column, 1, 1)[None]).probability
    with Streams(predictor.device, predictor) as streams:  # with as many threads for a batch as the run had
        _, alone = [*streams.submit(None, block.pixels), *streams.rest()][0]
    assert near == pytest.approx(whole.probability[:, row, column], abs=5e-3)  # resampled from another corner
    assert np.array_equal(whole.probability[:, row, column], alone.probability[0])
    cells = whole.grid.cells
    part = whole.store.read("cam")[:, row * cells : (row + 1) * cells, column * cells : (column + 1) * cells]
    assert np.array_equal(part, alone.cam[0].astype(np.float16))
    means = torch.from_numpy(whole.store.read("features")[row, column]).float()
    logits = predictor.network.head_from_means(means[None]).detach()
    again = predictor.bundle.probabilities(logits)[0].numpy()
    assert again == pytest.approx(whole.probability[:, row, column], abs=2e-3)  # means are kept in float16


def test_a_run_killed_part_way_and_resumed_equals_an_uninterrupted_one(
    mosaic: Path, model: Path, whole: Analysis, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-c",
        "from napari_dala.cli import main; main()",
        "analyze",
        str(mosaic),
        "--model",
        str(model),
        "--out",
        str(tmp_path),
    ]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    done = 0
    while not done:
        assert run.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
        stores = list(tmp_path.glob("*/analysis.zarr"))
        try:
            done = int((open_store(stores[0]).status == TileStatus.DONE).sum()) if stores else 0
        except DalaError:
            done = 0  # being made
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    folder = next(tmp_path.glob("*/analysis.zarr")).parent
    part = Analysis.open(folder)
    assert 0 < part.analysed.sum() < whole.analysed.sum()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    _same(Analysis.open(folder), whole)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_batches_in_several_streams_end_up_with_their_own_tiles(
    mosaic: Path, predictor: Predictor, whole: Analysis, tmp_path: Path, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)  # a stream each; test processes that share the cores have one
    try:
        with open_slide(mosaic) as slide:
            assert Streams(predictor.device, predictor).count == threads
            _same(analyze(slide, predictor, tmp_path), whole)
    finally:
        torch.set_num_threads(before)


def test_an_undecodable_tile_is_marked_and_the_rest_is_right(
    broken_mosaic: tuple[Path, tuple[int, int]], predictor: Predictor, whole: Analysis, tmp_path: Path
) -> None:
    path, (x, y) = broken_mosaic
    reports: list[Progress] = []
    with open_slide(path) as slide:
        found = analyze(slide, predictor, tmp_path, on_progress=reports.append)
    unreadable = found.status == TileStatus.UNREADABLE
    assert 0 < unreadable.sum() == reports[-1].unreadable <= 16
    left, top = found.grid.origins()
    width, height = found.grid.tile_size
    more = 17 * found.grid.scale[0]  # what is read of the slide begins and ends up to 17 model px beside a tile
    beside_x = (left[None] - more < x + 512) & (left[None] + width + more > x)
    beside_y = (top[:, None] - more < y + 512) & (top[:, None] + height + more > y)
    assert (unreadable <= (beside_x & beside_y)).all()
    assert np.isnan(found.probability[:, unreadable]).all()
    rest = found.analysed
    assert (rest == (whole.analysed & ~unreadable)).all()
    assert np.abs(found.probability[:, rest] - whole.probability[:, rest]).max() < 5e-3
    far = rest.copy()
    for row, column in np.argwhere(unreadable) // 4 * 4:
        far[row : row + 4, column : column + 4] = False  # tiles beside a bad one are read one by one
    assert far.sum() > 20
    assert np.array_equal(found.probability[:, far], whole.probability[:, far])
    assert any(f"{unreadable.sum()} tile" in warning for warning in found.warnings)


def test_cancel_keeps_what_was_done(mosaic: Path, predictor: Predictor, whole: Analysis, tmp_path: Path) -> None:
    control = RunControl()

    def stop_soon(progress: Progress) -> None:
        if progress.done:
            control.cancel()

    with open_slide(mosaic) as slide:
        part = analyze(slide, predictor, tmp_path, on_progress=stop_soon, control=control)
        assert 0 < part.analysed.sum() < whole.analysed.sum()
        _same(analyze(slide, predictor, tmp_path), whole)


def test_a_new_head_scores_at_once_and_its_maps_follow_exactly(
    drawn_slide: Path,
    seen: Path,
    with_basis: Predictor,
    new_head: BundleHead,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(seen, tmp_path / "analysis")
    predictor = with_basis.with_bundle(new_head)
    predictor.batch_size = 1  # to stop between two blocks of few
    run = Predictor._predict
    monkeypatch.setattr(Predictor, "_predict", lambda self, *args: time.sleep(0.05) or run(self, *args))
    control, reports = RunControl(), list[Progress]()
    tissue, scored_before_pixels = plan.tissue_tiles, list[int]()

    def counted(*arguments: Any) -> np.ndarray:
        scored_before_pixels.append(int(open_store(folder / "analysis.zarr").scored.sum()))
        return tissue(*arguments)

    def stop_after_the_first_block(progress: Progress) -> None:
        reports.append(progress)
        if progress.done == progress.total and progress.approximate < progress.total:
            control.cancel()

    monkeypatch.setattr(plan, "tissue_tiles", counted)
    with open_slide(drawn_slide) as slide:
        part = analyze(slide, predictor, folder, on_progress=stop_after_the_first_block, control=control)
        tiles = int(part.analysed.sum())
        assert scored_before_pixels == [tiles] == [reports[0].total]
        assert reports[0].blocks
        assert reports[0].approximate == tiles
        assert 0 < part.approximate.sum() == reports[-1].approximate < tiles
        assert reports[-1].done == tiles
        assert reports[-1].seconds_left

        reports.clear()
        done = analyze(slide, predictor, folder, on_progress=reports.append)
        assert (reports[0].done, reports[0].approximate) == (tiles, int(part.approximate.sum()))
        assert (reports[-1].done, reports[-1].approximate, reports[-1].seconds_left) == (tiles, 0, 0)
        assert not done.approximate.any()
        assert not any("approximate" in line for line in done.warnings)
        _same(done, analyze(slide, predictor, tmp_path / "fresh"))


def test_another_trunk_is_not_taken_over(predictor: Predictor, new_head: BundleHead) -> None:
    with pytest.raises(ValueError, match="another trunk"):
        predictor.with_bundle(new_head)


class _Instant(Predictor):
    """Knows the answer at once, so that a large slide costs nothing."""

    def __call__(self, tiles: list[torch.Tensor]) -> Prediction:
        count = sum(map(len, tiles))
        time.sleep(0.002 * count)
        zeros = np.zeros((count, 2048), np.float32)
        return Prediction(np.full((count, 2), 0.5, np.float32), zeros[:, :98].reshape(-1, 2, 7, 7), zeros, None)


def test_tiles_in_view_come_first_and_moving_the_view_reorders(tmp_path: Path) -> None:
    side = 40 * 224
    slide = open_slide(np.zeros((side, side, 3), np.uint8), mpp=0.5)  # 10 x 10 blocks
    step = 4 * 224
    views = [(0.0, 0.0, 2 * step - 1.0, 2 * step - 1.0), (8.0 * step, 8.0 * step, side, side)]
    control = RunControl()
    control.look_at(views[0])
    order: list[tuple[int, int]] = []

    def note(progress: Progress) -> None:
        if not order and progress.blocks:  # the first that is stored; then several are stored together
            control.look_at(views[1])
        order.extend(progress.blocks)
        if len(order) >= 20:
            control.cancel()

    analyze(slide, _Instant(load_model("untrained")), tmp_path, on_progress=note, control=control)
    assert set(order[:2]) <= {(0, 0), (0, 1), (1, 0), (1, 1)}
    moved = order.index(next(block for block in order if min(block) >= 8))
    assert moved <= 10 + torch.get_num_threads()  # those read ahead, in the network and waiting to be written
    assert {(8, 8), (8, 9), (9, 8), (9, 9)} == set(order[moved : moved + 4])


def test_only_the_region_is_done_and_the_rest_can_follow(
    mosaic: Path, predictor: Predictor, whole: Analysis, tmp_path: Path
) -> None:
    with open_slide(mosaic) as slide:
        part = analyze(slide, predictor, tmp_path, region=[box(1200, 1200, 3000, 2600)])
        (step_y, step_x), (first_y, first_x) = part.grid.tile_frame
        row, column = np.nonzero(part.analysed)
        assert ((first_x + column * step_x > 1200) & (first_x + column * step_x < 3000)).all()
        assert ((first_y + row * step_y > 1200) & (first_y + row * step_y < 2600)).all()
        assert part.summary().todo == whole.analysed.sum() - part.analysed.sum()
        _same(analyze(slide, predictor, tmp_path), whole)


def test_settings_and_models_never_mix(mosaic: Path, predictor: Predictor, whole: Analysis, tmp_path: Path) -> None:
    with open_slide(mosaic) as slide:
        region = [box(1000, 1000, 2200, 2200)]
        first = analyze(slide, predictor, tmp_path, region=region)
        other = analyze(slide, predictor, tmp_path, region=region, overlap=0.5)
        assert other.grid.stride_cells == 2  # half of 3, rounded to whole cells
        assert other.store.setting.key != first.store.setting.key
        assert other.cam(1).shape == other.grid.cam_shape
        assert Analysis.open(tmp_path).grid == other.grid  # what was done last opens
        fp32 = analyze(slide, Predictor(predictor.bundle, precision="fp32"), tmp_path, region=region)
        assert (fp32.store.setting.key != first.store.setting.key) == (predictor.precision != "fp32")
        there = first.analysed
        assert np.abs(fp32.probability[:, there] - first.probability[:, there]).max() < 0.02


def test_a_slide_without_tissue_is_done_at_once(predictor: Predictor, tmp_path: Path) -> None:
    blank = open_slide(np.full((900, 900, 3), 243, np.uint8), mpp=0.5)
    blank.is_photograph = False
    reports: list[Progress] = []
    found = analyze(blank, predictor, tmp_path, on_progress=reports.append)
    assert not found.analysed.any()
    assert reports[-1].total == 0
    assert found.summary().share == {"benign": 0.0, "malignant": 0.0}


def test_a_photograph_is_analysed_whole(shared_data: Path, predictor: Predictor, tmp_path: Path) -> None:
    path = next((shared_data / "breakhis-100x").rglob("SOB_M_*.jpg"))
    with pytest.raises(SlideError, match="--mpp"), open_slide(path) as slide:
        analyze(slide, predictor, tmp_path)
    with open_slide(path, mpp=0.65) as slide:
        assert analyze(slide, predictor, tmp_path).analysed.all()


def test_devices_and_precisions_that_are_not_there_are_refused(predictor: Predictor) -> None:
    with pytest.raises(DalaError, match="there is: cpu"):
        Predictor(predictor.bundle, device="cuda:7")
    with pytest.raises(DalaError, match="no-such"):
        Predictor(predictor.bundle, device="no-such")
    with pytest.raises(DalaError, match="fp32"):
        Predictor(predictor.bundle, precision="fp8")


def test_out_of_memory_halves_the_batch_and_goes_on(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = np.random.default_rng(0).integers(0, 255, (6, 96, 96, 3), np.uint8)
    expected = predictor(tiles)
    real = Predictor._predict

    def small(self: Predictor, tiles: torch.Tensor, size: int) -> object:
        if size > 2:
            raise torch.OutOfMemoryError
        return real(self, tiles, size)

    monkeypatch.setattr(Predictor, "_predict", small)
    monkeypatch.setattr(predictor, "batch_size", 8)
    found = predictor(tiles)
    assert found.probability == pytest.approx(expected.probability, abs=1e-3)
    assert found.cam == pytest.approx(expected.cam, abs=0.01 * float(expected.cam.max()))
    assert predictor.batch_size == 2


def test_another_thread_that_halves_the_batch_loses_no_tile(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = np.random.default_rng(3).integers(0, 255, (6, 96, 96, 3), np.uint8)
    monkeypatch.setattr(predictor, "batch_size", 4)
    expected = predictor(tiles)
    real = Predictor._predict

    def halved_meanwhile(self: Predictor, tiles: torch.Tensor, size: int) -> object:
        self.batch_size = 2
        return real(self, tiles, size)

    monkeypatch.setattr(Predictor, "_predict", halved_meanwhile)
    assert np.array_equal(predictor(tiles).probability, expected.probability)
    assert predictor.batch_size == 2


def test_a_predictor_goes_when_nobody_has_it(predictor: Predictor) -> None:
    """Its memory is wanted for the next one, on a GPU more than elsewhere."""
    other = predictor.with_bundle(predictor.bundle)
    gone = weakref.ref(other)
    gc.disable()
    try:
        del other
        assert gone() is None
    finally:
        gc.enable()


def test_a_tile_gives_the_same_bits_wherever_it_stands_in_a_batch(predictor: Predictor) -> None:
    tiles = np.random.default_rng(2).integers(0, 255, (2 * predictor.batch_size, 96, 96, 3), np.uint8)
    first = predictor(tiles[: predictor.batch_size])
    for shift in (1, 3, 5):
        moved = predictor(tiles[shift : shift + predictor.batch_size])
        for name in ("probability", "cam", "features"):
            assert np.array_equal(getattr(moved, name)[:-shift], getattr(first, name)[shift:])


def test_folding_batch_norm_changes_nothing_that_matters(predictor: Predictor) -> None:
    exact = Predictor(predictor.bundle, precision="fp32")
    tiles = np.random.default_rng(1).integers(0, 255, (2, 96, 96, 3), np.uint8)
    inputs = exact.inputs(tiles)
    with torch.no_grad():
        plain = predictor.bundle.network(inputs)
    assert torch.allclose(exact.forward(inputs), plain, atol=1e-4)
    assert torch.allclose(exact.forward_cam(inputs)[0], plain, atol=1e-4)
