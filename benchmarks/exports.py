"""Measure exported models beside this program: size, tiles per second on the processor, largest difference.

    python -m benchmarks.exports SLIDE [--model default] [--tiles 64] [--turns 5] [--threads N] [--wsinfer PYTHON]

Tiles of tissue are read from the slide once; each turn runs every form once, in a process of its own that gets them as
an array, in batches of 8. What is timed is the network from pixels on, after a warm-up; "ours" also makes Grad-CAM, and
what is stored. PYTHON is that of an environment with WSInfer (`pip install wsinfer==0.6.1 "zarr<3"`): it runs over the
slide by itself then, and its probabilities are compared with ours on its own pixels, and on the same places as this
program reads them; tiles that reach over the slide's edge, which everybody fills in another way, are counted only.
Prints JSON; rates are medians, per second and, for a machine that others use too, per second of the processor's time.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle import ModelBundle

    Pixels = NDArray[np.uint8]
    Probabilities = NDArray[np.float32]

BATCH = 8
WSINFER = """
import sys
from types import SimpleNamespace

import wsinfer_zoo.client

wsinfer_zoo.client.load_registry = lambda *_, **__: SimpleNamespace(models={})  # it asks the internet
import wsinfer.cli.infer

wsinfer.cli.infer.run.main(sys.argv[1:], standalone_mode=False)
"""


def ours(folder: Path, precision: str) -> Callable[[Pixels], Probabilities]:
    """Return this program's network, with Grad-CAM and what is stored."""
    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle import load_model

    predictor = Predictor(load_model((folder / "model").read_text()), "cpu", precision)
    return lambda tiles: predictor(tiles).probability


def torchscript(folder: Path, form: str, file: str) -> Callable[[Pixels], Probabilities]:
    """Return a TorchScript file's network, with the softmax that WSInfer and QuPath take."""
    import torch

    network = torch.jit.load(folder / form / file)

    def run(tiles: Pixels) -> Probabilities:
        with torch.inference_mode():
            found = network(torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255)
            probability: Probabilities = (found.softmax(1) if form == "wsinfer" else found).numpy()
        return probability

    return run


def onnx(folder: Path, outputs: list[str], threads: int) -> Callable[[Pixels], Probabilities]:
    """Return an ONNX file's network in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", options, providers=["CPUExecutionProvider"])

    def run(tiles: Pixels) -> Probabilities:
        images = np.divide(tiles.transpose(0, 3, 1, 2), 255, dtype=np.float32)
        probability: Probabilities = session.run(outputs, {"image": images})[0]
        return probability

    return run


RUNNERS: dict[str, Callable[[Path, int], Callable[[Pixels], Probabilities]]] = {
    "ours, auto": lambda folder, _: ours(folder, "auto"),
    "ours, fp32": lambda folder, _: ours(folder, "fp32"),
    "wsinfer": lambda folder, _: torchscript(folder, "wsinfer", "torchscript_model.pt"),
    "torchscript": lambda folder, _: torchscript(folder, "torchscript", "model.pt"),
    "onnx": lambda folder, threads: onnx(folder, ["probability"], threads),
    "onnx, with gradcam": lambda folder, threads: onnx(folder, ["probability", "gradcam"], threads),
}


def measure(name: str, folder: Path, threads: int) -> dict[str, float]:
    """Return tiles per second of one form, and write its probabilities."""
    tiles = np.load(folder / "tiles.npy")
    if not name.startswith("onnx"):
        import torch

        torch.set_num_threads(threads)
    run = RUNNERS[name](folder, threads)
    for _ in range(3):  # TorchScript makes itself faster twice
        run(tiles[:BATCH])
    start, start_cpu = time.perf_counter(), time.process_time()
    found = np.concatenate([run(tiles[at : at + BATCH]) for at in range(0, len(tiles), BATCH)])
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    np.save(folder / f"{name}.npy", found)
    return {"tiles_per_s": len(tiles) / seconds, "tiles_per_cpu_s": len(tiles) / cpu}


def read_tissue(slide: Path, bundle: ModelBundle, count: int) -> Pixels:
    """Return tiles of a slide's tissue, spread over it, a multiple of the batch."""
    from napari_dala.analysis.plan import tissue_tiles
    from napari_dala.slide import open_slide
    from napari_dala.slide.tiles import TileGrid, read_tiles

    with open_slide(slide) as opened:
        grid = TileGrid.over(opened, bundle.card.tile_px, bundle.card.mpp)
        places = np.argwhere(tissue_tiles(opened, grid))
        count = min(count, len(places)) // BATCH * BATCH
        chosen = places[np.linspace(0, len(places) - 1, count).astype(int)].tolist()
        return np.stack([read_tiles(opened, grid, row, column, 1, 1) for row, column in chosen])


