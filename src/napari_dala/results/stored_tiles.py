"""Values of tiles that lie anywhere in a grid, reading only the chunks that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.slide.tiles import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def read_scattered(
    read: Callable[[tuple[int, int]], NDArray[Any]], row: NDArray[np.intp], column: NDArray[np.intp]
) -> NDArray[Any]:
    """Return what an array with one entry a tile holds of n tiles.

    Parameters
    ----------
    read
        Gives one block of 4 x 4 tiles, (4, 4, ...), at the grid's edge fewer; called once for each.
    row, column
        (n,) positions in the grid.

    Returns
    -------
    (n, ...) in the order of the positions; of no tile an empty (0,).
    """
    if not len(row):
        return np.empty(0)
    blocks, number = np.unique(np.stack((row, column)) // BLOCK, axis=1, return_inverse=True)
    number = number.ravel()
    found: NDArray[Any] | None = None
    for index, block in enumerate(blocks.T.tolist()):
        here = number == index
        values = read((block[0], block[1]))[row[here] - block[0] * BLOCK, column[here] - block[1] * BLOCK]
        if found is None:
            found = np.empty((len(row), *values.shape[1:]), values.dtype)
        found[here] = values
    assert found is not None
    return found
