from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import zarr

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.engine import analyze
from napari_dala.analysis.rescore import approximate_cam, rescore
from napari_dala.model.gradcam import cam_weights
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import for_bundle, open_store, reseal
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle_head import BundleHead
    from napari_dala.results.progress import Progress
    from napari_dala.results.store import AnalysisStore


@pytest.fixture
def folder(seen: Path, tmp_path: Path) -> Path:
    """A copy of the analysis by the first head."""
    return shutil.copytree(seen, tmp_path / "analysis")


@pytest.fixture(scope="module")
def fresh(
    drawn_slide: Path, with_basis: Predictor, new_head: BundleHead, tmp_path_factory: pytest.TempPathFactory
) -> Analysis:
    """What the network itself finds with the new head."""
    with open_slide(drawn_slide) as slide:
        return analyze(slide, with_basis.with_bundle(new_head), tmp_path_factory.mktemp("fresh"))


def _opened(folder: Path, head: BundleHead) -> AnalysisStore:
    return for_bundle(open_store(folder / "analysis.zarr"), head.hash, head.card.model_dump(mode="json"))


def _blocks(tiles: np.ndarray) -> set[tuple[int, int]]:
    return {(int(row) // 4, int(column) // 4) for row, column in np.argwhere(tiles)}


def _tiles(analysis: Analysis) -> np.ndarray:
    """CAMs of all tiles, (classes, n, cells * cells)."""
    cells, (rows, columns) = analysis.grid.cells, analysis.grid.shape
    cams = analysis.store.read("cam").astype(np.float32).reshape(-1, rows, cells, columns, cells)
    return cams.swapaxes(2, 3)[:, analysis.analysed].reshape(len(cams), -1, cells * cells)


def test_a_new_head_scores_what_is_stored_as_the_network_would(
    folder: Path, new_head: BundleHead, fresh: Analysis
) -> None:
    reports: list[Progress] = []
    store = _opened(folder, new_head)
    count = rescore(store, new_head, on_progress=reports.append)
    found = Analysis.open(folder)
    assert found.card == new_head.card
    assert np.array_equal(found.analysed, fresh.analysed)
    there = found.analysed
    assert count == there.sum() == reports[-1].done == reports[-1].total == reports[-1].approximate
    assert {block for report in reports for block in report.blocks} == _blocks(there)
    expected = fresh.probability[:, there]
    assert expected.max(1).min() > 0.6, "the head tells nothing apart"
    off = np.abs(found.probability[:, there] - expected)
    # Means are stored as float16 and the head is steep: 0.0011 at most was seen where a processor has AVX-512's bf16.
    assert off.max() < 2e-3
    assert np.median(off) < 2e-4
    assert np.array_equal(found.approximate, there)
    assert not fresh.approximate.any()
    assert any(f"Grad-CAM of {count} tiles is approximate" in line for line in found.warnings)

    near_limit = np.abs(fresh.store.read("unfamiliarity")[there] - 1) < 0.01
    assert np.array_equal(found.unfamiliar[there][~near_limit], fresh.unfamiliar[there][~near_limit])
    assert 0 < fresh.unfamiliar.sum() < there.sum()
    assert fresh.summary().unfamiliar == fresh.unfamiliar.sum()
    assert any("unlike" in line for line in fresh.warnings)

    exact, near = _tiles(fresh), _tiles(found)
    some = (exact.std(2) > 0) & (near.std(2) > 0)
    assert some.mean() > 0.3
    correlation = [np.corrcoef(*pair)[0, 1] for pair in zip(exact[some], near[some], strict=True)]
    assert np.median(correlation) > 0.99
    scale = exact[some].mean(1)
    assert np.median(np.abs(near[some].mean(1) - scale) / scale) < 0.02

    reports.clear()
    assert rescore(store, new_head, on_progress=reports.append) == 0
    assert reports == []


def test_the_mean_of_an_approximate_map_before_the_relu_is_exact(folder: Path, new_head: BundleHead) -> None:
    store = open_store(folder / "analysis.zarr")
    means, stored = (torch.from_numpy(store.read(name)[1, :4]).float() for name in ("features", "layer4"))
    _, weights = cam_weights(new_head.network, means, 49)
    weights += weights.abs().max()  # no negative cell, which the relu would cut
    assert new_head.basis is not None
    maps = approximate_cam(stored, means, weights, new_head.basis)
    assert maps.min() > 0
    torch.testing.assert_close(maps.mean((2, 3)), (weights * means[:, None]).sum(2), rtol=1e-4, atol=1e-4)


def test_without_projected_maps_the_old_cam_is_not_shown(folder: Path, new_head: BundleHead, fresh: Analysis) -> None:
    store = open_store(folder / "analysis.zarr")
    del zarr.open_group(store.path)[store.setting.key]["layer4"]
    reseal(store.path)  # as if it had never been there
    rescore(_opened(folder, new_head), new_head)
    found = Analysis.open(folder)
    assert np.array_equal(found.analysed, fresh.analysed)
    assert np.array_equal(found.approximate, found.analysed)
    assert np.isnan(found.cam(0)).all()


def test_it_follows_the_view_can_be_stopped_and_goes_on(
    folder: Path, new_head: BundleHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_dala.analysis.rescore._BLOCKS_AT_ONCE", 1)
    store, control = _opened(folder, new_head), RunControl()
    done = store.status == TileStatus.DONE
    last = max(_blocks(done))
    left, top = (float(edges[4 * index]) for edges, index in zip(store.grid.origins(), last[::-1], strict=True))
    control.look_at((left + 1, top + 1, left + 900, top + 900))
    blocks: list[tuple[int, int]] = []

    def stop(progress: Progress) -> None:
        blocks.extend(progress.blocks)
        control.cancel()

    first = rescore(store, new_head, control, stop)
    assert blocks == [last]
    assert first == store.scored.sum() == done[4 * last[0] : 4 * last[0] + 4, 4 * last[1] : 4 * last[1] + 4].sum()
    assert rescore(store, new_head) == done.sum() - first > 0


def test_tiles_that_the_trunk_has_not_seen_are_left_alone(folder: Path, new_head: BundleHead) -> None:
    store = _opened(folder, new_head)
    status = store.status
    status[0, :3] = TileStatus.TODO
    status[0, 3] = TileStatus.UNREADABLE
    store._arrays["status"][:] = status
    reports: list[Progress] = []
    rescore(store, new_head, on_progress=reports.append)
    assert np.array_equal(store.scored, status == TileStatus.DONE)
    assert reports[-1].unreadable == 1
    assert reports[-1].total - reports[-1].done == 3


def test_results_of_one_bundle_are_not_written_under_another(
    folder: Path, new_head: BundleHead, with_basis: Predictor
) -> None:
    with pytest.raises(ValueError, match="not those of three kinds"):
        rescore(open_store(folder / "analysis.zarr"), new_head)
    old = open_store(folder / "analysis.zarr").bundle_hash
    _opened(folder, new_head)
    assert open_store(folder / "analysis.zarr").bundle_hash == new_head.hash
    card = with_basis.bundle.card.model_dump(mode="json")
    before = for_bundle(_opened(folder, new_head), old, card)
    assert before.scored.any()
    _opened(folder, new_head)
    before.make_latest()
    assert open_store(folder / "analysis.zarr").bundle_hash == old


def test_a_store_from_before_cams_could_be_approximate_is_exact(folder: Path, with_basis: Predictor) -> None:
    store = open_store(folder / "analysis.zarr")
    scored = store.scored
    del zarr.open_group(store.path)[store.setting.key][store.bundle_hash[:12]]["exact"]
    reseal(store.path)
    old = Analysis.open(folder)
    assert np.array_equal(old.store.exact, scored)
    assert np.array_equal(old.store.read("exact", (0, 0)), scored[:4, :4])
    assert not old.approximate.any()
    again = for_bundle(old.store, old.store.bundle_hash, old.store.card)
    assert np.array_equal(again._arrays["exact"][:], scored)
