"""Reading tiles ahead of the network, in threads."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.errors import SlideError
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_dala.analysis.schedule import Schedule
    from napari_dala.slide import Slide

_BLOCKS_AHEAD = 2  # read before they are needed; more would make the order slow to follow the view


@dataclass(frozen=True)
class Block:
    """Tiles of one block as they come from a reader.

    Attributes
    ----------
    position
        Row and column among the blocks.
    tiles
        Row and column of the tiles that were read.
    pixels
        (n, tile_px, tile_px, 3) uint8, in the order of `tiles`.
    unreadable
        Row and column of tiles that cannot be decoded.
    """

    position: tuple[int, int]
    tiles: list[tuple[int, int]]
    pixels: NDArray[np.uint8]
    unreadable: list[tuple[int, int]]


class Readers:
    """Threads that read blocks in the schedule's order, a few ahead of their use."""

    def __init__(self, slide: Slide, grid: TileGrid, schedule: Schedule, workers: int) -> None:
        self._slide, self._grid, self._schedule = slide, grid, schedule
        self._queue: queue.Queue[Block | BaseException | None] = queue.Queue(max(_BLOCKS_AHEAD, workers))
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._read, daemon=True, name="dala-reader") for _ in range(workers)]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while any(thread.is_alive() for thread in self._threads):
            try:  # a reader may wait for room in the queue
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[Block]:
        """Yield blocks until every reader has ended; a reader's failure is raised here."""
        running = len(self._threads)
        while running:
            item = self._queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    def _read(self) -> None:
        try:
            while not self._stopped.is_set() and (task := self._schedule.take()) is not None:
                self._queue.put(read_block(self._slide, self._grid, *task))
        except BaseException as error:
            self._queue.put(error)
        self._queue.put(None)


def read_block(slide: Slide, grid: TileGrid, position: tuple[int, int], tiles: list[tuple[int, int]]) -> Block:
    """Read a block's tiles at once; where that fails, one by one, to find the unreadable ones."""
    rows, columns = (sorted({tile[axis] for tile in tiles}) for axis in (0, 1))
    try:
        picture = read_tiles(slide, grid, rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    except SlideError:
        pixels, unreadable = [], []
        for tile in tiles:
            try:
                pixels.append(read_tiles(slide, grid, *tile, 1, 1))
            except SlideError:
                unreadable.append(tile)
        read = [tile for tile in tiles if tile not in unreadable]
        side = grid.tile_px
        return Block(position, read, np.array(pixels, np.uint8).reshape(-1, side, side, 3), unreadable)
    step, side = grid.stride_px, grid.tile_px
    corners = [((row - rows[0]) * step, (column - columns[0]) * step) for row, column in tiles]
    return Block(position, tiles, np.stack([picture[y : y + side, x : x + side] for y, x in corners]), [])
