"""Does memory grow with the number of analyses in one process? `python -m benchmarks.memory --runs 200`.

The warm child of napari analyses for days. Each run opens a small drawn slide, finds its tissue, and takes it through a
network with random weights into a new folder, as the child does. The figure is the resident memory after the last run
over that after the twentieth, when caches are full; it should be below 1.05.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import tempfile
from pathlib import Path

import psutil

from napari_dala.analysis.engine import analyze
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import ModelBundle, seeded_network
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide

TILE_PX, SIDE_PX = 64, 1024
WARM = 20  # runs until nothing is loaded for the first time


def main() -> None:
    """Print the resident memory now and then, and how far it grew; exit code 1 at 5 % or more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help=f"more than {WARM}")
    parser.add_argument("--every", type=int, default=20, help="runs between two lines")
    asked = parser.parse_args()
    if asked.runs <= WARM:
        parser.error(f"--runs must be more than {WARM}")
    process = psutil.Process()
    warm = now = 0.0
    with tempfile.TemporaryDirectory() as folder:
        slide_file = teaching_slide(Path(folder) / "drawn.tif", SIDE_PX).path
        card = UNTRAINED_CARD.model_copy(update={"tile_px": TILE_PX})
        predictor = Predictor(ModelBundle(seeded_network(2), card), "cpu", "fp32")
        for run in range(1, asked.runs + 1):
            with open_slide(slide_file) as slide:
                found = analyze(slide, predictor, Path(folder) / "analysis")
            tiles = found.summary().analysed
            shutil.rmtree(Path(folder) / "analysis")
            now = process.memory_info().rss / 1e6
            if run == WARM:
                warm = now
            if run % asked.every == 0 or run == asked.runs:
                threads, files = process.num_threads(), process.num_fds() if hasattr(process, "num_fds") else 0
                objects = len(gc.get_objects())
                print(
                    f"{run:4} runs: {now:6.0f} MB, {threads} threads, {files} files, {objects} objects, {tiles} tiles",
                    flush=True,
                )
    print(f"from run {WARM} to {asked.runs}: {warm:.0f} to {now:.0f} MB, {now / warm - 1:+.1%}")
    raise SystemExit(now >= 1.05 * warm)


if __name__ == "__main__":
    main()
