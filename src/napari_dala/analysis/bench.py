"""How fast this machine is: the network alone, with Grad-CAM, and the whole pipeline, in one run."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from napari_dala.analysis.engine import analyze
from napari_dala.slide.tiles import TileGrid, read_tiles

# isort: split
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_dala.analysis.predictor import Predictor
    from napari_dala.slide import Slide


def bench(slide: Slide, predictor: Predictor, *, repeats: int = 5, workers: int = 1) -> dict[str, Any]:
    """Measure forward pass, forward + Grad-CAM of all classes and the pipeline, in turn, `repeats` times.

    The forward passes run on ready tensors of the slide's own tiles; the pipeline reads, predicts and stores every
    tissue tile into a fresh folder. Ratios are medians of the ratios within each turn.

    Returns
    -------
    dict with `forward_tiles_per_s`, `forward_cam_tiles_per_s`, `pipeline_tiles_per_s` (medians), `cam_ratio`
    (forward + CAM over forward), `pipeline_ratio` (pipeline over forward), `tiles`, `peak_rss_mb`, `device`,
    `precision`, `repeats`.
    """
    card = predictor.bundle.card
    grid = TileGrid.over(slide, card.tile_px, card.mpp)
    inputs = predictor.inputs(_tiles(slide, grid, predictor.batch_size))
    forward: list[float] = []
    with_cam: list[float] = []
    pipeline: list[float] = []
    tiles = 0
    for turn in range(repeats + 1):
        pairs = [
            (_rate(predictor.forward, inputs, predictor.device), _rate(predictor.forward_cam, inputs, predictor.device))
            for _ in range(4)
        ]
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            tiles = int(analyze(slide, predictor, folder, workers=workers).analysed.sum())
            seconds = time.perf_counter() - start
        if turn:  # the first turn warms caches
            forward.append(median(pair[0] for pair in pairs))
            with_cam.append(forward[-1] * median(pair[1] / pair[0] for pair in pairs))
            pipeline.append(tiles / seconds)
    return {
        "forward_tiles_per_s": round(median(forward), 2),
        "forward_cam_tiles_per_s": round(median(with_cam), 2),
        "pipeline_tiles_per_s": round(median(pipeline), 2),
        "cam_ratio": round(median(b / a for a, b in zip(forward, with_cam, strict=True)), 4),
        "pipeline_ratio": round(median(b / a for a, b in zip(forward, pipeline, strict=True)), 4),
        "tiles": tiles,
        "peak_rss_mb": round(peak_rss_mb()),
        "device": str(predictor.device),
        "precision": predictor.precision,
        "repeats": repeats,
        "cores": os.cpu_count(),
    }


def peak_rss_mb() -> float:
    """Return the most memory this process has held, MiB."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _tiles(slide: Slide, grid: TileGrid, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read `count` tiles around the slide's middle, repeated where it has fewer."""
    row, column = grid.shape[0] // 2, grid.shape[1] // 2
    few = [read_tiles(slide, grid, row, min(column + step, grid.shape[1] - 1), 1, 1) for step in range(4)]
    return np.stack([few[index % len(few)] for index in range(count)])


def _rate(run: Callable[[torch.Tensor], object], inputs: torch.Tensor, device: torch.device) -> float:
    """Tiles per second of one pass."""
    start = time.perf_counter()
    run(inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return len(inputs) / (time.perf_counter() - start)
