"""Write these files with the program as it was on 2026-11-29, before its modules were moved (commit 05f0d1a).

    git worktree add OLD 05f0d1a
    PYTHONPATH=OLD/src python make.py FOLDER

All is drawn or made up: no patient, no tissue. FOLDER holds what the program left there, but for this: a path is
written as "{root}/..." (Python's as "{python}"), the two bundles are packed with xz, and what was learned, a bundle of
50 MB and a page for people, is left out. The network's weights are 1021 numbers over and over, so that 29 MB of them
pack into some kilobytes.
"""
# ruff: noqa: I001  (the modules of then are not in the tree of today)

from __future__ import annotations

import lzma
import os
import signal
import subprocess
import sys
from pathlib import Path

SIDE, SEED = 1120, 0
REGION = (0, 0, 1120, 480)  # of the slide, level-0 px
ENOUGH = 20  # tiles after which the analysis is cancelled
KILLED_AFTER = 2  # epochs of the interrupted job


def main(root: Path) -> None:
    workspace = root / "workspace"
    os.environ.update(DALA_WORKSPACE=str(workspace), NAPARI_CONFIG=str(root / "config" / "settings.yaml"))
    import torch
    from napari_dala.files import write_json
    from napari_dala.slide import open_slide
    from napari_dala.slide.base import fingerprint_of
    from napari_dala.slide.teaching import teaching_slide

    torch.set_num_threads(1)
    root.mkdir(parents=True)
    drawn = teaching_slide(root / "drawn.tif", SIDE, SEED)
    write_models(workspace / "models", drawn.path)
    with open_slide(drawn.path) as slide:
        recorded = {"slide": slide.properties, "analysis": write_analysis(slide, workspace)}
        recorded["drawn"] = write_annotations(slide, workspace)
    recorded["jobs"] = write_jobs(root, drawn.path, slide.fingerprint, workspace)
    recorded["models"] = record_models()
    recorded["fingerprint of 300000 bytes"] = fingerprint_of(numbered(root / "bytes"))
    write_preferences(workspace)
    write_json(root / "recorded.json", recorded)
    make_small(root)


def numbered(path: Path) -> Path:
    path.write_bytes(bytes(number % 251 for number in range(300_000)))
    return path


