from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

from napari_dala.evaluation.explanations.faithfulness import area, enlarged, faithfulness, imputed, ranked, replaced

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE, CELLS = 64, 8
LEFT = np.zeros((CELLS, CELLS), np.float32)
LEFT[:, : CELLS // 2] = 1
FLAT, EMPTY = np.ones_like(LEFT), np.zeros_like(LEFT)
TIES = np.random.default_rng(5).random((CELLS, CELLS), np.float32)


def textured(seed: int = 0) -> NDArray[np.uint8]:
    """White and black dots on the left, grey on the right."""
    tile = np.full((SIDE, SIDE, 3), 128, np.uint8)
    dots = np.random.default_rng(seed).integers(0, 2, (SIDE, SIDE // 2, 1)) * 255
    tile[:, : SIDE // 2] = dots.astype(np.uint8)
    return tile


def dots_on_the_left(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A class of which all evidence is the contrast on the left."""
    return np.abs(tiles[:, :, : SIDE // 2, 0] - 127.5).mean((1, 2)) / 127.5


@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
def test_insertion_of_a_linear_network_is_its_closed_form(part: float) -> None:
    black, white = np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 255, np.uint8)
    evidence = np.zeros((SIDE, SIDE), np.float32)
    evidence[:, : round(part * SIDE)] = 1  # the network's answer is the mean of these pixels

    def curve(ranks: NDArray[np.intp]) -> NDArray[np.float64]:
        tiles = replaced(black, white, ranks, steps=16)
        return (tiles[..., 0] * evidence).sum((1, 2)) / (255 * evidence.sum())

    ties = np.random.default_rng(1).random(evidence.shape, np.float32)
    assert area(curve(ranked(evidence, evidence.shape, ties))) == pytest.approx(1 - part / 2)
    assert area(curve(ranked(1 - evidence, evidence.shape, ties))) == pytest.approx(part / 2)
    assert area(curve(ranked(0 * evidence, evidence.shape, ties))) == pytest.approx(0.5, abs=0.02)


def test_what_the_model_needs_is_told_from_what_it_does_not() -> None:
    right, wrong, flat, empty = faithfulness(textured(), [LEFT, 1 - LEFT, FLAT, EMPTY], dots_on_the_left)
    assert right.insertion > flat.insertion + 0.1 > wrong.insertion + 0.2
    assert right.deletion < flat.deletion - 0.1 < wrong.deletion - 0.2
    assert right.road > 0.2
    assert wrong.road == pytest.approx(-right.road, abs=0.02)
    assert right.drop == pytest.approx(0, abs=0.1)
    assert wrong.drop > 0.8
    assert [found.kept for found in (right, wrong, flat, empty)] == [0.5, 0.5, 1, 0]
    assert (flat.drop, flat.increase, empty.increase) == (0, 0, 0)
    assert empty.drop > 0.9  # nothing is left but the mean colour
    assert (empty.insertion, empty.deletion) == (flat.insertion, flat.deletion)  # both say nothing of the order


@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e4])
def test_the_unit_of_a_map_does_not_matter(factor: float) -> None:
    values = np.random.default_rng(2).random((CELLS, CELLS), np.float32)
    one, other = faithfulness(textured(), [values, values * np.float32(factor)], dots_on_the_left)
    assert (one.insertion, one.deletion) == pytest.approx((other.insertion, other.deletion), abs=1e-3)
    assert one.drop == pytest.approx(other.drop, abs=1e-3)


def test_flat_parts_come_in_the_order_of_the_ties() -> None:
    ranks = ranked(EMPTY, (SIDE, SIDE), TIES)
    assert (np.diff(enlarged(TIES, ranks.shape).ravel()[np.argsort(ranks, axis=None)]) <= 0).all()
    assert sorted(ranks.ravel().tolist()) == list(range(SIDE * SIDE))
    kept = ranked(LEFT * TIES, (CELLS, CELLS), TIES)
    assert kept[LEFT > 0].max() < kept[LEFT == 0].min()


def test_curves_begin_and_end_with_the_whole_tile() -> None:
    (found,) = faithfulness(textured(), [LEFT], dots_on_the_left)
    whole = dots_on_the_left(textured()[None])[0]
    assert found.insertion_curve[-1] == found.deletion_curve[0] == whole


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # pytorch-grad-cam hands tensors to numpy
@pytest.mark.parametrize("seed", [0, 1])
def test_imputation_is_that_of_the_papers_code(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tile = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    missing = np.zeros((24, 24), np.bool_)
    missing[4:15, 9:] = True
    missing |= rng.random(missing.shape) < 0.2
    pixels = torch.from_numpy(tile.transpose(2, 0, 1).astype(np.float32))
    expected = NoisyLinearImputer(noise=0)(pixels, torch.from_numpy((~missing).astype(np.float32)))
    found = imputed(tile, missing)
    np.testing.assert_allclose(found.transpose(2, 0, 1), expected.numpy(), atol=0.51)
    np.testing.assert_array_equal(found[~missing], tile[~missing])


def test_imputation_in_blocks_leaves_a_plain_tile_as_it_is() -> None:
    tile = np.full((32, 32, 3), (200, 120, 180), np.uint8)
    missing = np.zeros((8, 8), np.bool_)
    missing[1:, 2:] = True
    np.testing.assert_array_equal(imputed(tile, missing), tile)
    noisy = imputed(tile, missing, np.random.default_rng(0)).astype(int) - tile
    assert 1 < noisy[8:, 16:].std() < 4
    assert not noisy[:4].any()
