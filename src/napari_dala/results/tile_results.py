"""What a store takes and gives of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TileStatus(IntEnum):
    """What has become of a tile."""

    TODO = 0
    DONE = 1
    UNREADABLE = 2
    BACKGROUND = 3
    INK = 4
    BLUR = 5


LEFT_OUT = (TileStatus.INK, TileStatus.BLUR)  # tiles that hold tissue or ink, and of which nothing counts
NOT_JUDGED = "not judged"
"""Stands where a class would, for tiles that are unfamiliar, in doubt or unreadable."""


@dataclass(frozen=True)
class TileResults:
    """What was computed for n tiles.

    Attributes
    ----------
    row, column
        (n,) int, positions in the grid.
    probability
        (n, classes) float32.
    cam
        (n, classes, cells, cells), raw Grad-CAM in logits.
    features
        (n, channels), channel means of the trunk's map.
    layer4
        (n, cells, cells, components) on the bundle's basis, or None.
    unfamiliarity
        (n,), above 1 where a tile is unlike what the model was trained on, or None; see `Familiarity.ratio`.
    """

    row: NDArray[np.intp]
    column: NDArray[np.intp]
    probability: NDArray[np.float32]
    cam: NDArray[np.floating[Any]]
    features: NDArray[np.floating[Any]]
    layer4: NDArray[np.floating[Any]] | None = None
    unfamiliarity: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True)
class RescoredTiles:
    """What a head made of the stored features of n tiles.

    Attributes
    ----------
    row, column
        (n,) int, positions in the grid.
    probability
        (n, classes) float32.
    cam
        (n, classes, cells, cells), approximate Grad-CAM in logits; None where layer4 is not stored.
    unfamiliarity
        As in `TileResults`.
    """

    row: NDArray[np.intp]
    column: NDArray[np.intp]
    probability: NDArray[np.float32]
    cam: NDArray[np.floating[Any]] | None
    unfamiliarity: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True, eq=False)
class TileArrays:
    """What a store holds of all tiles, or of those of a block; a tile counts once its mark is written.

    Attributes
    ----------
    probability
        (classes, rows, columns) float32; NaN where a tile was not analysed.
    status
        (rows, columns) uint8, a `TileStatus` each.
    approximate
        (rows, columns) bool, True where the probability is there and the Grad-CAM is approximate or not there yet.
    unfamiliar
        (rows, columns) bool, True where an analysed tile is unlike what the model was trained on.
    """

    probability: NDArray[np.float32]
    status: NDArray[np.uint8]
    approximate: NDArray[np.bool_]
    unfamiliar: NDArray[np.bool_]
