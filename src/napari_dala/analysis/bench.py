"""How fast this machine is: the network alone, with Grad-CAM, reading alone, and the whole pipeline, in one run."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.engine import analyze
from napari_dala.analysis.plan import tissue_tiles
from napari_dala.analysis.reading import read_ahead
from napari_dala.analysis.schedule import Schedule
from napari_dala.errors import DalaError
from napari_dala.inference.cuda_graph import captured
from napari_dala.inference.sampler import Sampler
from napari_dala.inference.streams import Streams, wait_for
from napari_dala.model.threshold import DynamicThreshold
from napari_dala.results.progress import Progress
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch
    from numpy.typing import NDArray

    from napari_dala.inference.predictor import Predictor
    from napari_dala.results.analysis import Analysis
    from napari_dala.slide import Slide

PYTORCH_GRAD_CAM = "pytorch-grad-cam"
THRESHOLD_CELLS = 2240  # along a side of the map to be thresholded: 100,000 tiles of 7 x 7 cells
_BATCHES, _BATCHES_GPU = 3, 10  # of each stream in one measurement of the network
_PAIRS = 3  # of forward pass and forward pass with Grad-CAM in a turn


def bench(
    slide: Slide,
    predictor: Predictor,
    *,
    repeats: int = 5,
    workers: int = 0,
    decode_on_device: bool = False,
    against: str | None = None,
) -> dict[str, Any]:
    """Measure forward pass, forward + Grad-CAM of all classes, reading and the pipeline, in turn, `repeats` times.

    The forward passes run on ready tensors of the slide's own tiles, in as many streams as the pipeline has; the
    pipeline finds tissue, reads, predicts and stores every tissue tile into a fresh folder. Ratios are medians of the
    ratios within each turn.

    Parameters
    ----------
    slide, predictor
        What to measure; tiles are read at the bundle's own resolution.
    repeats
        Turns; one more, before them, warms caches.
    workers
        Readers of tiles; 0 for `reading.reader_count`.
    decode_on_device
        See `Sampler`.
    against
        "pytorch-grad-cam" to measure it in each turn too: the network in fp32, a pass for each class.

    Returns
    -------
    dict of medians and facts

    - `forward_tiles_per_s`, `forward_cam_tiles_per_s`, `read_tiles_per_s`, `pipeline_tiles_per_s`
    - `cam_overhead`: time that Grad-CAM adds to the forward pass, over the forward pass's
    - `pipeline_efficiency`: tiles per second of the pipeline over those of the forward pass
    - `queue_stall_fraction`: `Progress.stalled` at the end
    - `first_tile_s`: from the call to the first tiles stored
    - `rethreshold_ms`: DT over 2240 x 2240 cells
    - `against_tiles_per_s`, `against_ratio` (forward + Grad-CAM over it), with `against`
    - `tiles`, `peak_rss_mb`, `device`, `precision`, `streams`, `cores`, `repeats`

    Raises
    ------
    DalaError
        If `against` is not there.
    """
    card = predictor.bundle.card
    grid = TileGrid.over(slide, card.tile_px, card.mpp, cell_px=card.cell_px)
    tiles = _tiles(slide, grid, predictor.batch_size)
    inputs = predictor.inputs(tiles)
    sampler = Sampler(slide, grid, predictor.device, decode_on_device=decode_on_device)
    other = None if against is None else _other_grad_cam(against, predictor)
    networks = [captured(run, predictor.device) for run in (predictor.forward, predictor.forward_cam)]
    turns: list[dict[str, float]] = []
    for _ in range(repeats + 1):
        turn = _of_network(predictor, networks, inputs)
        turn["read_tiles_per_s"] = _reading(slide, sampler, workers)
        if other is not None:
            turn["against_tiles_per_s"] = _rate(lambda: other(inputs.float()), len(inputs))
            turn["against_ratio"] = turn["forward_cam_tiles_per_s"] / turn["against_tiles_per_s"]
        with tempfile.TemporaryDirectory() as folder:
            analysis, of_pipeline = _pipeline(slide, predictor, folder, workers, decode_on_device)
            turn |= of_pipeline
            turn["rethreshold_ms"] = _rethreshold_ms(analysis)
        turn["pipeline_efficiency"] = turn["pipeline_tiles_per_s"] / turn["forward_tiles_per_s"]
        turns.append(turn)
    figures = {name: float(f"{median(turn[name] for turn in turns[1:]):.4g}") for name in turns[0]}
    figures["tiles"] = int(figures["tiles"])
    return figures | {
        "peak_rss_mb": round(peak_rss_mb()),
        "device": str(predictor.device),
        "precision": predictor.precision,
        "streams": Streams(predictor.device, predictor).count,
        "cores": os.cpu_count(),
        "repeats": repeats,
    }


def scaling(slides: Iterable[Slide], predictor: Predictor, *, workers: int = 0) -> dict[str, Any]:
    """Analyse slides of growing size and fit how the time grows with their tissue.

    Returns
    -------
    dict with `slides` (for each `tiles`, `seconds`, `tiles_per_s`, and `peak_rss_mb` of the process until then) and
    `exponent`: b of seconds = a * tiles ** b, by least squares on logarithms; 1 is linear.

    Raises
    ------
    DalaError
        When fewer than two sizes of tissue are there to fit.
    """
    rows = []
    for slide in slides:
        with tempfile.TemporaryDirectory() as folder:
            _, found = _pipeline(slide, predictor, folder, workers)
        rows.append(
            {
                "size": list(slide.dimensions),
                "tiles": int(found["tiles"]),
                "seconds": round(found["tiles"] / found["pipeline_tiles_per_s"], 2),
                "tiles_per_s": round(found["pipeline_tiles_per_s"], 2),
                "queue_stall_fraction": round(found["queue_stall_fraction"], 3),
                "first_tile_s": round(found["first_tile_s"], 3),
                "peak_rss_mb": round(peak_rss_mb()),
            }
        )
    tiles, seconds = (np.array([row[name] for row in rows], float) for name in ("tiles", "seconds"))
    if len(set(tiles[tiles > 0])) < 2:
        raise DalaError("--scaling needs slides with different amounts of tissue")
    return {"slides": rows, "exponent": round(float(np.polyfit(np.log(tiles), np.log(seconds), 1)[0]), 4)}


def peak_rss_mb() -> float:
    """Return the most memory this process has held, MiB."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _of_network(
    predictor: Predictor, networks: list[Callable[[torch.Tensor], Any]], inputs: torch.Tensor
) -> dict[str, float]:
    """Measure forward pass and forward pass with Grad-CAM, in turn."""
    pairs = [[_streamed(predictor, network, inputs) for network in networks] for _ in range(_PAIRS)]
    return {
        "forward_tiles_per_s": median(plain for plain, _ in pairs),
        "forward_cam_tiles_per_s": median(cam for _, cam in pairs),
        "cam_overhead": median(plain / cam for plain, cam in pairs) - 1,
    }


