"""Channel means of labelled tiles: from an analysis that has them, else from the pixels."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.errors import SlideError
from napari_dala.results.tile_results import TileStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.training.finetune.gather import LabelledTiles
    from napari_dala.training.finetune.job import FinetuneSettings


_log = logging.getLogger(__name__)


def labelled_features(
    tiles: LabelledTiles,
    settings: FinetuneSettings,
    load: Callable[[], ModelBundle],
    channels: int,
    *,
    on_progress: Callable[[int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Return the channel means of all labelled tiles (n, channels), and which of them could be readable, (n,).

    Parameters
    ----------
    tiles
        See there; those that its sources have stored are not read.
    settings
        For device and precision.
    load
        Gives the whole model; called only if a tile has to be read.
    channels
        Of its trunk's map.
    on_progress
        Told how many of how many tiles were read.
    should_stop
        Asked before each batch; if it says so, the rest are not readable.
    """
    features = np.zeros((len(tiles.examples), channels), np.float16)
    readable = np.zeros(len(features), np.bool_)
    row, column = tiles.examples.row, tiles.examples.column
    for source in tiles.sources:
        if source.stored:
            here = np.flatnonzero(tiles.examples.slide == source.fingerprint)
            done = here[source.stored.status[row[here], column[here]] == TileStatus.DONE]
            try:
                features[done] = source.stored.read(row[done], column[done])
            except (ValueError, RuntimeError):  # a damaged chunk: the pixels are read instead
                _log.warning("%s: stored features are damaged; the tiles are read again", source.fingerprint)
                continue
            readable[done] = True
    missing = np.flatnonzero(~readable)
    if not len(missing):
        return features, readable

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
                readable[index] = True
            except SlideError:  # this part of the file cannot be decoded
                continue
        if pixels:
            features[batch[readable[batch]]] = predictor(np.stack(pixels)).features
        if on_progress:
            on_progress(int(np.searchsorted(missing, batch[-1])) + 1, len(missing))
    return features, readable


def readable(tiles: LabelledTiles, should_stop: Callable[[], bool] | None = None) -> NDArray[np.bool_]:
    """Return which tiles can be decoded, (n,), reading each; those from where it was asked to stop on cannot."""
    readable = np.zeros(len(tiles), np.bool_)
    for index in range(len(tiles)):
        if should_stop and should_stop():
            break
        try:
            tiles.read(index)
            readable[index] = True
        except SlideError:
            continue
    return readable


def _batches(indices: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
