"""Measure the folds' models of `train_default.py` on slides of the patients that each left out, and their explanations.

    python scripts/measure_folds.py --root breakhis-100x --runs FOLDER --out OUT [--limit 8] [--jobs 2]

For each fold a mosaic is made of the left-out patients' photographs and a teaching slide is drawn. The fold's model
analyses the mosaic, whose map is held against the truth cell by cell; `dala explain-eval` measures the explanations on
both slides and on some of the left-out photographs. OUT then holds what each fold gave and `folds.md` and `folds.json`,
all folds together.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mosaic_truth import SHARED, per_cell
from skimage.io import imread
from train_default import FOLDS

from napari_dala.analysis.outputs import output_folder
from napari_dala.analysis.result import Analysis
from napari_dala.files import write_json, write_text
from napari_dala.slide import open_slide
from napari_dala.slide.teaching import teaching_slide
from napari_dala.training.compare_report import Table
from napari_dala.training.datasets import load_dataset
from napari_dala.training.metrics import mean_estimates, score
from napari_dala.training.splits import patient_folds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CELLS, CELL_PX, DRAWN_PX = 16, 384, 2048
PLAIN = "Grad-CAM"
MEASURES = ("insertion", "deletion", "drop", "increase", "road", "kept")
PLACES = ("auc", "pointing", "share", "kept", "mixed_inside", "mixed_outside", "cut_inside", "cut_outside")


def main() -> None:
    """Measure each fold, then all together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="BreakHis, as the models were trained on")
    parser.add_argument("--runs", type=Path, required=True, help="FOLDER of train_default.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=8, help="photographs of each fold to explain")
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time; on a processor each has one thread")
    asked = parser.parse_args()
    dataset = load_dataset("breakhis", asked.root, magnification=100)
    splits = patient_folds(dataset.labels, dataset.patients, FOLDS, 0)
    patients = [sorted(set(dataset.patients[split.test])) for split in splits]
    with ThreadPoolExecutor(asked.jobs) as pool:
        cells = list(pool.map(lambda fold: measure(asked, fold, patients[fold - 1]), range(1, FOLDS + 1)))
    found = {"mosaics": mosaics(cells), "photographs": photographs(asked.out), "slides": slides(asked.out)}
    write_json(asked.out / "folds.json", found)
    text = "\n".join(table.as_markdown() for table in tables(found))
    write_text(asked.out / "folds.md", text)
    print(text)


def measure(asked: argparse.Namespace, fold: int, patients: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make a fold's slides and measure them; return truth (n,) and probabilities (n, 2) of its mosaic's cells."""
    folder = asked.out / f"fold-{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    bundle, mosaic = asked.runs / f"fold-{fold}" / "bundle.safetensors", folder / "mosaic.tiff"
    only = [f"-{patient}" for patient in patients]
    tool = SHARED / "tools" / "make_mosaic_slide.py"
    made = (mosaic, "--cells", CELLS, "--seed", fold, "--data", asked.root, "--only", *only)
    run(folder, sys.executable, tool, *made)
    drawn = teaching_slide(folder / "drawn.tiff", DRAWN_PX, seed=300 + fold)
    dala = (sys.executable, "-m", "napari_dala.cli")
    run(folder, *dala, "analyze", mosaic, "--model", bundle, "--out", folder)
    data = ("--dataset", "breakhis", "--root", asked.root, "--magnification", 100, "--folds", FOLDS, "--fold", fold)
    both = ("--slide", mosaic, "--slide", drawn.path, "--limit", asked.limit, "--out", folder)
    run(folder, *dala, "explain-eval", "--model", bundle, *data, *both)

    with open_slide(mosaic) as slide:
        analysis = Analysis.open(output_folder(folder, slide))
    truth = imread(mosaic.with_suffix(".truth.png"))
    probability = per_cell(len(truth), CELL_PX, analysis.grid, analysis.probability)
    told = (truth > 0) & np.isfinite(probability[0])
    return truth[told].astype(np.intp) - 1, probability[:, told].T


def run(folder: Path, *command: object) -> None:
    """Run a command with one thread, its words in the folder's log."""
    with (folder / "log.txt").open("a") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*map(str, command)], check=True, env=environment, stdout=log, stderr=log)


def mosaics(cells: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, dict[str, float]]:
    """Return the figures of the mosaics' cells, by fold and of all: without intervals, as cells repeat photographs."""
    truth, probability = (np.concatenate(part) for part in zip(*cells, strict=True))
    named = {f"fold {fold}": one for fold, one in enumerate(cells, 1)} | {"all": (truth, probability)}
    figures = {name: score(*one, n_boot=0).scores for name, one in named.items()}
    return {
        name: {key: getattr(scores, key).value for key in ("accuracy", "gmean", "auroc")}
        for name, scores in figures.items()
    }


def photographs(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return each measure by method over the folds' photographs, and its difference from plain Grad-CAM."""
    rows = gathered(out, "photographs.csv")
    patients = [row["patient"] for row in rows if row["method"] == PLAIN]
    values = {
        method: np.array([[float(row[name]) for name in MEASURES] for row in rows if row["method"] == method])
        for method in dict.fromkeys(row["method"] for row in rows)
    }
    found = {}
    for method, of_method in values.items():
        mean = mean_estimates(of_method, patients)
        difference = mean_estimates(of_method - values[PLAIN], patients)
        found[method] = {
            name: {"mean": vars(mean[place]), "difference": vars(difference[place])}
            for place, name in enumerate(MEASURES)
        }
    return found


def slides(out: Path) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """Return what `slides.csv` has of each kind of slide and class, then method, then place: a value for each fold."""
    found: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for row in gathered(out, "slides.csv"):
        kind = f"{Path(row['slide']).stem}, {row['class_name']}"
        places = found.setdefault(kind, {}).setdefault(row["method"], {name: [] for name in PLACES})
        for name in PLACES:
            places[name].append(float(row[name]) if row[name] else None)
    return found


def gathered(out: Path, name: str) -> list[dict[str, str]]:
    """Return the rows of a table of all folds."""
    rows: list[dict[str, str]] = []
    for fold in range(1, FOLDS + 1):
        with (out / f"fold-{fold}" / name).open(newline="") as file:
            rows += csv.DictReader(file)
    return rows


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the tables for people."""
    names = ("accuracy", "gmean", "auroc")
    parts = [
        Table(
            "Mosaics of left-out patients, per cell",
            ("Fold", "Accuracy", "GMean", "AUROC"),
            tuple((fold, *(f"{row[name]:.3f}" for name in names)) for fold, row in found["mosaics"].items()),
        )
    ]
    for title, kind in (("Mean", "mean"), ("Difference from plain Grad-CAM", "difference")):
        shown = {method: row for method, row in found["photographs"].items() if kind == "mean" or method != PLAIN}
        rows = tuple((method, *(shown_estimate(row[name][kind]) for name in MEASURES)) for method, row in shown.items())
        parts.append(Table(f"Photographs of left-out patients: {title} (95 % interval)", ("Method", *MEASURES), rows))
    for kind, methods in found["slides"].items():
        rows = tuple((method, *(shown_mean(places[name]) for name in PLACES)) for method, places in methods.items())
        parts.append(Table(f"{kind}: mean of the folds", ("Method", *PLACES), rows))
    return parts


def shown_estimate(estimate: dict[str, float]) -> str:
    """Return an estimate with its interval."""
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def shown_mean(values: list[float | None]) -> str:
    """Return the mean of the folds that have a value."""
    there = [value for value in values if value is not None]
    return f"{np.mean(there):.3f}" if there else "–"


if __name__ == "__main__":
    main()