def _streamed(predictor: Predictor, run: Callable[[torch.Tensor], object], inputs: torch.Tensor) -> float:
    """Return the tiles per second of a network that gets ready tensors as the pipeline would give them."""

    def finished(batch: torch.Tensor) -> None:
        run(batch)
        wait_for(predictor.device)

    streams: Streams[None, None] = Streams(predictor.device, finished)
    batches = streams.count * (_BATCHES if predictor.device.type == "cpu" else _BATCHES_GPU)
    with streams:
        return _rate(
            lambda: [*(list(streams.submit(None, inputs)) for _ in range(batches)), *streams.rest()],
            batches * len(inputs),
        )


def _reading(slide: Slide, sampler: Sampler, workers: int) -> float:
    """Return the tiles per second of reading alone."""
    tissue = tissue_tiles(slide, sampler.grid)
    blocks = read_ahead(sampler, tissue, Schedule(sampler.grid, tissue, RunControl()), workers)
    return _rate(lambda: [len(block.tiles) for block in blocks], int(tissue.sum()))


def _pipeline(
    slide: Slide, predictor: Predictor, folder: str, workers: int, decode_on_device: bool = False
) -> tuple[Analysis, dict[str, float]]:
    """Analyse a slide into a fresh folder; return what was found and its figures."""
    first: list[float] = []
    last = Progress(0, 0)

    def note(progress: Progress) -> None:
        nonlocal last
        last = progress
        if progress.blocks and not first:
            first.append(time.perf_counter() - start)

    start = time.perf_counter()
    analysis = analyze(slide, predictor, folder, workers=workers, decode_on_device=decode_on_device, on_progress=note)
    seconds = time.perf_counter() - start
    if not first:
        raise DalaError(f"{slide.name}: no tissue found; there is nothing to measure")
    return analysis, {
        "pipeline_tiles_per_s": last.total / seconds,
        "queue_stall_fraction": last.stalled,
        "first_tile_s": first[0],
        "tiles": last.total,
    }


def _rethreshold_ms(analysis: Analysis) -> float:
    """Return the milliseconds of DT over the slide's own map, repeated until it is that of 100,000 tiles."""
    cam = analysis.cam(analysis.card.target_class)
    repeated = np.tile(cam, [-(-THRESHOLD_CELLS // side) for side in cam.shape])[:THRESHOLD_CELLS, :THRESHOLD_CELLS]
    start = time.perf_counter()
    DynamicThreshold()(repeated, cell_um=analysis.cell_um, tile_cells=analysis.grid.cells)
    return (time.perf_counter() - start) * 1000


def _other_grad_cam(name: str, predictor: Predictor) -> Callable[[torch.Tensor], object]:
    """Return another library's Grad-CAM of every class, of the same network in fp32."""
    if name != PYTORCH_GRAD_CAM:
        raise DalaError(f"--against {name}: there is only {PYTORCH_GRAD_CAM}")
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        raise DalaError(f"{name} is not installed: pip install 'napari-dala[explain-eval]'") from None
    network = predictor.network
    method = GradCAM(network, [network.attention])
    classes = range(len(predictor.bundle.card.classes))
    return lambda inputs: [method(inputs, [ClassifierOutputTarget(index)] * len(inputs)) for index in classes]


def _tiles(slide: Slide, grid: TileGrid, count: int) -> NDArray[np.uint8]:
    """Read `count` tiles around the slide's middle, repeated where it has fewer."""
    row, column = grid.shape[0] // 2, grid.shape[1] // 2
    few = [read_tiles(slide, grid, row, min(column + step, grid.shape[1] - 1), 1, 1) for step in range(4)]
    return np.stack([few[index % len(few)] for index in range(count)])


def _rate(run: Callable[[], object], tiles: int) -> float:
    """Return the tiles per second of something that handles so many."""
    start = time.perf_counter()
    run()
    return tiles / (time.perf_counter() - start)
