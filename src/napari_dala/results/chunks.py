"""The chunks of a store: how they are encoded, where they lie, and whether they are what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from zarr.codecs import Crc32cCodec, ZstdCodec

from napari_dala.errors import DalaError

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray
    from zarr.storage import LocalStore

TILES_LAST = ("probability", "cam")  # arrays whose last two axes, not their first two, are the tiles'
CODECS = (ZstdCodec(level=1), Crc32cCodec())  # of new arrays; zarr's own level 3 is a fifth as fast and saves no more


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


def array_folder(array: zarr.Array[Any]) -> str:
    """Return the folder of an array."""
    return f"{cast('LocalStore', array.store_path.store).root.as_posix()}/{array.path}"


def chunk_path(array: zarr.Array[Any], name: str, place: tuple[int, int]) -> str:
    """Return the file in which a chunk is kept."""
    return f"{array_folder(array)}/{array.metadata.encode_chunk_key(_index(array, name, place))}"


def read_chunk(array: zarr.Array[Any], name: str, place: tuple[int, int]) -> NDArray[Any]:
    """Return what of a chunk lies in the array; `DamagedChunk` if its file is not what was written."""
    try:
        return np.asarray(array.get_block_selection(_index(array, name, place)))
    except (ValueError, RuntimeError):  # whatever decoding a damaged chunk gives
        raise DamagedChunk(chunk_path(array, name, place), name, place) from None


def _index(array: zarr.Array[Any], name: str, place: tuple[int, int]) -> tuple[int, ...]:
    return (0, *place) if name in TILES_LAST else (*place, *(0,) * (array.ndim - 2))