def write_models(folder: Path, path: Path) -> None:
    """A whole bundle in 10 bits, with all that a bundle may have, and a head in 16 bits that needs its trunk."""
    import numpy as np
    import torch
    from napari_dala.analysis.predictor import Predictor
    from napari_dala.model.bundle import ModelBundle, Replay
    from napari_dala.model.card import UNTRAINED_CARD, ClassInfo
    from napari_dala.model.dalaresnet import DALAResNet50
    from napari_dala.model.familiarity import Familiarity
    from napari_dala.model.weights import fill, shapes_of
    from napari_dala.slide import open_slide
    from napari_dala.slide.tiles import TileGrid, read_tiles

    with open_slide(path) as slide:
        grid = TileGrid.over(slide, 64, UNTRAINED_CARD.mpp)
        every = [read_tiles(slide, grid, *at, 1, 1) for at in np.ndindex(grid.shape)]
        tiles = np.stack(sorted(every, key=np.std)[-24::2])

    numbers = np.random.default_rng(0).uniform(-1, 1, 1021).astype(np.float32)

    def network(classes: int) -> DALAResNet50:
        with torch.device("meta"):
            empty = DALAResNet50(classes)
        return fill(empty, {name: pattern(name, shape) for name, shape in shapes_of(empty).items()})

    def pattern(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return torch.full(shape, float(name.startswith("trunk.") and name.endswith(("weight", "running_var"))))
        scale = 2.0 ** round(float(np.log2(6 / np.prod(shape[1:])) / 2))
        return torch.from_numpy(np.resize(numbers * scale, shape))

    def keep_in_bounds(network: DALAResNet50) -> None:
        """Let each batch norm's output be of about unit size, over all channels of a layer."""

        def measure(norm: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
            norm.running_var.fill_(float(f"{float(inputs[0].square().mean()):.2g}"))

        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.register_forward_pre_hook(measure)
        last = network.head.fc3
        with torch.no_grad():
            last.weight.data /= 8
            logits = network(bare.normalize(torch.from_numpy(tiles)))
            last.bias[0] = float(f"{float((logits[:, 1] - logits[:, 0]).median()):.2g}")

    card = UNTRAINED_CARD.model_copy(
        update={
            "name": "before",
            "tile_px": 64,
            "trained": True,
            "temperature": 1.25,
            "operating_threshold": 0.45,
            "metrics": {"made up": 1},
            "training": {"seed": 0},
            "citation": "Nobody, “Nothing” (2026)",
        }
    )
    basis = torch.repeat_interleave(torch.eye(128), 16, 0) / 4  # orthonormal
    bare = ModelBundle(network(2), card, basis)
    keep_in_bounds(bare.network)
    predictor = Predictor(bare.as_stored(10), "cpu", "fp32")
    features = torch.from_numpy(predictor(tiles).features)
    known = Familiarity.fit(features, directions=2)
    replay = Replay(features.half(), torch.arange(len(features)) % 2)
    whole = ModelBundle(bare.network, card, basis, vars(known), replay)
    whole.save(folder / "before.safetensors", 10)
    three = card.model_copy(
        update={"name": "before head", "classes": (*card.classes, ClassInfo(name="third", color=(0, 160, 80)))}
    )
    head = ModelBundle(network(3), three, basis, vars(known))
    head.save(folder / "before head.safetensors", trunk_of="before.safetensors")


def record_models() -> dict[str, dict[str, object]]:
    from napari_dala.model.bundle import load_model
    from napari_dala.model.catalog import list_models

    installed = [entry.name for entry in list_models() if entry.path and entry.path.parent.name == "models"]
    models = {name: load_model(name) for name in installed}
    return {
        name: {"hash": one.hash, "trunk_hash": one.trunk_hash, "card": one.card.model_dump(mode="json")}
        for name, one in models.items()
    }


def write_analysis(slide, workspace: Path) -> dict[str, object]:
    """Some tiles of a region, cancelled before the end."""
    import shapely
    from napari_dala.analysis.predictor import Predictor
    from napari_dala.analysis.run_control import RunControl
    from napari_dala.analysis.engine import analyze
    from napari_dala.model.bundle import load_model
    from napari_dala.workspace import slide_folder

    class Cancelling(Predictor):
        tiles = 0

        def __call__(self, tiles):
            found = super().__call__(tiles)
            self.tiles += len(found.probability)
            if self.tiles >= ENOUGH:
                control.cancel()
            return found

    control, seen = RunControl(), []
    out = slide_folder(slide.fingerprint, workspace) / "analyses"
    analysis = analyze(
        slide,
        Cancelling(load_model("before"), "cpu", "fp32"),
        out,
        region=[shapely.box(*REGION)],
        workers=1,
        on_progress=seen.append,
        control=control,
    )
    summary = analysis.summary()
    return {
        "region": REGION,
        "done": seen[-1].done,
        "total": seen[-1].total,
        "summary": vars(summary),
        "warnings": analysis.warnings,
        "spots": [vars(spot) for spot in analysis.spots()],
        "status": analysis.status.tolist(),
        "probability": {
            f"{row} {column}": analysis.probability[:, row, column].tolist() for row, column in where(analysis)
        },
        "cam of the target": {
            f"{row} {column}": analysis.cam(1)[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].tolist()
            for row, column in where(analysis)
        },
        "sum of the features": {
            f"{row} {column}": float(analysis.store.read("features")[row, column].astype("float64").sum())
            for row, column in where(analysis)
        },
    }


def where(analysis) -> list[tuple[int, int]]:
    import numpy as np

    return [(int(row), int(column)) for row, column in np.argwhere(analysis.analysed)]


def write_annotations(slide, workspace: Path) -> dict[str, object]:
    """Regions of three classes, one to be ignored, one an ellipse; saved twice, so that there is a previous version."""
    import shapely
    from napari_dala.training.annotated import remember_slide
    from napari_dala.training.annotation_files import save_for
    from napari_dala.training.annotations import Annotation, AnnotationClass, AnnotationDocument, ellipse_polygon

    classes = (
        AnnotationClass("benign", (70, 130, 180)),
        AnnotationClass("malignant", (214, 39, 40)),
        AnnotationClass("Fold*", (1, 2, 3), ignore=True),
    )
    corners = ((640.0, 640.0), (768.0, 640.0), (768.0, 768.0), (640.0, 768.0))
    ids = iter(f"00000000-0000-4000-8000-{number:012}" for number in range(1, 99))
    drawn = [
        Annotation(
            next(ids), name, shapely.box(64 * column, 64 * row, 64 * (column + wide), 64 * (row + high)), {}, None
        )
        for name, row, column, high, wide in (
            ("benign", 3, 3, 2, 2),
            ("benign", 7, 12, 3, 2),
            ("benign", 12, 6, 2, 2),
            ("malignant", 6, 6, 2, 2),
            ("malignant", 9, 3, 2, 2),
            ("malignant", 13, 9, 1, 2),
            ("Fold*", 4, 10, 1, 1),
        )
    ]
    drawn.append(
        Annotation(next(ids), "malignant", ellipse_polygon(corners), {"properties": {"name": "round"}}, corners)
    )
    document = AnnotationDocument(slide.fingerprint, classes, tuple(drawn[:1]), patient="patient of nobody")
    save_for(document, workspace)
    document = AnnotationDocument(slide.fingerprint, classes, tuple(drawn), patient="patient of nobody")
    save_for(document, workspace)
    remember_slide(slide, workspace)
    return {
        "patient": document.patient,
        "classes": [[item.name, list(item.color), item.ignore] for item in classes],
        "regions": [[item.id, item.class_name, item.geometry.area, item.ellipse is not None] for item in drawn],
    }


def write_jobs(root: Path, slide: Path, fingerprint: str, workspace: Path) -> dict[str, object]:
    """A quick fine-tuning that went to its end and was accepted, and the same whose process was killed in its midst."""
    from napari_dala.plugin.learning_jobs import decide
    from napari_dala.training.annotation_files import annotations_path
    from napari_dala.training.finetune_job import FinetuneConfig, FinetuneSettings, SlideExamples, create_finetune_job
    from napari_dala.training.finetune import run_finetune
    from napari_dala.workspace import slide_folder

    one = SlideExamples(
        slide=slide,
        annotations=annotations_path(fingerprint, workspace),
        analysis=slide_folder(fingerprint, workspace) / "analyses",
    )
    settings = FinetuneSettings(epochs=5, batch_size=8, device="cpu", precision="fp32", threads=1, n_boot=0)
    config = FinetuneConfig(name="learned before", model="before", slides=(one,), settings=settings)
    jobs = slide_folder(fingerprint, workspace) / "jobs"
    done = create_finetune_job(jobs / "20261128T000000Z-fedcba", config)
    run_finetune(done.folder)
    decide(done, "learned before")
    for name in ("bundle.safetensors", "check.html"):
        (done.result / name).unlink()
    interrupted = create_finetune_job(jobs / "20261129T000000Z-abcdef", config)
    subprocess.run([sys.executable, __file__, "--run-and-be-killed", str(interrupted.folder)], check=False)
    return {
        "interrupted": {"status": interrupted.status, "events": interrupted.events()[0]},
        "done": {"status": done.status, "files": sorted(path.name for path in done.result.iterdir())},
    }


def run_and_be_killed(folder: Path) -> None:
    from napari_dala.training.finetune import run_finetune

    def die(event) -> None:
        if event["event"] == "epoch" and event["epoch"] == KILLED_AFTER - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    run_finetune(folder, die)


def write_preferences(workspace: Path) -> None:
    from napari.settings import get_plugin_settings

    chosen = get_plugin_settings("napari-dala")
    chosen.analysis.device = "cpu"
    chosen.analysis.precision = "fp32"
    chosen.analysis.threads = 3
    chosen.files.workspace = str(workspace)
    chosen.files.own_slides = False


def make_small(root: Path) -> None:
    for path in (root / "workspace" / "models").iterdir():
        path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
        path.unlink()
    for path in root.glob("drawn.*"):
        path.unlink()  # a test draws it again
    for name in ("bytes", "config/settings.yaml"):
        (root / name).unlink(missing_ok=True)
    for path in (*root.rglob("*.json"), *root.rglob("*.jsonl"), *root.rglob("*.yaml"), *root.rglob("*.txt")):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(str(root), "{root}").replace(sys.executable, "{python}"), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--run-and-be-killed":
        run_and_be_killed(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]).absolute())
