"""Channel means of labelled tiles: from an analysis that has them, else from the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from napari_dala.results.stored_tiles import read_scattered
from napari_dala.results.store import FEATURES, Setting, TileStatus
from napari_dala.errors import SlideError
from napari_dala.slide.tiles import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.slide.tiles import TileGrid
    from napari_dala.training.finetune.job import FinetuneSettings
    from napari_dala.training.finetune.gather import LabelledTiles


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
        """Return the channel means of n tiles that are done, (n, 2048)."""
        array = cast("zarr.Array[Any]", self._group["features"])

        def block(position: tuple[int, int]) -> NDArray[Any]:
            top, left = position[0] * BLOCK, position[1] * BLOCK
            return np.asarray(array[top : top + BLOCK, left : left + BLOCK])

        return read_scattered(block, row, column).reshape(-1, FEATURES)


def find_stored(folder: Path, like: Setting) -> StoredFeatures | None:
    """Return what an analysis of a slide has stored for a trunk; of several, the one with most tiles done.

    Parameters
    ----------
    folder
        Holds `analysis.zarr`; where it does not, there is nothing.
    like
        Slide, trunk and the tiles' size and resolution must be these, the precision too unless it is "auto"; the
        tiles may overlap as they like.
    """
    try:
        groups = [group for _, group in zarr.open_group(folder / "analysis.zarr", mode="r").groups()]
        found = [(Setting.from_attributes(cast("Any", group.attrs["setting"])), group) for group in groups]
        stored = [
            StoredFeatures(setting, np.asarray(cast("zarr.Array[Any]", group["status"])[:]), group)
            for setting, group in found
            if _fits(setting, like)
        ]
    except (OSError, KeyError, TypeError, ValueError):  # absent, or no analysis
        return None
    return max(stored, key=lambda one: int((one.status == TileStatus.DONE).sum()), default=None)


def features_of(
    tiles: LabelledTiles,
    settings: FinetuneSettings,
    load: Callable[[], ModelBundle],
    *,
    on_progress: Callable[[int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Return the channel means of all labelled tiles (n, 2048), and which of them could be had, (n,).

    Parameters
    ----------
    tiles
        See there; those that its sources have stored are not read.
    settings
        For device and precision.
    load
        Gives the whole model; called only if a tile has to be read.
    on_progress
        Told how many of how many tiles were read.
    should_stop
        Asked before each batch; if it says so, the rest are not had.
    """
    features = np.zeros((len(tiles.examples), FEATURES), np.float16)
    had = np.zeros(len(features), np.bool_)
    row, column = tiles.examples.row, tiles.examples.column
    for source in tiles.sources:
        if source.stored:
            here = np.flatnonzero(tiles.examples.slide == source.fingerprint)
            done = here[source.stored.status[row[here], column[here]] == TileStatus.DONE]
            features[done] = source.stored.read(row[done], column[done])
            had[done] = True
    missing = np.flatnonzero(~had)
    if not len(missing):
        return features, had

    from napari_dala.inference.predictor import Predictor  # builds the trunk: seconds, only where it is needed

    precisions = {source.stored.setting.precision for source in tiles.sources if source.stored}
    precision = precisions.pop() if len(precisions) == 1 else settings.precision
    predictor = Predictor(load(), settings.device, precision)
    for batch in _batches(missing, predictor.batch_size):
        if should_stop and should_stop():
            break
        pixels = []
        for index in batch.tolist():
            try:
                pixels.append(tiles.read(index))
                had[index] = True
            except SlideError:  # this part of the file cannot be decoded
                continue
        if pixels:
            features[batch[had[batch]]] = predictor(np.stack(pixels)).features
        if on_progress:
            on_progress(int(np.searchsorted(missing, batch[-1])) + 1, len(missing))
    return features, had


def readable(tiles: LabelledTiles, should_stop: Callable[[], bool] | None = None) -> NDArray[np.bool_]:
    """Return which tiles can be decoded, (n,), reading each; those from where it was asked to stop on cannot."""
    had = np.zeros(len(tiles), np.bool_)
    for index in range(len(tiles)):
        if should_stop and should_stop():
            break
        try:
            tiles.read(index)
            had[index] = True
        except SlideError:
            continue
    return had


def _batches(indices: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _fits(found: Setting, like: Setting) -> bool:
    def tile(grid: TileGrid) -> tuple[Any, ...]:
        return grid.slide_size, grid.tile_px, *np.round(grid.scale, 9).tolist()

    same = (found.fingerprint, found.trunk_hash, *tile(found.grid)) == (
        like.fingerprint,
        like.trunk_hash,
        *tile(like.grid),
    )
    return same and like.precision in ("auto", found.precision)
