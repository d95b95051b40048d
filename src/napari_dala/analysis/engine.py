"""Slide x model -> result: readers are a few blocks ahead of the network, a writer stores what it finds."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.plan import Work, prepare
from napari_dala.analysis.reading import TileBlock, read_ahead, reader_count
from napari_dala.analysis.schedule import Schedule
from napari_dala.analysis.writing import Writer
from napari_dala.inference.predictor import Prediction, Predictor
from napari_dala.inference.sampler import Sampler
from napari_dala.inference.streams import Streams
from napari_dala.results.analysis import Analysis
from napari_dala.results.progress import Progress, pace
from napari_dala.results.request import AnalysisRequest
from napari_dala.results.tile_results import TileResults, TileStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from shapely import MultiPolygon, Polygon
    from torch import Tensor

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.slide import Slide


def analyze(
    slide: Slide,
    model: ModelBundle | Predictor,
    out: str | Path | None = None,
    *,
    region: Sequence[Polygon | MultiPolygon] | None = None,
    overlap: float = 0.0,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 0,
    decode_on_device: bool = False,
    restart: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    control: RunControl | None = None,
) -> Analysis:
    """Run a model on every tissue tile of a slide; what an earlier run did is not done again.

    Tiles that the same trunk has seen before, with another head, are scored from their stored features first. Their
    Grad-CAM is approximate until the network has run on them again, which follows.

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
        Readers of tiles; 0 for `reading.reader_count`.
    decode_on_device
        See `Sampler`.
    restart
        Drop what was computed before under this setting.
    on_progress
        Called from a worker thread when tiles were stored, and once before the first.
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
        When device or precision are not there.

    Examples
    --------
    >>> from napari_dala import analyze, load_model, open_slide
    >>> slide = open_slide("slide.svs")  # doctest: +SKIP
    >>> analyze(slide, load_model("default"), "results").summary().area_mm2  # doctest: +SKIP
    """
    request = AnalysisRequest.of(
        out=out,
        region=region,
        overlap=overlap,
        device=device,
        precision=precision,
        workers=workers,
        decode_on_device=decode_on_device,
        restart=restart,
    )
    return carry_out(slide, model, request, on_progress, control)


def carry_out(
    slide: Slide,
    model: ModelBundle | Predictor,
    request: AnalysisRequest,
    on_progress: Callable[[Progress], None] | None = None,
    control: RunControl | None = None,
) -> Analysis:
    """Do what is asked of an open slide and a model; see `analyze`, which fills the request."""
    predictor = model if isinstance(model, Predictor) else Predictor(model, request.device, request.precision)
    control = control or RunControl()
    work = prepare(slide, predictor, request, on_progress, control)
    run_network(slide, predictor, work, request, on_progress, control)
    return Analysis(work.store, doubt=request.doubt)


def run_network(
    slide: Slide,
    predictor: Predictor,
    work: Work,
    request: AnalysisRequest,
    on_progress: Callable[[Progress], None] | None = None,
    control: RunControl | None = None,
) -> None:
    """Run the network on what is to be done, and store what it finds; see `analyze`."""
    control = control or RunControl()
    device, workers = predictor.device, request.workers or reader_count(predictor.device)
    cores = workers if device.type == "cuda" else 0
    sampler = Sampler(slide, work.store.grid, device, decode_on_device=request.decode_on_device, readers=cores)
    ahead = read_ahead(sampler, work.tissue, Schedule(work.store.grid, work.todo, control), workers)
    streams: Streams[_Pieces, Prediction] = Streams(predictor.device, predictor)
    writing = _ProgressWriter(work, streams, on_progress)
    with closing(ahead) as blocks, Writer(writing.write) as writer, streams:
        writing.begin()
        for predictions in _predicted(blocks, streams, predictor.batch_size, control):
            writer.put(predictions)


def _predicted(
    blocks: Iterator[TileBlock], streams: Streams[_Pieces, Prediction], batch_size: int, control: RunControl
) -> Iterator[_Predictions]:
    """Run the network on full batches across blocks; yield each block when its last tile is done.

    After a cancel, what was predicted of unfinished blocks is yielded too.
    """
    waiting: deque[tuple[_Predictions, Tensor]] = deque()  # blocks and their tiles, in the order read
    unfinished: deque[_Predictions] = deque()

    def batch() -> tuple[_Pieces, list[Tensor]]:
        pieces: _Pieces = []
        tiles: list[Tensor] = []
        room = batch_size
        while room and waiting:
            predictions, pixels = waiting.popleft()
            if len(pixels) > room:
                waiting.appendleft((predictions, pixels[room:]))
            tiles.append(pixels[:room])
            pieces.append((predictions, len(tiles[-1])))
            room -= len(tiles[-1])
        return pieces, tiles

    for block in blocks:
        predictions = _Predictions(block.position, block.tiles, block.unreadable, block.failed)
        unfinished.append(predictions)
        if block.tiles:
            waiting.append((predictions, block.pixels))
        while sum(len(pixels) for _, pixels in waiting) >= batch_size and _may_go_on(control):
            _enter(streams.submit(*batch()))
        yield from _finished(unfinished)
        if control.is_cancelled:
            break
    if waiting and _may_go_on(control):
        _enter(streams.submit(*batch()))
    _enter(streams.rest())
    yield from _finished(unfinished)
    yield from (predictions for predictions in unfinished if predictions.done)


def _may_go_on(control: RunControl) -> bool:
    """Hold while paused; return False after a cancel."""
    control.wait_while_paused()
    return not control.is_cancelled


def _enter(predicted: Iterator[tuple[_Pieces, Prediction]]) -> None:
    """Note the results of batches with the blocks that their tiles are of."""
    for pieces, prediction in predicted:
        start = 0
        for predictions, count in pieces:
            predictions.parts.append((prediction, slice(start, start + count)))
            predictions.done += count
            start += count


def _finished(unfinished: deque[_Predictions]) -> Iterator[_Predictions]:
    """Take the blocks off the front whose every tile is done, and yield them."""
    while unfinished and unfinished[0].done == len(unfinished[0].readable):
        yield unfinished.popleft()


@dataclass
class _Predictions:
    """What is known of a block but its pixels: for its first tiles, in order, predictions and their rows in them."""

    position: tuple[int, int]
    readable: list[tuple[int, int]]
    unreadable: list[tuple[int, int]]
    failed: list[tuple[int, int]]
    parts: list[tuple[Prediction, slice]] = field(default_factory=list)
    done: int = 0

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """Those that are done."""
        return self.readable[: self.done]


_Pieces: TypeAlias = "list[tuple[_Predictions, int]]"
"""What a batch holds: blocks, and how many of each one's next tiles."""


