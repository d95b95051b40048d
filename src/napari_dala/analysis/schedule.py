"""Which block of tiles is next: what is in view first, then what lies nearest to it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.slide.tiles import BLOCK, TileGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.analysis.run_control import RunControl

_BAND = 4  # rows of blocks; the side of a chunk of the store


class Schedule:
    """Hands out the blocks that hold tiles to do, each once, in an order that follows the view.

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
        self._todo = todo
        self._control = control
        self._lock = threading.Lock()
        rows, columns = np.nonzero(todo)
        blocks = np.unique(np.stack([rows // BLOCK, columns // BLOCK], axis=1), axis=0)
        # Down the columns of a band: a reader still has what a block shares with its neighbours above and to the left.
        band, in_band = np.divmod(blocks[:, 0], _BAND)
        self._blocks = blocks[np.lexsort((in_band, blocks[:, 1], band))]
        side = np.array([grid.stride[1], grid.stride[0]]) * BLOCK
        reach = np.array([grid.tile_size[1] - grid.stride[1], grid.tile_size[0] - grid.stride[0]])
        self._starts = self._blocks * side
        self._ends = self._starts + side + reach

    def take(self) -> tuple[tuple[int, int], list[tuple[int, int]]] | None:
        """Return the next block and its tiles to do, None when none is left."""
        with self._lock:
            if not len(self._blocks):
                return None
            index = self._next()
            block = (int(self._blocks[index, 0]), int(self._blocks[index, 1]))
            for name in ("_blocks", "_starts", "_ends"):
                setattr(self, name, np.delete(getattr(self, name), index, axis=0))
        top, left = block[0] * BLOCK, block[1] * BLOCK
        rows, columns = np.nonzero(self._todo[top : top + BLOCK, left : left + BLOCK])
        return block, [(top + int(row), left + int(column)) for row, column in zip(rows, columns, strict=True)]

    def _next(self) -> int:
        """Index of the block nearest to the view's centre among those in view, else nearest to the view."""
        view = self._control.view
        if view is None:
            return 0
        low, high = np.array([view[1], view[0]]), np.array([view[3], view[2]])
        outside = np.maximum(np.maximum(low - self._ends, self._starts - high), 0).sum(axis=1)
        from_centre = np.abs((self._starts + self._ends - low - high) / 2).sum(axis=1)
        return int(np.lexsort((from_centre, outside))[0])
