"""What a trained bundle carries of its training tiles: the basis for stored maps, and features to be shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from napari_dala.model.bundle_file import Replay, basis_shape
from napari_dala.training.finetune.quick import MOST_REPLAYED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray


def balanced(labels: ArrayLike, per_class: int = MOST_REPLAYED, seed: int = 0) -> NDArray[np.intp]:
    """Return ascending indices of at most `per_class` examples of each class, drawn without replacement."""
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def basis_of(maps: Iterable[Tensor]) -> Tensor:
    """Return the directions in which a trunk's cells are largest: their first right singular vectors, uncentred.

    Of all projections to so many numbers, that on this basis loses least of the cells' squared length (Eckart and Young
    1936).

    Parameters
    ----------
    maps
        Batches (n, C, h, w) of the trunk's map; at least one.

    Returns
    -------
    `basis_shape(C)` float32, orthonormal columns, the most important one first; the largest entry of each is positive.
    """
    moment: Tensor | None = None
    for batch in maps:
        cells = batch.permute(0, 2, 3, 1).flatten(0, 2).float()
        of_batch = (cells.T @ cells).cpu().double()
        moment = of_batch if moment is None else moment + of_batch
    assert moment is not None, "a basis is made of at least one tile"
    channels, count = basis_shape(len(moment))
    _, vectors = scipy.linalg.eigh(moment.numpy(), subset_by_index=[channels - count, channels - 1])
    vectors = vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return torch.from_numpy((vectors * np.sign(largest)).astype(np.float32))


def replay_of(features: Tensor, labels: Tensor, per_class: int = MOST_REPLAYED, seed: int = 0) -> Replay:
    """Return a class-balanced sample of features for later training to show the head again.

    Parameters
    ----------
    features
        (n, C) channel means of the trunk's map.
    labels
        (n,) class of each.
    per_class, seed
        As for `balanced`.
    """
    chosen = torch.from_numpy(balanced(labels.cpu(), per_class, seed))
    return Replay(features.cpu()[chosen].half(), labels.cpu()[chosen].long())


def statistics_of(batches: Iterable[tuple[Tensor, Tensor]], seed: int = 0) -> tuple[Tensor, Replay]:
    """Return basis and replay of tiles in one pass.

    Parameters
    ----------
    batches
        The trunk's maps, (n, C, h, w), and labels, (n,), of tiles; some hundreds are enough.
    seed
        Chooses among the tiles of a class for the replay.
    """
    means: list[Tensor] = []
    labels: list[Tensor] = []

    def maps() -> Iterator[Tensor]:
        for batch, of_batch in batches:
            means.append(batch.float().mean((2, 3)))
            labels.append(of_batch)
            yield batch

    basis = basis_of(maps())
    return basis, replay_of(torch.cat(means), torch.cat(labels), seed=seed)
