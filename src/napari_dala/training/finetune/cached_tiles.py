"""Labelled tiles as a learner's examples, read from rows that were computed before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_dala.training.finetune.tile_rows import RowFile


class CachedTiles:
    """Tiles with a row each, (h, w, channels); a `learner.ExampleSource`.

    Parameters
    ----------
    rows
        Of n tiles: pixels, or maps of features.
    labels
        (n,) class of each.
    classes
        How many there are.
    train
        So many, the first ones, are to learn from, the others to be judged on.
    to_input
        Gives the network's input for some rows.
    augment
        Gives another view of (channels, h, w); None where rows are learned from as they are.
    """

    def __init__(
        self,
        rows: RowFile,
        labels: NDArray[np.intp],
        classes: int,
        train: int,
        to_input: Callable[[Tensor], Tensor],
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.rows, self.classes, self.labels = rows, classes, labels[:train]
        self.groups = np.zeros(train, np.intp)  # whose they are does not matter
        self.held_out = _HeldOut(rows, labels, train)
        self.to_input, self.augment = to_input, augment

    def row(self, index: int) -> Tensor:
        """Return a tile to learn from as it is, (h, w, channels)."""
        return torch.from_numpy(self.rows[index])

    def example(self, index: int) -> Tensor:
        """Return a tile to learn from, (h, w, channels)."""
        row = self.row(index)
        return row if self.augment is None else self.augment(row.permute(2, 0, 1)).permute(1, 2, 0)

    def inputs(self, batch: Tensor) -> Tensor:
        """Return the network's input for rows (n, h, w, channels)."""
        return self.to_input(batch)


class _HeldOut(Dataset[tuple[Tensor, int]]):
    """The one view of each tile to be judged on, (1, h, w, channels), and its label."""

    def __init__(self, rows: RowFile, labels: NDArray[np.intp], first: int) -> None:
        self.rows, self.labels, self.first = rows, labels, first

    def __len__(self) -> int:
        return len(self.labels) - self.first

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        index = self.first + place
        return torch.from_numpy(self.rows[index])[None], int(self.labels[index])
