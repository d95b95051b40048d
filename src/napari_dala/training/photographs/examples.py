"""Photographs as a learner's examples: a random square of each to learn from, all its squares to be judged on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.training.photographs.augment import RandomSquare, for_training, mirrored, read_photograph
from napari_dala.training.photographs.squares import FixedSquares, Squares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.training.settings import TrainSettings

_REMEMBERED = 2**30  # bytes of pixels


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
    settings
        The recipe: how large the tiles to learn from are and how they are varied.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        train: NDArray[np.intp],
        monitored: NDArray[np.intp],
        squares: Squares,
        settings: TrainSettings,
    ) -> None:
        self.dataset, self.train, self.squares = dataset, train, squares
        self.classes, self.labels = len(dataset.classes), dataset.labels[train]
        self.groups = dataset.patients[train]
        self.held_out = FixedSquares(dataset, monitored, squares)
        self.side, self.scale = settings.train_px or squares.tile_px, settings.scale_variation
        self.augment = for_training(settings.augmentation)
        self._read: dict[int, Tensor] = {}
        self._bytes = 0

    def example(self, index: int) -> Tensor:
        """Return a random tile of a photograph, (3, side, side) uint8."""
        place = int(self.train[index])
        pixels = self._photograph(place)
        tile_px = self.squares.side(self.dataset.images[place], pixels.shape[2], pixels.shape[1])
        square_px = tile_px * self.side / self.squares.tile_px
        square = RandomSquare(square_px, self.side, self.scale)
        tile: Tensor = self.augment(square(mirrored(pixels, round(square_px))))
        return tile

    def inputs(self, batch: Tensor) -> Tensor:
        """Return the network's input for tiles (n, 3, side, side) uint8."""
        return self.squares.normalize(batch)

    def _photograph(self, index: int) -> Tensor:
        """Return a photograph's pixels; the first gigabyte of them is read once."""
        if index in self._read:
            return self._read[index]
        image = self.dataset.images[index]
        pixels = read_photograph(image.path, icc_profile=image.icc_profile)
        if self._bytes + pixels.nbytes <= _REMEMBERED:
            self._read[index] = pixels
            self._bytes += pixels.nbytes
        return pixels
