"""Putting tiles into the arrays of a store, a whole chunk at a time. Knows no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import zarr
    from numpy.typing import NDArray

TILES_LAST = ("probability", "cam")  # arrays whose last two axes, not their first two, are the tiles'


class ChunkWriter:
    """Writes tiles beside what is stored, for one thread that owns the chunks.

    The last chunk of each array is kept, so that the next tiles of it need no reading, which costs as much as writing.

    Parameters
    ----------
    arrays
        Of a store, by name.
    cells
        CAM cells along a tile's side.
    """

    def __init__(self, arrays: Mapping[str, zarr.Array[Any]], cells: int) -> None:
        self._arrays, self._cells = arrays, cells
        self._held: dict[str, tuple[tuple[int, int], NDArray[Any]]] = {}

    def put(self, name: str, row: NDArray[np.intp], column: NDArray[np.intp], values: Any) -> None:
        """Put in the values of n tiles of one chunk, by their rows and columns in the grid; `values` is (n, ...)."""
        if not len(row):
            return
        array, last = self._arrays[name], name in TILES_LAST
        cells = self._cells if name == "cam" else 1
        side = array.chunks[1 if last else 0] // cells
        place = int(row[0]) // side, int(column[0]) // side
        spans = tuple(slice(at * side * cells, (at + 1) * side * cells) for at in place)
        region = (slice(None), *spans) if last else spans
        held, chunk = self._held.pop(name, (None, None))  # and not kept where this comes to nothing
        if held != place:
            shape = tuple(len(range(*span.indices(length))) for span, length in zip(region, array.shape, strict=False))
            tiles = shape[-2] * shape[-1] // cells**2 if last else shape[0] * shape[1]
            whole = len(row) == tiles
            chunk = np.empty((*shape, *array.shape[len(shape) :]), array.dtype) if whole else np.array(array[region])
        assert chunk is not None
        row, column = row - place[0] * side, column - place[1] * side
        if name == "cam":
            by_tile = chunk.reshape(len(chunk), chunk.shape[1] // cells, cells, chunk.shape[2] // cells, cells)
            by_tile[:, row, :, column] = values
        elif last:
            chunk[:, row, column] = values.T
        else:
            chunk[row, column] = values
        array[region] = chunk
        self._held[name] = place, chunk

    def forget(self, name: str) -> None:
        """Read an array again before it is next written: somebody else has written it."""
        self._held.pop(name, None)
