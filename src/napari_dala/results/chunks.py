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

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from napari_dala.cores import usable_cores
from napari_dala.errors import DalaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import zarr
    from numpy.typing import NDArray

MARKS = ("status", "scored", "exact")  # arrays of one mark a tile
TILES_LAST = ("probability", "cam")  # arrays whose last two axes, not their first two, are the tiles'
CODECS = (ZstdCodec(level=1), Crc32cCodec())  # of new arrays; zarr's own level 3 is a fifth as fast and saves no more
_ZSTD = Zstd(level=1)  # the same
_CRC_BYTES = 4  # behind the compressed bytes, the lowest first; arrays written before 2026-11-29 have none
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
        side = chunk_side(self._arrays[name], name, self._cells)
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
        array = self._arrays[part.name]
        chunk = held[1] if held is not None and held[0] == part.place else read_chunk(array, part.name, part.place)
        self._fill(chunk, part)
        _write_chunk(array, chunk_path(array, part.name, part.place), chunk)
        return chunk

    def _fill(self, chunk: NDArray[Any], part: _Part) -> None:
        if part.name == "cam":
            cells = self._cells
            by_tile = chunk.reshape(len(chunk), -1, cells, chunk.shape[2] // cells, cells)
            by_tile[:, part.row, :, part.column] = part.values
        elif part.name in TILES_LAST:
            chunk[:, part.row, part.column] = part.values.T
        else:
            chunk[part.row, part.column] = part.values


class DamagedChunk(DalaError):
    """A chunk's file is cut short, empty or changed.

    Attributes
    ----------
    name, place
        Of the array, and row and column of the chunk in it.
    """

    def __init__(self, path: str, name: str, place: tuple[int, int]) -> None:
        super().__init__(f"{path}: damaged")
        self.name, self.place = name, place


def cells_of(name: str, cells: int) -> int:
    """Return how many values an array has along a tile's side."""
    return cells if name == "cam" else 1


def chunk_side(array: zarr.Array[Any], name: str, cells: int) -> int:
    """Return the side of an array's chunks in tiles."""
    return int(array.chunks[1 if name in TILES_LAST else 0]) // cells_of(name, cells)


def chunk_path(array: zarr.Array[Any], name: str, place: tuple[int, int]) -> str:
    """Return the file in which a chunk is kept.

    Raises
    ------
    DalaError
        If the array is not compressed as here.
    """
    store = array.store_path.store
    if not isinstance(store, LocalStore) or codecs_of(array) not in ([ZstdCodec], [ZstdCodec, Crc32cCodec]):
        raise DalaError(f"{array.store_path}: not compressed as napari-dala does it; choose another folder")
    index = (0, *place) if name in TILES_LAST else (*place, *(0,) * (array.ndim - 2))
    return f"{store.root}/{array.store_path.path}/{array.metadata.encode_chunk_key(index)}"


def read_chunk(array: zarr.Array[Any], name: str, place: tuple[int, int]) -> NDArray[Any]:
    """Return a chunk, whole even where it overhangs the array; `DamagedChunk` if its file is not what was written."""
    path = chunk_path(array, name, place)
    try:
        stored = Path(path).read_bytes()
    except FileNotFoundError:
        return np.full(array.chunks, array.fill_value, array.dtype)
    if codecs_of(array)[-1] is Crc32cCodec:
        stored, found = stored[:-_CRC_BYTES], stored[-_CRC_BYTES:]
        if found != google_crc32c.value(stored).to_bytes(_CRC_BYTES, "little"):
            raise DamagedChunk(path, name, place)
    try:
        return np.frombuffer(bytearray(_ZSTD.decode(stored)), array.dtype).reshape(array.chunks)
    except (RuntimeError, ValueError):
        raise DamagedChunk(path, name, place) from None


def codecs_of(array: zarr.Array[Any]) -> list[type]:
    """Return how an array's chunks are compressed and checked, first to last."""
    return [type(codec) for codec in array.compressors]


def _write_chunk(array: zarr.Array[Any], path: str, chunk: NDArray[Any]) -> None:
    """Store a chunk, whole or not at all, also through a power cut."""
    stored = _ZSTD.encode(chunk)
    if codecs_of(array)[-1] is Crc32cCodec:
        stored += google_crc32c.value(stored).to_bytes(_CRC_BYTES, "little")
    temporary = f"{path}.{os.getpid()}-{next(_numbers)}.partial"
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        try:
            file = os.open(temporary, new, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = os.open(temporary, new, 0o666)
        with os.fdopen(file, "wb") as opened:
            opened.write(stored)
            opened.flush()
            os.fsync(file)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
