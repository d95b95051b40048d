from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_dala.model.head import CHANNELS
from napari_dala.training.statistics import balanced, basis_of, replay_of, statistics_of


@pytest.fixture(scope="module")
def maps() -> Tensor:
    """Layer4 maps (40, 2048, 3, 3) that lie nearly in 12 dimensions, far from the origin."""
    rng = torch.Generator().manual_seed(0)
    directions = torch.randn(12, CHANNELS, generator=rng)
    amounts = torch.rand(40 * 9, 12, generator=rng)
    cells = amounts @ directions + 0.01 * torch.randn(40 * 9, CHANNELS, generator=rng)
    return cells.reshape(40, 3, 3, CHANNELS).permute(0, 3, 1, 2)


def test_the_basis_is_that_of_a_singular_value_decomposition(maps: Tensor) -> None:
    basis = basis_of(maps.split(16))
    assert (basis.shape, basis.dtype) == ((CHANNELS, 128), torch.float32)
    assert torch.allclose(basis.T @ basis, torch.eye(128), atol=1e-5)
    cells = maps.permute(0, 2, 3, 1).reshape(-1, CHANNELS)
    kept = (cells @ basis).square().sum() / cells.square().sum()
    best = torch.linalg.svdvals(cells)[:128].square().sum() / cells.square().sum()
    assert float(kept) == pytest.approx(float(best), abs=1e-6)
    _, _, right = torch.linalg.svd(cells.double(), full_matrices=False)
    first = right[0].float()
    assert float((basis[:, 0] @ first).abs()) == pytest.approx(1, abs=1e-5)


def test_the_basis_depends_on_the_cells_alone(maps: Tensor) -> None:
    basis = basis_of([maps])
    again = basis_of(maps.flip(0).split(7))
    assert torch.allclose(basis[:, :12], again[:, :12], atol=1e-4)
    assert (basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all()


def test_few_cells_give_a_whole_basis_too(maps: Tensor) -> None:
    basis = basis_of([maps[:1]])
    assert torch.allclose(basis.T @ basis, torch.eye(128), atol=1e-5)


def test_a_balanced_sample() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [3] * 20)
    chosen = balanced(labels, 10, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [10, 3, 0, 10]
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == balanced(labels, 10, seed=1).tolist()
    assert chosen.tolist() != balanced(labels, 10, seed=2).tolist()


def test_replayed_features_are_those_of_their_tiles() -> None:
    labels = torch.tensor([0] * 30 + [1] * 4)
    features = torch.arange(34.0)[:, None].expand(-1, CHANNELS)
    replay = replay_of(features, labels, per_class=8)
    assert (replay.features.dtype, replay.labels.dtype) == (torch.float16, torch.int64)
    assert torch.bincount(replay.labels).tolist() == [8, 4]
    assert torch.equal(replay.labels, labels[replay.features[:, 0].long()])


def test_both_come_of_one_pass(maps: Tensor) -> None:
    labels = torch.arange(40) % 2
    basis, replay = statistics_of(zip(maps.split(16), labels.split(16), strict=True))
    assert torch.equal(basis, basis_of(maps.split(16)))
    assert torch.allclose(replay.features.float(), maps.mean((2, 3)), atol=1e-2)
    assert torch.equal(replay.labels, labels)
