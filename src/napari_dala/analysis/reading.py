"""Reading tiles ahead of the network: in a thread beside a processor, in processes beside a GPU."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_dala.cores import usable_cores
from napari_dala.errors import SlideError, may_pass
from napari_dala.inference.streams import begin_thread, wait_for
from napari_dala.slide.reader_process import ReaderProcess
from napari_dala.slide.tiles import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_dala.analysis.schedule import Schedule
    from napari_dala.inference.sampler import Sampler

_CORES_A_READER = 8  # of a processor that is busy with the network
_CORES_BESIDE_A_GPU = 3  # for the threads that hand out blocks, feed the GPU and write
_MOST_BESIDE_A_GPU = 16  # of 6,000 tiles/s each where levels fit, of 1,500 to 2,000 where they do not
_PAUSES_S = (0.2, 1.0)  # before a tile is read again that the file system would not give
_BLOCKS_AHEAD = 2  # read before they are needed; more would make the order slow to follow the view


@dataclass(frozen=True)
class TileBlock:
    """Tiles of one block as they come from a reader.

    Attributes
    ----------
    position
        Row and column among the blocks.
    tiles
        Row and column of the tiles that were read.
    pixels
        (n, tile_px, tile_px, 3) uint8, in the order of `tiles`, on the sampler's device.
    unreadable
        Row and column of tiles whose bytes cannot be decoded.
    failed
        Row and column of tiles that the file system would not give; another run may read them.
    """

    position: tuple[int, int]
    tiles: list[tuple[int, int]]
    pixels: Tensor
    unreadable: list[tuple[int, int]]
    failed: list[tuple[int, int]] = field(default_factory=list)


def read_ahead(
    sampler: Sampler,
    tissue: NDArray[np.bool_],
    schedule: Schedule,
    workers: int,
    *,
    in_processes: bool | None = None,
) -> Generator[TileBlock, None, None]:
    """Read blocks in the schedule's order, in threads and a few ahead of their use; what fails is raised here.

    Beside a GPU each thread has a process that decodes for it (see `ReaderProcess`), where it can have one.

    Parameters
    ----------
    sampler, schedule
        How to read, and what.
    tissue
        (rows, columns) bool, see `read_block`.
    workers
        How many threads; 0 for `reader_count`.
    in_processes
        Whether they have processes; None for beside a GPU.
    """
    workers = min(workers or reader_count(sampler.device), len(schedule))
    if not workers:
        return
    if in_processes is None:
        in_processes = sampler.device.type == "cuda" and sampler.decoder is None
    samplers: SimpleQueue[Sampler] = SimpleQueue()  # one for each thread
    waiting: deque[Future[TileBlock]] = deque()

    def read(position: tuple[int, int], tiles: list[tuple[int, int]]) -> TileBlock:
        mine = samplers.get()
        try:
            block = read_block(mine, tissue, position, tiles)
            wait_for(mine.device)
            return block
        finally:
            samplers.put(mine)

    with ExitStack() as stack:
        for _ in range(workers):
            mine = sampler
            if in_processes and ReaderProcess.can_read(sampler.slide):
                with suppress(OSError):  # no room for another process
                    mine = sampler.by(stack.enter_context(ReaderProcess(sampler.slide)).read_into)
            samplers.put(mine)
        pool = ThreadPoolExecutor(workers, "dala-reader", begin_thread, (sampler.device,))
        stack.callback(pool.shutdown, cancel_futures=True)
        tasks = iter(schedule.take, None)
        while True:
            for task in islice(tasks, workers + _BLOCKS_AHEAD - len(waiting)):
                waiting.append(pool.submit(read, *task))
            if not waiting:
                return
            yield waiting.popleft().result()


def reader_count(device: torch.device) -> int:
    """Return how many readers a network needs: few beside it on a processor, all other cores beside a GPU."""
    if device.type == "cpu":
        return max(1, usable_cores() // _CORES_A_READER)
    share = usable_cores() // max(1, torch.cuda.device_count())
    return min(max(1, share - _CORES_BESIDE_A_GPU), _MOST_BESIDE_A_GPU)


def read_block(
    sampler: Sampler, tissue: NDArray[np.bool_], position: tuple[int, int], tiles: list[tuple[int, int]]
) -> TileBlock:
    """Read a block's tiles at once; where that fails, one by one, to find the unreadable ones.

    What is read is the rectangle around all of the block's `tissue`, whatever part of it is asked for: resampling
    rounds differently from another corner, and a resumed run must see the same pixels.
    """
    top, left = position[0] * BLOCK, position[1] * BLOCK
    rows, columns = np.nonzero(tissue[top : top + BLOCK, left : left + BLOCK])
    top, left = top + int(rows.min()), left + int(columns.min())
    try:
        picture = sampler.picture(top, left, int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    except SlideError:
        return _read_one_by_one(sampler, position, tiles)
    grid, side = sampler.grid, sampler.grid.tile_px
    start = grid.box(top, left)
    corners = [(y - start[1], x - start[0]) for x, y, *_ in (grid.box(row, column) for row, column in tiles)]
    return TileBlock(position, tiles, torch.stack([picture[y : y + side, x : x + side] for y, x in corners]), [])


def _read_one_by_one(sampler: Sampler, position: tuple[int, int], tiles: list[tuple[int, int]]) -> TileBlock:
    pixels: list[Tensor] = []
    readable: list[tuple[int, int]] = []
    unreadable: list[tuple[int, int]] = []
    failed: list[tuple[int, int]] = []
    for tile in tiles:
        try:
            pixels.append(_patiently(partial(sampler.picture, *tile, 1, 1)))
            readable.append(tile)
        except SlideError as error:
            if not may_pass(error):
                unreadable.append(tile)
                continue
            failed.append(tile)
            if len(failed) == len(tiles):  # the file is gone, or its disk
                raise SlideError(f"{error}; what is done is kept: run it again when the slide can be read") from error
    side = sampler.grid.tile_px
    none = torch.empty((0, side, side, 3), dtype=torch.uint8, device=sampler.device)
    return TileBlock(position, readable, torch.stack(pixels) if pixels else none, unreadable, failed)


def _patiently(read: Callable[[], Tensor]) -> Tensor:
    """Read, and again after a pause where the file system failed."""
    for pause in _PAUSES_S:
        try:
            return read()
        except SlideError as error:
            if not may_pass(error):
                raise
            time.sleep(pause)
    return read()
