"""Putting tiles into the arrays of a store, by tensorstore. Only the process that writes has it loaded: it is 66 MB.

It works in threads of its own, without the interpreter's lock (`python -m benchmarks.storing`).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorstore

from napari_dala.errors import DalaError
from napari_dala.results.chunks import TILES_LAST, array_folder, cells_of, chunk_side, read_chunk

if TYPE_CHECKING:
    from collections.abc import Mapping

    import zarr
    from numpy.typing import NDArray

_CONTEXT = {
    "cache_pool": {"total_bytes_limit": 2**24},  # the last chunks, so that the next tiles of them need no reading
    "file_io_locking": {"mode": "none"},  # a chunk has one writer, and not every file system has locks
    "file_io_sync": True,  # a chunk is on the disk before it has its name: whole or absent, also through a power cut
}
_CAUSE = re.compile(r"([^:]+) \[os_error_code='(\d+)'\]")  # ends what tensorstore says of a file


class ChunkWriter:
    """Writes tiles beside what is stored, for one process that owns the chunks.

    What is put in together is written together: a small chunk costs as much as a large one.

    Parameters
    ----------
    arrays
        Of a store, by name.
    cells
        CAM cells along a tile's side.
    """

    def __init__(self, arrays: Mapping[str, zarr.Array[Any]], cells: int) -> None:
        self._arrays, self._cells = arrays, cells
        context = tensorstore.Context(_CONTEXT)
        self._opened = {name: _opened(array, context) for name, array in arrays.items()}

    def put(self, row: NDArray[np.intp], column: NDArray[np.intp], values: Mapping[str, NDArray[Any]]) -> None:
        """Put in the values of n tiles, by their rows and columns in the grid; each array's are (n, ...).

        Raises
        ------
        DamagedChunk
            When tiles belong beside others in a chunk that is damaged.
        OSError
            When the disk is full or read-only.
        """
        try:
            with tensorstore.Transaction() as transaction:
                for name, each in values.items():
                    self._put(self._opened[name].with_transaction(transaction), name, row, column, each)
        except ValueError as error:
            for name in values:
                side = chunk_side(self._arrays[name], name, self._cells)
                for place in sorted(set(zip((row // side).tolist(), (column // side).tolist(), strict=True))):
                    read_chunk(self._arrays[name], name, place)  # raises where that is it
            raise _readable(error, array_folder(self._arrays[name])) from error

    def _put(
        self,
        array: tensorstore.TensorStore,
        name: str,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        values: NDArray[Any],
    ) -> None:
        values = values.astype(array.dtype.numpy_dtype, copy=False)
        if name not in TILES_LAST:
            array[row, column] = values
            return
        side = cells_of(name, self._cells)
        classes, y, x = np.arange(array.shape[0])[:, None, None], np.arange(side)[:, None], np.arange(side)
        top, left = (at[:, None, None, None] * side for at in (row, column))
        array.vindex[classes, top + y, left + x] = values.reshape(len(row), len(classes), side, side)


def _opened(array: zarr.Array[Any], context: tensorstore.Context) -> tensorstore.TensorStore:
    """Open an array; `DalaError` where its folder is none that tensorstore takes: not UTF-8, or on Windows //server."""
    real = os.path.abspath if os.name == "nt" else os.path.realpath  # there that would make //server of a drive letter
    folder = real(array_folder(array)).replace(os.sep, "/")
    try:
        folder.encode()
        return tensorstore.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": f"{folder}/"},
                "recheck_cached_data": False,  # whether a chunk is still the same is looked at when it is written
                "store_data_equal_to_fill_value": True,  # else it would pass for lost
            },
            open=True,
            context=context,
        ).result()
    except ValueError as error:
        what = "choose another folder, with a plain name; give a network share a drive letter"
        raise DalaError(f"{folder!a}: cannot be written to ({' '.join(str(error).split())}); {what}") from error


def _readable(error: ValueError, folder: str) -> OSError | DalaError:
    """Return what the system said, where it is at the bottom of an error of tensorstore's."""
    cause = _CAUSE.search(str(error))
    if cause is None:
        return DalaError(f"{folder}: cannot be written to ({' '.join(str(error).split())})")
    code = int(cause[2])
    return OSError(code, cause[1].strip(), folder, code)  # the first one counts; on Windows the last
