"""Putting tiles into the arrays of a store, a whole chunk at a time. Knows no torch.

A chunk goes to zarr's store as zarr itself would encode it, but from the thread that has it: through zarr's event loop
and its threads each of a block's eight writes costs 2 ms of processor time, which the network could have had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.zstd import Zstd
from zarr.buffer import cpu
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from napari_dala.errors import DalaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import zarr
    from numpy.typing import NDArray

TILES_LAST = ("probability", "cam")  # arrays whose last two axes, not their first two, are the tiles'
COMPRESSOR = ZstdCodec(level=1)  # of new arrays; zarr's own choice of 3 is a fifth as fast and saves no more
_ZSTD = Zstd(level=1)  # the same


class ChunkWriter:
    """Writes tiles beside what is stored, for one thread that owns the chunks.

    The last chunk of each array is kept, so that the next tiles of it need no reading, which costs as much as writing.
    What is put in together is written together: a small chunk costs as much as a large one.

    Parameters
    ----------
    arrays
        Of a store, by name, compressed by zstd.
    cells
        CAM cells along a tile's side.
    """

    def __init__(self, arrays: Mapping[str, zarr.Array[Any]], cells: int) -> None:
        self._arrays, self._cells = arrays, cells
        self._held: dict[str, tuple[tuple[int, int], NDArray[Any]]] = {}

    def put(self, name: str, row: NDArray[np.intp], column: NDArray[np.intp], values: NDArray[Any]) -> None:
        """Put in the values of n tiles, by their rows and columns in the grid; `values` is (n, ...)."""
        array = self._arrays[name]
        side = array.chunks[1 if name in TILES_LAST else 0] // self._cells_of(name)
        row, column = np.asarray(row), np.asarray(column)
        places = np.stack([row // side, column // side], axis=1)
        for place in dict.fromkeys(map(tuple, places.tolist())):
            here = (places == place).all(axis=1)
            self._put_in_chunk(name, place, row[here] - place[0] * side, column[here] - place[1] * side, values[here])

    def _put_in_chunk(
        self, name: str, place: tuple[int, int], row: NDArray[np.intp], column: NDArray[np.intp], values: NDArray[Any]
    ) -> None:
        """Put in the values of tiles of one chunk, by their rows and columns in it."""
        array, last = self._arrays[name], name in TILES_LAST
        index = (0, *place) if last else (*place, *(0,) * (array.ndim - 2))
        held, chunk = self._held.pop(name, (None, None))  # and not kept where this comes to nothing
        if held != place or chunk is None:
            chunk = _read(array, index)
        if name == "cam":
            cells = self._cells
            by_tile = chunk.reshape(len(chunk), -1, cells, chunk.shape[2] // cells, cells)
            by_tile[:, row, :, column] = values
        elif last:
            chunk[:, row, column] = values.T
        else:
            chunk[row, column] = values
        _write(array, index, chunk)
        self._held[name] = place, chunk

    def _cells_of(self, name: str) -> int:
        """Values of an array along a tile's side."""
        return self._cells if name == "cam" else 1

    def forget(self, name: str) -> None:
        """Read an array again before it is next written: somebody else has written it."""
        self._held.pop(name, None)


def _read(array: zarr.Array[Any], index: tuple[int, ...]) -> NDArray[Any]:
    """Return a chunk, whole even where it overhangs the array."""
    store, key = _where(array, index)
    stored = store.get_sync(key)
    if stored is None:
        return np.full(array.chunks, array.fill_value, array.dtype)
    return np.frombuffer(bytearray(_ZSTD.decode(stored.as_numpy_array())), array.dtype).reshape(array.chunks)


def _write(array: zarr.Array[Any], index: tuple[int, ...], chunk: NDArray[Any]) -> None:
    """Store a chunk, whole or not at all."""
    store, key = _where(array, index)
    store.set_sync(key, cpu.Buffer.from_bytes(_ZSTD.encode(chunk)))


def _where(array: zarr.Array[Any], index: tuple[int, ...]) -> tuple[LocalStore, str]:
    """Return where a chunk is kept, and its name there."""
    store = array.store_path.store
    if not isinstance(store, LocalStore) or [type(codec) for codec in array.compressors] != [ZstdCodec]:
        raise DalaError(f"{array.store_path}: not compressed as napari-dala does it; choose another folder")
    return store, f"{array.store_path.path}/{array.metadata.encode_chunk_key(index)}"
