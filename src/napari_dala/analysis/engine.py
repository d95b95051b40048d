"""Slide x model -> result: readers fill a bounded queue, the network empties it, a writer stores what it found."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.analysis.predictor import Prediction, Predictor
from napari_dala.analysis.regions import tiles_in
from napari_dala.analysis.result import Analysis
from napari_dala.analysis.run_control import Progress, RunControl
from napari_dala.analysis.schedule import Schedule
from napari_dala.analysis.store import AnalysisStore, Setting, TileResults, TileStatus, create_store
from napari_dala.errors import SlideError
from napari_dala.slide.tiles import TileGrid, read_tiles
from napari_dala.slide.tissue import tissue_mask
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from shapely import Geometry

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.slide import Slide

MIN_TISSUE = 0.1  # part of a tile that must be tissue
_BLOCKS_AHEAD = 2  # read before they are needed; more would make the order slow to follow the view
_WRITES_AHEAD = 4


@dataclass(frozen=True)
class _Block:
    """Tiles of one block as they come from the reader."""

    position: tuple[int, int]
    tiles: list[tuple[int, int]]
    pixels: NDArray[np.uint8]
    unreadable: list[tuple[int, int]]


def analyze(
    slide: Slide,
    model: ModelBundle | Predictor,
    out: str | Path | None = None,
    *,
    region: Sequence[Geometry] | None = None,
    overlap: float = 0.0,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 1,
    restart: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    control: RunControl | None = None,
) -> Analysis:
    """Run a model on every tissue tile of a slide; what an earlier run did is not done again.

    Parameters
    ----------
    slide
        Its mpp must be known.
    model
        A bundle, or a `Predictor` that is warm already (then `device` and `precision` are its own).
    out
        Folder for `analysis.zarr`; by default the slide's folder in the workspace.
    region
        Polygons in level-0 px; only tiles whose centre lies in one are done.
    overlap
        Part of a tile's side shared with its neighbour, 0 to below 1.
    device, precision
        See `Predictor`.
    workers
        Threads that read tiles.
    restart
        Drop what was computed before under this setting.
    on_progress
        Called from a worker thread after each block of 4 x 4 tiles, and once before the first.
    control
        To cancel, pause or steer the order from another thread.

    Returns
    -------
    Analysis
        Also after a cancel, with what was done until then.

    Raises
    ------
    SlideError
        When the slide has no mpp or does not fit the model.
    DalaError
        When device or precision are not to be had.

    Examples
    --------
    >>> from napari_dala import analyze, load_model, open_slide
    >>> slide = open_slide("slide.svs")  # doctest: +SKIP
    >>> analyze(slide, load_model("default"), "results").summary().area_mm2  # doctest: +SKIP
    """
    predictor = model if isinstance(model, Predictor) else None
    bundle = predictor.bundle if predictor else model
    grid = TileGrid.over(slide, bundle.card.tile_px, bundle.card.mpp, overlap)
    tissue = tissue_tiles(slide, grid)
    wanted = tissue if region is None else tissue & tiles_in(region, grid)
    predictor = predictor or Predictor(bundle, device, precision)
    store = create_store(
        (slide_folder(slide.fingerprint) / "analyses" if out is None else Path(out)) / "analysis.zarr",
        Setting(slide.fingerprint, grid, bundle.trunk_hash, predictor.precision),
        slide=slide.properties,
        bundle_hash=bundle.hash,
        card=bundle.card.model_dump(mode="json"),
        components=0 if bundle.basis is None else bundle.basis.shape[1],
        restart=restart,
    )
    store.mark_background(tissue)
    todo = wanted & ~store.scored & (store.status != TileStatus.UNREADABLE)
    tally = _Tally(store, wanted, todo, on_progress)
    control = control or RunControl()
    readers = _Readers(slide, grid, Schedule(grid, todo, control), workers)
    with ThreadPoolExecutor(1, "dala-writer") as writer, readers:
        writes: deque[Future[None]] = deque()
        for batch in _batches(readers, predictor):
            control.wait_while_paused()
            if control.is_cancelled:
                break
            for block, results in _predict(predictor, batch):
                writes.append(writer.submit(tally.write, block, results))
            while len(writes) > _WRITES_AHEAD:
                writes.popleft().result()
        for write in writes:
            write.result()
    return Analysis(store)


def tissue_tiles(slide: Slide, grid: TileGrid) -> NDArray[np.bool_]:
    """Return which tiles hold enough tissue, (rows, columns); of a photograph every tile does."""
    inside = grid.inside_fraction() >= 0.5
    inside[0, 0] |= grid.shape == (1, 1)  # a picture smaller than half a tile is still worth one
    if slide.is_photograph:
        return inside
    left, top = grid.origins()
    width, height = grid.tile_size
    fraction = tissue_mask(slide).fraction(left[None, :], top[:, None], width, height)
    return inside & (fraction >= MIN_TISSUE)


class _Readers:
    """Threads that read blocks in the schedule's order, a few ahead of their use."""

    def __init__(self, slide: Slide, grid: TileGrid, schedule: Schedule, workers: int) -> None:
        self._slide, self._grid, self._schedule = slide, grid, schedule
        self._queue: queue.Queue[_Block | BaseException | None] = queue.Queue(max(_BLOCKS_AHEAD, workers))
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._read, daemon=True, name="dala-reader") for _ in range(workers)]

    def __enter__(self) -> _Readers:
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

    def __iter__(self) -> Iterator[_Block]:
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
                self._queue.put(_read_block(self._slide, self._grid, *task))
        except BaseException as error:
            self._queue.put(error)
        self._queue.put(None)


