from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_dala.analysis.reasons import MOST, tile_reasons
from napari_dala.analysis.worker import Worker
from napari_dala.errors import DalaError
from napari_dala.model.gradcam import head_grad_cam
from napari_dala.results.opening import open_store
from napari_dala.results.reasons import TileReasons
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import read_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle_head import BundleHead
    from napari_dala.results.store import AnalysisStore

TILE = (3, 2)


@pytest.fixture
def store(seen: Path) -> AnalysisStore:
    return open_store(seen / "analysis.zarr")


def test_gates_contributions_and_maps_are_those_of_the_network(
    drawn_slide: Path, store: AnalysisStore, with_basis: Predictor
) -> None:
    network = with_basis.network
    with open_slide(drawn_slide) as slide, torch.inference_mode():
        maps = with_basis.trunk(with_basis.inputs(read_tiles(slide, store.grid, *TILE, 1, 1)[None])).float()
    means = maps.mean((2, 3)).clone().requires_grad_()
    gates = network.attention.gains(means)
    pooled = means * (1 + gates)
    pooled.retain_grad()
    logit = network.head(pooled)[0, 1]
    logit.backward()
    expected = (pooled.grad * pooled)[0].detach().numpy()

    found = tile_reasons(store, with_basis.bundle, TILE, 1)
    assert found.logit == pytest.approx(float(logit.detach()), abs=1e-2)
    assert (len(found.channels), found.of) == (MOST, 2048)
    assert [one.share for one in found.channels] == sorted((one.share for one in found.channels), reverse=True)
    strongest = np.sort(np.abs(expected))[::-1]
    for place, one in enumerate(found.channels):
        assert one.contribution == pytest.approx(expected[one.channel], rel=0.05, abs=1e-4)
        assert abs(one.contribution) == pytest.approx(strongest[place], rel=0.05, abs=1e-4)
        assert one.share == pytest.approx(abs(expected[one.channel]) / np.abs(expected).sum(), rel=0.05)
        assert one.gain == pytest.approx(1 + float(gates[0, one.channel].detach()), abs=1e-3)
        activity = np.array(one.activity)
        assert activity.shape == tuple(maps.shape[2:])
        assert activity.mean() == pytest.approx(float(means[0, one.channel].detach()), rel=0.01)
        assert one.shown.max() == 1
    # All channels together, at their own places, are the Grad-CAM map before its relu: its mean is their sum.
    _, cams, _ = head_grad_cam(network, maps, [1])
    assert float(cams.mean()) * cams[0, 0].numel() >= expected.sum() - 1e-4


def test_the_worker_answers_with_the_model_it_used_last(store: AnalysisStore, with_basis: Predictor) -> None:
    worker = Worker()
    asked: dict[str, Any] = {"store": str(store.path), "bundle_hash": store.bundle_hash, "setting": store.setting.key}
    with pytest.raises(DalaError, match="no longer here"):
        worker.why(None, **asked, tile=list(TILE), class_index=0)  # type: ignore[arg-type]
    worker._bundle = with_basis.bundle
    answer = worker.why(None, **asked, tile=list(TILE), class_index=0)  # type: ignore[arg-type]
    found = TileReasons.from_json(json.loads(json.dumps(answer)))
    assert found == tile_reasons(store, with_basis.bundle, TILE, 0)


def test_a_tile_that_is_not_analysed_is_one_line(
    store: AnalysisStore, with_basis: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = np.zeros_like(store.status)
    monkeypatch.setattr(type(store), "status", status)
    with pytest.raises(DalaError, match="not analysed"):
        tile_reasons(store, with_basis.bundle, TILE, 0)


def test_without_a_stored_projection_there_are_no_maps(store: AnalysisStore, new_head: BundleHead) -> None:
    new_head.basis, before = None, new_head.basis
    try:
        found = tile_reasons(store, new_head, TILE, 2)
    finally:
        new_head.basis = before
    assert found.channels
    assert not any(one.activity for one in found.channels)
    assert not any(one.shown.size for one in found.channels)
