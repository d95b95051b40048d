"""Which block of tiles is next: what is in view first, then what lies nearest to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dala.slide.tiles import BLOCK, TileGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.analysis.control import RunControl

_BAND = 4  # rows of blocks; the side of a chunk of the store
_FIRST = 4  # tiles that are handed out before all others: a user waits for them


class Schedule:
    """Hands out the blocks that hold tiles to do, each tile once, in an order that follows the view.

    A block that is partly in view is handed out in two parts: its other tiles come when all that is in view has been.
    The very first part is a few tiles.

    Parameters
    ----------
    grid
        Where the tiles lie.
    todo
        (rows, columns) bool, tiles to do.
    control
        Its view decides the order at the moment a block is asked for.
    """

    def __init__(self, grid: TileGrid, todo: NDArray[np.bool_], control: RunControl) -> None:
        self._todo = todo.copy()
        self._control = control
        rows, columns = np.nonzero(todo)
        blocks = np.unique(np.stack([rows // BLOCK, columns // BLOCK], axis=1), axis=0)
        # Down the columns of a band: a reader still has what a block shares with its neighbours above and to the left.
        band, in_band = np.divmod(blocks[:, 0], _BAND)
        self._blocks = blocks[np.lexsort((in_band, blocks[:, 1], band))]
        self._stride, self._side = np.array(grid.stride[::-1]), np.array(grid.tile_size[::-1])
        self._view = control.view
        self._had = np.zeros(len(blocks), bool)  # what is in `_view` of them has been handed out
        self._most = _FIRST

    def __len__(self) -> int:
        """Blocks of which something is left."""
        return len(self._blocks)

    def take(self) -> tuple[tuple[int, int], list[tuple[int, int]]] | None:
        """Return the next block and its tiles to do, of those the ones in view if there are any; None at the end."""
        if not len(self._blocks):
            return None
        if (view := self._control.view) != self._view:
            self._view = view
            self._had[:] = False
        index = self._next()
        row, column = (int(at) for at in self._blocks[index])
        top, left = row * BLOCK, column * BLOCK
        tiles = np.argwhere(self._todo[top : top + BLOCK, left : left + BLOCK]) + np.array([top, left])
        nearest = tiles
        if self._view is not None and (outside := self._from_view(tiles, 1)[0]).min() == 0:
            nearest = tiles[outside == 0]
        taken = nearest[: self._most]
        self._most = BLOCK * BLOCK
        self._todo[tuple(taken.T)] = False
        self._had[index] = len(taken) == len(nearest)
        if len(taken) == len(tiles):
            self._blocks, self._had = (np.delete(each, index, axis=0) for each in (self._blocks, self._had))
        return (row, column), [(row, column) for row, column in taken.tolist()]

    def _next(self) -> int:
        """Index of the block nearest to the view's centre among those in view, else nearest to the view."""
        if self._view is None:
            return 0
        outside, from_centre = self._from_view(self._blocks * BLOCK, BLOCK)
        return int(np.lexsort((from_centre, self._had, outside))[0])

    def _from_view(self, first: NDArray[np.intp], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how far squares of tiles lie from the view, 0 only if they overlap, and from its centre, level-0 px.

        Parameters
        ----------
        first
            (n, 2), row and column of each square's first tile.
        count
            Tiles along its side.
        """
        assert self._view is not None
        low, high = np.array(self._view[1::-1]), np.array(self._view[:1:-1])
        starts = first * self._stride
        ends = starts + (count - 1) * self._stride + self._side
        gap = np.maximum(low - ends, starts - high)
        outside = np.maximum(gap, 0).sum(axis=1) + (gap.max(axis=1) >= 0)
        return outside, np.abs((starts + ends - low - high) / 2).sum(axis=1)
