"""Values of tiles that lie anywhere in a grid, reading only the chunks that hold them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from napari_dala.results.store import Setting
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide.tiles import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """What a trunk made of one slide, whatever head came after it.

    Attributes
    ----------
    setting
        Slide, grid, trunk and precision.
    status
        (rows, columns) `TileStatus` of every tile.
    """

    setting: Setting
    status: NDArray[np.uint8]
    _group: zarr.Group

    def read(self, row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.float16]:
        """Return the channel means of n tiles that are done, (n, channels)."""
        array = cast("zarr.Array[Any]", self._group["features"])

        def block(position: tuple[int, int]) -> NDArray[Any]:
            top, left = position[0] * BLOCK, position[1] * BLOCK
            return np.asarray(array[top : top + BLOCK, left : left + BLOCK])

        return read_scattered(block, row, column).reshape(-1, array.shape[-1])


def find_stored(folder: Path, like: Setting) -> StoredFeatures | None:
    """Return what an analysis of a slide has stored for a trunk; of several, the one with most tiles done.

    Parameters
    ----------
    folder
        Holds `analysis.zarr`; where it does not, there is nothing.
    like
        Slide, its colours, trunk and the tiles' size and resolution must be these, the precision too unless it is
        "auto"; the tiles may overlap as they like.
    """
    stored = []
    for header in sorted((folder / "analysis.zarr").glob("*/zarr.json")):
        with suppress(OSError, LookupError, TypeError, ValueError):  # damaged, or of no analysis
            group = zarr.open_group(header.parent, mode="r")
            setting = Setting.from_attributes(cast("Any", group.attrs["setting"]))
            if _fits(setting, like):
                status = np.asarray(cast("zarr.Array[Any]", group["status"])[:])
                stored.append(StoredFeatures(setting, status, group))
    return max(stored, key=lambda one: int((one.status == TileStatus.DONE).sum()), default=None)


def _fits(found: Setting, like: Setting) -> bool:
    names = ("fingerprint", "trunk_hash", "profile_id")
    same = all(getattr(found, name) == getattr(like, name) for name in names)
    return same and found.grid.has_tiles_of(like.grid) and like.precision in ("auto", found.precision)