def _read_block(
    slide: Slide, grid: TileGrid, position: tuple[int, int], tiles: list[tuple[int, int]]
) -> _Block:
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
        return _Block(position, read, np.array(pixels, np.uint8).reshape(-1, side, side, 3), unreadable)
    step, side = grid.stride_px, grid.tile_px
    corners = [((row - rows[0]) * step, (column - columns[0]) * step) for row, column in tiles]
    return _Block(position, tiles, np.stack([picture[y : y + side, x : x + side] for y, x in corners]), [])


def _batches(blocks: Iterator[_Block] | _Readers, predictor: Predictor) -> Iterator[list[_Block]]:
    """Group whole blocks until they fill a batch; a tile's result does not depend on its company."""
    batch: list[_Block] = []
    for block in blocks:
        batch.append(block)
        if sum(len(member.tiles) for member in batch) >= predictor.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _predict(predictor: Predictor, batch: list[_Block]) -> Iterator[tuple[_Block, TileResults | None]]:
    """Yield each block of a batch with its results."""
    pixels = np.concatenate([block.pixels for block in batch])
    prediction = predictor(pixels) if len(pixels) else None
    start = 0
    for block in batch:
        end = start + len(block.tiles)
        yield block, None if prediction is None else _results(block, prediction, start, end)
        start = end


def _results(block: _Block, prediction: Prediction, start: int, end: int) -> TileResults:
    row, column = np.array(block.tiles, np.intp).reshape(-1, 2).T
    return TileResults(
        row,
        column,
        prediction.probability[start:end],
        prediction.cam[start:end],
        prediction.features[start:end],
        None if prediction.layer4 is None else prediction.layer4[start:end],
    )


class _Tally:
    """Writes blocks, counts them and reports; used by the one writer thread."""

    def __init__(
        self,
        store: AnalysisStore,
        wanted: NDArray[np.bool_],
        todo: NDArray[np.bool_],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._store = store
        self._on_progress = on_progress
        self._total = int(wanted.sum())
        self._before = self._total - int(todo.sum())
        self._unreadable = int((wanted & (store.status == TileStatus.UNREADABLE)).sum())
        self._done = 0
        self._start = time.perf_counter()
        self._report(())

    def write(self, block: _Block, results: TileResults | None) -> None:
        self._store.write(block.position, results, block.unreadable)
        self._done += len(block.tiles) + len(block.unreadable)
        self._unreadable += len(block.unreadable)
        self._report((block.position,))

    def _report(self, blocks: tuple[tuple[int, int], ...]) -> None:
        if self._on_progress is None:
            return
        rate = self._done / (time.perf_counter() - self._start) if self._done else 0.0
        done = self._before + self._done
        left = (self._total - done) / rate if rate else None
        self._on_progress(Progress(done, self._total, self._unreadable, rate, left, blocks))
