"""Measure other tools beside this one: one slide, a ResNet-50, 224 px tiles at 1.0 um/px, on the processor, in turn.

    python -m benchmarks.peers SLIDE [--tiatoolbox PYTHON] [--wsinfer PYTHON] [--turns 5]

PYTHON is that of an environment with the tool (`pip install tiatoolbox==2.1.3`; `pip install wsinfer==0.6.1 "zarr<3"`:
the versions that were measured; others may want other calls). Each turn runs every tool once, in a process of its own;
the others' models have random weights. What is timed is the tool's own call over the slide without imports and the
making of the model: here and in TIAToolbox with finding the tissue, in WSInfer without it. This one also makes and
stores Grad-CAM, features and projected maps. Prints JSON; ratios are medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

MPP, TILE, BATCH = 1.0, 224, 32  # um/px and px of the built-in model


def napari_dala(slide: Path, folder: Path) -> tuple[int, float]:
    """Return tiles and seconds of this tool."""
    from napari_dala import analyze, load_model, open_slide
    from napari_dala.inference.predictor import Predictor

    predictor = Predictor(load_model("default"), "cpu")
    with open_slide(slide) as opened:
        start = time.perf_counter()
        analysis = analyze(opened, predictor, folder)
        return int(analysis.analysed.sum()), time.perf_counter() - start


def tiatoolbox(slide: Path, folder: Path) -> tuple[int, float]:
    """Return tiles and seconds of TIAToolbox's PatchPredictor."""
    import torchvision
    import zarr
    from tiatoolbox.models.architecture import vanilla
    from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
    from tiatoolbox.models.engine.patch_predictor import PatchPredictor

    pretrained = torchvision.models.resnet50
    vanilla.torch_models.resnet50 = lambda *_, **__: pretrained(weights=None)  # no download
    config = IOPatchPredictorConfig(
        input_resolutions=[{"units": "mpp", "resolution": MPP}],
        patch_input_shape=[TILE, TILE],
        stride_shape=[TILE, TILE],
    )
    model = vanilla.CNNModel("resnet50", num_classes=2)
    predictor = PatchPredictor(model=model, batch_size=BATCH, num_workers=0, device="cpu", verbose=False)
    start = time.perf_counter()
    found = predictor.run(
        images=[slide],
        patch_mode=False,
        ioconfig=config,
        save_dir=folder / "out",
        output_type="zarr",
        auto_get_mask=True,
    )
    seconds = time.perf_counter() - start
    (store,) = found.values()
    arrays = zarr.open_group(str(store), mode="r").arrays()
    return max(array.shape[0] for _, array in arrays), seconds


def wsinfer(slide: Path, folder: Path) -> tuple[int, float]:
    """Return tiles and seconds of WSInfer's inference."""
    from types import SimpleNamespace

    import torch
    import torchvision
    import wsinfer_zoo.client

    registry: Any = wsinfer_zoo.client
    registry.load_registry = lambda *_, **__: SimpleNamespace(models={})  # it asks the internet
    import wsinfer.cli.infer as cli

    network = torchvision.models.resnet50(weights=None, num_classes=2).eval()
    torch.jit.script(network).save(str(folder / "model.pt"))
    steps = [
        {"name": "Resize", "arguments": {"size": TILE}},
        {"name": "ToTensor"},
        {"name": "Normalize", "arguments": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
    ]
    config = {"spec_version": "1.0", "architecture": "resnet50", "name": "resnet50", "num_classes": 2}
    config |= {"class_names": ["a", "b"], "patch_size_pixels": TILE, "spacing_um_px": MPP, "transform": steps}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "slides").mkdir()
    (folder / "slides" / slide.name).symlink_to(slide.resolve())
    seconds: list[float] = []
    inference = cli.run_inference

    def timed(*args: object, **kwargs: object) -> object:
        start = time.perf_counter()
        try:
            return inference(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    cli.run_inference = timed
    options = {"--wsi-dir": "slides", "--results-dir": "out", "--model-path": "model.pt", "--config": "config.json"}
    arguments = [text for name, file in options.items() for text in (name, str(folder / file))]
    cli.run.main([*arguments, "--batch-size", str(BATCH), "--num-workers", "1"], standalone_mode=False)
    (table,) = (folder / "out" / "model-outputs-csv").glob("*.csv")
    return len(table.read_text().splitlines()) - 1, seconds[0]


TOOLS = {tool.__name__: tool for tool in (napari_dala, tiatoolbox, wsinfer)}


def main() -> None:
    """Run every tool in turn, or, in its own process, one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--tiatoolbox", metavar="PYTHON")
    parser.add_argument("--wsinfer", metavar="PYTHON")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", choices=TOOLS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        with tempfile.TemporaryDirectory() as folder:
            tiles, seconds = TOOLS[args.only](args.slide, Path(folder))
        print(json.dumps({"tiles": tiles, "tiles_per_s": tiles / seconds}))
        return
    pythons = {"napari_dala": sys.executable, "tiatoolbox": args.tiatoolbox, "wsinfer": args.wsinfer}
    turns: list[dict[str, dict[str, float]]] = []
    for _ in range(args.turns):
        turns.append({})
        for name, python in pythons.items():
            if python:
                command = [python, __file__, str(args.slide), "--only", name]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                turns[-1][name] = json.loads(printed.splitlines()[-1])
    figures = {}
    for name in turns[0]:
        rates = [turn[name]["tiles_per_s"] for turn in turns]
        ours = [turn["napari_dala"]["tiles_per_s"] / rate for turn, rate in zip(turns, rates, strict=True)]
        figures[name] = {
            "tiles": turns[0][name]["tiles"],
            "tiles_per_s": round(median(rates), 1),
            "napari_dala_over_it": round(median(ours), 2),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
