"""A new head on tiles that its trunk has seen before: what is stored of them is scored, and no pixel is read."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.schedule import Schedule
from napari_dala.model.gradcam import cam_weights
from napari_dala.results.chunks import DamagedChunk
from napari_dala.results.progress import Progress, pace
from napari_dala.results.tile_results import LEFT_OUT, RescoredTiles, TileStatus
from napari_dala.slide.tiles import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_dala.model.bundle_file import Bundle
    from napari_dala.results.store import AnalysisStore

    Task = tuple[tuple[int, int], list[tuple[int, int]]]

_BLOCKS_AT_ONCE = 8  # per pass of the head: 128 tiles, a tenth of a second


def rescore(
    store: AnalysisStore,
    bundle: Bundle,
    control: RunControl | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> int:
    """Score every tile whose features are stored and that this bundle has not scored yet.

    Probabilities are those of the stored channel means (float16; within 1e-3 of the network's). Grad-CAM comes from
    the stored projection of layer4 and is approximate, or is left empty where none is stored; such tiles count as
    scored, not as exact (see `AnalysisStore`).

    Parameters
    ----------
    store
        The bundle's own: `create_store`, or `for_bundle` of another head's.
    bundle
        A `BundleHead` or `ModelBundle` with the trunk that made the features.
    control
        To cancel, pause or steer the order from another thread.
    on_progress
        Called after every few blocks of 4 x 4 tiles; not at all where nothing is to be scored.

    Returns
    -------
    int
        Number of tiles that were scored.

    Raises
    ------
    ValueError
        If the store is another bundle's.
    """
    if (store.bundle_hash, store.setting.trunk_hash) != (bundle.hash, bundle.trunk_hash):
        raise ValueError(f"{store.path}: its open results are not those of {bundle.card.name}")
    control = control or RunControl()
    status = store.status
    scored = store.scored & ~np.isin(status, LEFT_OUT)
    todo = (status == TileStatus.DONE) & ~scored
    total = int((~np.isin(status, (TileStatus.BACKGROUND, *LEFT_OUT))).sum())
    unreadable = int((status == TileStatus.UNREADABLE).sum())
    before, approximate, to_score = int(scored.sum()) + unreadable, int((scored & ~store.exact).sum()), int(todo.sum())
    done, start = 0, time.perf_counter()
    tasks = iter(Schedule(store.grid, todo, control).take, None)
    while not control.is_cancelled and (few := list(islice(tasks, _BLOCKS_AT_ONCE))):
        for results in _score(store, bundle, few):
            store.write_rescored(results)
            done += len(results.row)
        if on_progress is not None:
            rate, left = pace(done, to_score - done, time.perf_counter() - start)
            blocks = tuple(block for block, _ in few)
            on_progress(Progress(before + done, total, unreadable, rate, left, blocks, approximate + done))
        control.wait_while_paused()
    return done


def _score(store: AnalysisStore, bundle: Bundle, tasks: list[Task]) -> Iterator[RescoredTiles]:
    """Yield the results of a few blocks, from one pass of the head over their tiles."""
    with_maps = store.has_layer4 and bundle.basis is not None
    found = [(task, values) for task in tasks if (values := _sound(store, task, with_maps)) is not None]
    if not found:
        return
    tasks = [task for task, _ in found]
    means = torch.from_numpy(np.concatenate([values[0] for _, values in found])).float()
    cells = store.grid.cells
    with torch.no_grad():
        if with_maps:
            assert bundle.basis is not None
            logits, weights = cam_weights(bundle.network, means, cells * cells)
            stored = torch.from_numpy(np.concatenate([values[1] for _, values in found])).float()
            cams = approximate_cam(stored, means, weights, bundle.basis).numpy()
        else:
            logits, cams = bundle.network.head_from_means(means), None
        probability = bundle.probabilities(logits).numpy()
        ratio = None if bundle.known is None else bundle.known.ratio(means).numpy()
    end = 0
    for _, tiles in tasks:
        row, column = np.array(tiles, np.intp).T
        part = slice(end, end := end + len(tiles))
        maps = None if cams is None else cams[part]
        yield RescoredTiles(row, column, probability[part], maps, None if ratio is None else ratio[part])


def approximate_cam(stored: Tensor, means: Tensor, weights: Tensor, basis: Tensor) -> Tensor:
    """Return Grad-CAM maps from the map's projection, (n, classes, cells, cells) float32.

    What the basis leaves out of a tile is spread evenly over it: the map's mean before the relu is the exact one.

    Parameters
    ----------
    stored : Tensor
        (n, cells, cells, components), the map @ basis.
    means : Tensor
        (n, channels), the exact channel means of the trunk's map.
    weights : Tensor
        (n, classes, channels), as `cam_weights` gives them.
    basis : Tensor
        (channels, components), with orthonormal columns.
    """
    maps = torch.einsum("nyxb,ncb->ncyx", stored, weights @ basis)
    exact = torch.einsum("nk,nck->nc", means, weights)[:, :, None, None]
    return (maps + exact - maps.mean((2, 3), keepdim=True)).relu_()


def _sound(store: AnalysisStore, task: Task, with_maps: bool) -> list[NDArray[np.float16]] | None:
    """Return features, and maps where they are wanted, of a block's tiles; None where they are damaged: forgotten."""
    try:
        return [_read(store, name, task) for name in ("features", "layer4")[: 1 + with_maps]]
    except DamagedChunk as damaged:
        store.forget(damaged)
        return None


def _read(store: AnalysisStore, name: str, task: Task) -> NDArray[np.float16]:
    """Return a block's tiles of an array, (n, ...)."""
    block, tiles = task
    row, column = np.array(tiles, np.intp).T
    values: NDArray[np.float16] = store.read(name, block)[row - block[0] * BLOCK, column - block[1] * BLOCK]
    return values