def with_wsinfer(python: str, slide: Path, folder: Path, bundle: ModelBundle) -> dict[str, Any]:
    """Run WSInfer over the slide and compare its probabilities with ours."""
    import torch
    from PIL import Image
    from torchvision.transforms.functional import resize

    from napari_dala.inference.predictor import Predictor
    from napari_dala.inference.sampler import resampled
    from napari_dala.slide import open_slide

    (folder / "slides").mkdir()
    (folder / "slides" / slide.name).symlink_to(slide.resolve())
    options = {
        "--wsi-dir": folder / "slides",
        "--results-dir": folder / "results",
        "--model-path": folder / "wsinfer" / "torchscript_model.pt",
        "--config": folder / "wsinfer" / "config.json",
    }
    arguments = [str(text) for pair in options.items() for text in pair]
    subprocess.run([python, "-c", WSINFER, *arguments], check=True, capture_output=True)
    (table,) = (folder / "results" / "model-outputs-csv").glob("*.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    theirs = np.array([[float(row[f"prob_{name}"]) for name in bundle.card.class_names] for row in rows])
    boxes = np.array([[float(row[key]) for key in ("minx", "miny", "width", "height")] for row in rows]).astype(int)
    side = bundle.card.tile_px
    predictor = Predictor(bundle, "cpu", "fp32")
    with open_slide(slide) as opened:
        inside = (boxes[:, :2] + boxes[:, 2:] <= opened.dimensions).all(1)
        boxes, theirs = boxes[inside], theirs[inside]
        level = opened.level_for(boxes[0, 2] / side)
        down = opened.levels[level].downsample

        def as_wsinfer(x: int, y: int, width: int, height: int) -> Pixels:
            return np.asarray(resize(Image.fromarray(opened.read(x, y, width, height, 0)), [side, side]))

        def as_here(x: int, y: int, width: int, height: int) -> Pixels:
            pixels = opened.read(x, y, round(width / down), round(height / down), level)
            scale = pixels.shape[1] / side, pixels.shape[0] / side
            return resampled(torch.from_numpy(pixels), scale).numpy()

        differences = [np.abs(_predicted(predictor, boxes, read) - theirs).max(1) for read in (as_wsinfer, as_here)]
    return {
        "tiles": len(boxes),
        "over_the_edge": len(rows) - len(boxes),
        "largest_difference_on_its_pixels": float(differences[0].max()),
        "difference_on_ours": {str(q): round(float(np.quantile(differences[1], q)), 5) for q in (0.5, 0.95, 1)},
        "torch": subprocess.run(
            [python, "-c", "import torch; print(torch.__version__)"], check=True, capture_output=True, text=True
        ).stdout.strip(),
    }


def _predicted(predictor: Predictor, boxes: NDArray[np.int_], read: Callable[..., Pixels]) -> Probabilities:
    parts = [boxes[at : at + BATCH].tolist() for at in range(0, len(boxes), BATCH)]
    return np.concatenate([predictor(np.stack([read(*box) for box in part])).probability for part in parts])


def main() -> None:
    """Export, run every form in turn, or, in its own process, one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--wsinfer", metavar="PYTHON")
    parser.add_argument("--only", choices=RUNNERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.slide, args.threads)))
        return

    from napari_dala.inference.export import export_model
    from napari_dala.model.bundle import load_model
    from napari_dala.model.export.formats import ExportFormat

    bundle = load_model(args.model)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").write_text(args.model)
        for form in ExportFormat:
            begun = time.perf_counter()
            export_model(bundle, form, folder / form)
            figures[form] = {
                "export_s": round(time.perf_counter() - begun, 1),
                "MB": round((folder / form / form.file_name).stat().st_size / 1e6, 1),
            }
        if args.wsinfer:
            figures["WSInfer itself"] = with_wsinfer(args.wsinfer, args.slide, folder, bundle)
        tiles = read_tissue(args.slide, bundle, args.tiles)
        np.save(folder / "tiles.npy", tiles)
        turns: dict[str, list[dict[str, float]]] = {runner: [] for runner in RUNNERS}
        for _ in range(args.turns):
            for runner in RUNNERS:
                options = ["--only", runner, "--threads", str(args.threads)]
                command = [sys.executable, "-m", "benchmarks.exports", str(folder), *options]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                turns[runner].append(json.loads(printed.splitlines()[-1]))
        expected = np.load(folder / "ours, fp32.npy")
        for runner, measured in turns.items():
            rates = {rate: round(median(turn[rate] for turn in measured), 1) for rate in measured[0]}
            figures.setdefault(runner, {}).update(rates)
            difference = float(np.abs(np.load(folder / f"{runner}.npy") - expected).max())
            figures[runner]["largest_difference"] = float(f"{difference:.1e}")
    print(json.dumps({"tiles": len(tiles), **figures}, indent=2))


if __name__ == "__main__":
    main()
