"""Which tiles to label next: those the model is least sure of, and not the same corner ten times. Knows no torch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.results.stored_tiles import read_scattered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_dala.results.analysis import Analysis, Spot
    from napari_dala.results.store import AnalysisStore


_FAR = 2.0  # no two vectors lie further apart


def next_to_label(
    analysis: Analysis, labelled: NDArray[np.bool_], n: int = 20, *, seen: Iterable[tuple[int, int]] = ()
) -> list[Spot]:
    """Return unlabelled tiles that would teach the model most, the best first.

    Of the most uncertain tiles (the `max(200, 10 n)` with the highest entropy) the first is the most uncertain, each
    further one that whose entropy times distance to the nearest one chosen before is largest. Distances are between
    the stored channel means, centred and scaled to length 1; between places on the slide where none are stored.
    No two lie within two tiles of each other. What is equal comes by row, then column.

    Parameters
    ----------
    analysis
        May still be growing.
    labelled
        (rows, columns), True where a tile has a label already.
    n
        At most so many; fewer where the slide has no more.
    seen
        Tiles (row, column) that were suggested before: they count as chosen.
    """
    chosen = list(seen)
    entropy = entropy_of(analysis.probability)
    entropy[labelled] = np.nan
    for row, column in chosen:
        _strike(entropy, row, column, analysis.near)
    new: list[tuple[int, int]] = []
    while len(new) < n and np.isfinite(entropy).any():  # once, unless the most uncertain tiles lie close together
        pool = _most_uncertain(entropy, max(200, 10 * n))
        vectors = _vectors(analysis.store, np.concatenate((pool, np.array([*chosen, *new], np.intp).reshape(-1, 2))))
        distance = np.full(len(pool), _FAR, np.float32)
        for vector in vectors[len(pool) :]:
            np.minimum(distance, np.linalg.norm(vectors[: len(pool)] - vector, axis=1), out=distance)
        while len(new) < n and np.isfinite(score := entropy[tuple(pool.T)] * distance).any():
            best = int(np.nanargmax(score))
            new.append((int(pool[best, 0]), int(pool[best, 1])))
            _strike(entropy, *new[-1], analysis.near)
            np.minimum(distance, np.linalg.norm(vectors[: len(pool)] - vectors[best], axis=1), out=distance)
    return [analysis.spot(*tile) for tile in new]


def entropy_of(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entropy of each tile's probabilities in nats, (rows, columns), NaN where one of them is.

    Parameters
    ----------
    probability
        (classes, rows, columns).
    """
    p = probability.astype(np.float64)
    entropy: NDArray[np.float64] = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=0)
    return entropy


def _most_uncertain(entropy: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Return the (row, column) of the tiles with the highest entropy, highest first, (m, 2)."""
    order = np.argsort(-entropy, axis=None, kind="stable")[: min(most, int(np.isfinite(entropy).sum()))]
    return np.stack(np.unravel_index(order, entropy.shape), axis=1)


def _strike(entropy: NDArray[np.float64], row: int, column: int, near: int) -> None:
    """Take a tile and those around it out of the choice."""
    entropy[max(0, row - near) : row + near + 1, max(0, column - near) : column + near + 1] = np.nan


def _vectors(store: AnalysisStore, tiles: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return a vector for each tile (row, column): what the trunk saw in it, else where it lies, (m, d)."""
    try:
        stored = read_scattered(partial(store.read, "features"), tiles[:, 0], tiles[:, 1])
    except KeyError:
        stored = np.zeros((len(tiles), 1))
    vectors: NDArray[np.float32] = np.nan_to_num(stored.astype(np.float32), posinf=0, neginf=0)
    if not vectors.any():
        return np.divide(tiles, max(store.grid.shape), dtype=np.float32)
    vectors -= vectors.mean(axis=0)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(length > 0, length, 1)
    return vectors