def _results(blocks: list[_Predictions]) -> TileResults | None:
    """Return what was found in the tiles that are done, None where none is."""
    parts = [part for predictions in blocks for part in predictions.parts]
    if not parts:
        return None
    row, column = np.array([tile for predictions in blocks for tile in predictions.tiles], np.intp).T
    arrays: dict[str, Any] = {}
    for name, first in vars(parts[0][0]).items():
        arrays[name] = None if first is None else np.concatenate([getattr(part, name)[rows] for part, rows in parts])
    return TileResults(row, column, **arrays)


class _ProgressWriter:
    """Writes blocks, counts them and reports; used by the one writer thread."""

    def __init__(
        self,
        work: Work,
        streams: Streams[Any, Any],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._work, self._streams = work, streams
        self._on_progress = on_progress
        self._todo = work.todo
        self._begun_with, self._failed = int(self._todo.sum()), 0
        self._unreadable = int((work.wanted & (work.status == TileStatus.UNREADABLE)).sum())
        self._start = time.perf_counter()

    def begin(self) -> None:
        self._start = time.perf_counter()
        self._report(())

    def write(self, blocks: list[_Predictions]) -> None:
        unreadable = [tile for predictions in blocks for tile in predictions.unreadable]
        self._work.store.write(_results(blocks), unreadable)
        for tile in (*unreadable, *(tile for predictions in blocks for tile in predictions.tiles)):
            self._todo[tile] = False
        self._unreadable += len(unreadable)
        self._failed += sum(len(predictions.failed) for predictions in blocks)
        self._report(tuple(predictions.position for predictions in blocks))

    def _report(self, blocks: tuple[tuple[int, int], ...]) -> None:
        if self._on_progress is None:
            return
        left, total = int(self._todo.sum()), int(self._work.wanted.sum())
        approximate = int((self._todo & self._work.scored).sum())  # their maps are
        rate, seconds_left = pace(self._begun_with - left, left, time.perf_counter() - self._start)
        self._on_progress(
            Progress(
                done=total - left + approximate,
                total=total,
                unreadable=self._unreadable,
                failed=self._failed,
                tiles_per_s=rate,
                seconds_left=seconds_left,
                blocks=blocks,
                approximate=approximate,
                stalled=self._streams.stalled,
                device=str(self._streams.device),
            )
        )
