"""Putting tiles into the arrays of a store, whole chunks at a time. Knows no torch.

A chunk becomes a file as zarr would encode and name it, but from a thread of ours: through zarr's event loop and its
threads each of a block's eight writes costs 2 ms of processor time, which the network could have had.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numcodecs.zstd import Zstd
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from napari_dala.cores import usable_cores
from napari_dala.errors import DalaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import zarr
    from numpy.typing import NDArray

TILES_LAST = ("probability", "cam")  # arrays whose last two axes, not their first two, are the tiles'
COMPRESSOR = ZstdCodec(level=1)  # of new arrays; zarr's own choice of 3 is a fifth as fast and saves no more
_ZSTD = Zstd(level=1)  # the same
_CORES_A_THREAD, _MOST_THREADS = 4, 4  # on fewer cores the network has more use for them; more were never tried
_numbers = count()


class _Part(NamedTuple):
    """Tiles of one chunk, by their rows and columns in it, and their values in an array."""

    name: str
    place: tuple[int, int]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    values: NDArray[Any]


class ChunkWriter:
    """Writes tiles beside what is stored, for one thread that owns the chunks.

    The last chunk of each array is kept, so that the next tiles of it need no reading, which costs as much as writing.
    What is put in together is written together: a small chunk costs as much as a large one. Where there are many cores,
    several chunks are compressed and written at a time.

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
        threads = min(usable_cores() // _CORES_A_THREAD, _MOST_THREADS)
        self._pool = ThreadPoolExecutor(threads, "dala-chunks") if threads > 1 else None  # no thread before its use

    def put(self, row: NDArray[np.intp], column: NDArray[np.intp], values: Mapping[str, NDArray[Any]]) -> None:
        """Put in the values of n tiles, by their rows and columns in the grid; each array's are (n, ...)."""
        parts = [part for name, each in values.items() for part in self._parts(name, row, column, each)]
        held = {name: self._held.pop(name, None) for name in values}  # and not kept where this comes to nothing
        if self._pool is None or len(parts) == 1:
            chunks = [self._put_in_chunk(part, held[part.name]) for part in parts]
        else:
            tasks = [self._pool.submit(self._put_in_chunk, part, held[part.name]) for part in parts]
            wait(tasks)
            chunks = [task.result() for task in tasks]
        self._held |= {part.name: (part.place, chunk) for part, chunk in zip(parts, chunks, strict=True)}

    def _parts(
        self, name: str, row: NDArray[np.intp], column: NDArray[np.intp], values: NDArray[Any]
    ) -> Iterator[_Part]:
        """Sort tiles by the chunks of an array that they lie in."""
        side = self._arrays[name].chunks[1 if name in TILES_LAST else 0] // self._cells_of(name)
        if not len(row):
            return
        across = int(column.max()) // side + 1
        chunk = row // side * across + column // side
        order = np.argsort(chunk, kind="stable")
        for here in np.split(order, np.flatnonzero(np.diff(chunk[order])) + 1):
            place = divmod(int(chunk[here[0]]), across)
            yield _Part(name, place, row[here] - place[0] * side, column[here] - place[1] * side, values[here])

    def _put_in_chunk(self, part: _Part, held: tuple[tuple[int, int], NDArray[Any]] | None) -> NDArray[Any]:
        """Put tiles into their chunk, which may be the one that was kept, store it and return it."""
        array, last = self._arrays[part.name], part.name in TILES_LAST
        path = _path(array, (0, *part.place) if last else (*part.place, *(0,) * (array.ndim - 2)))
        chunk = held[1] if held is not None and held[0] == part.place else _read(array, path)
        if part.name == "cam":
            cells = self._cells
            by_tile = chunk.reshape(len(chunk), -1, cells, chunk.shape[2] // cells, cells)
            by_tile[:, part.row, :, part.column] = part.values
        elif last:
            chunk[:, part.row, part.column] = part.values.T
        else:
            chunk[part.row, part.column] = part.values
        _write(path, chunk)
        return chunk

    def _cells_of(self, name: str) -> int:
        """Values of an array along a tile's side."""
        return self._cells if name == "cam" else 1


def _read(array: zarr.Array[Any], path: str) -> NDArray[Any]:
    """Return a chunk, whole even where it overhangs the array."""
    try:
        stored = Path(path).read_bytes()
    except FileNotFoundError:
        return np.full(array.chunks, array.fill_value, array.dtype)
    return np.frombuffer(bytearray(_ZSTD.decode(stored)), array.dtype).reshape(array.chunks)


def _write(path: str, chunk: NDArray[Any]) -> None:
    """Store a chunk, whole or not at all."""
    stored = _ZSTD.encode(chunk)
    temporary = f"{path}.{os.getpid()}-{next(_numbers)}.partial"
    try:
        try:
            file = open(temporary, "wb")
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = open(temporary, "wb")
        with file:
            file.write(stored)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _path(array: zarr.Array[Any], index: tuple[int, ...]) -> str:
    """Return the file in which a chunk is kept."""
    store = array.store_path.store
    if not isinstance(store, LocalStore) or [type(codec) for codec in array.compressors] != [ZstdCodec]:
        raise DalaError(f"{array.store_path}: not compressed as napari-dala does it; choose another folder")
    return f"{store.root}/{array.store_path.path}/{array.metadata.encode_chunk_key(index)}"
