"""Photographs as a learner's examples: a random square of each to learn from, all its squares to be judged on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.training.augment import for_training, read_photograph
from napari_dala.training.evaluate import FixedSquares, Squares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_dala.training.datasets import ImageDataset


class Photographs:
    """Some photographs of a data set; a `learner.ExampleSource`.

    Parameters
    ----------
    dataset
        The photographs.
    train, monitored
        Places of those to learn from and of those to be judged on (may be none).
    squares
        How they are read.
    """

    def __init__(
        self, dataset: ImageDataset, train: NDArray[np.intp], monitored: NDArray[np.intp], squares: Squares
    ) -> None:
        self.dataset, self.train, self.squares = dataset, train, squares
        self.classes, self.labels = len(dataset.classes), dataset.labels[train]
        self.held_out = FixedSquares(dataset, monitored, squares)
        self.augment = for_training(squares.square_px, squares.tile_px)

    def example(self, index: int) -> Tensor:
        """Return a random tile of a photograph, (3, tile_px, tile_px) uint8."""
        tile: Tensor = self.augment(read_photograph(self.dataset.images[self.train[index]].path))
        return tile

    def inputs(self, batch: Tensor) -> Tensor:
        """Return the network's input for tiles (n, 3, tile_px, tile_px) uint8."""
        return self.squares.normalize(batch)
