"""Measure the explanations of the folds' models of scripts/train_default.py on patients that each left out.

    python -m benchmarks.explanations --data FOLDER --runs RUNS --measured OUT --out OUT2 [--limit 8] [--jobs 2]

`dala explain-eval` runs for each fold's model on some left-out photographs, on its mosaic of left-out patients
(`benchmarks.default_model` made it in OUT) and on a drawn teaching slide. OUT2 then holds what each fold gave, and
`folds.md` and `folds.json`, all folds together.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from napari_dala.evaluation.tables import Table
from napari_dala.files import write_json, write_text
from napari_dala.metrics.scores import mean_estimates
from napari_dala.slide.teaching.slide import teaching_slide
from scripts.train_default import FOLDS, SETS

DRAWN_PX = 2048
PLAIN = "Grad-CAM"
MEASURES = ("insertion", "deletion", "drop", "increase", "road", "kept")
PLACES = ("auc", "pointing", "share", "kept", "mixed_inside", "mixed_outside", "cut_inside", "cut_outside")


def main() -> None:
    """Measure each fold, then all together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="OUT of train_default.py")
    parser.add_argument("--measured", type=Path, required=True, help="OUT of benchmarks.default_model, for its mosaics")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=8, help="photographs of each fold to explain")
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time; on a processor each has one thread")
    asked = parser.parse_args()
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(lambda fold: measure(asked, fold), range(1, FOLDS + 1)))
    found = {"photographs": photographs(asked.out), "slides": slides(asked.out)}
    write_json(asked.out / "folds.json", found)
    text = "\n".join(table.as_markdown() for table in tables(found))
    write_text(asked.out / "folds.md", text)
    print(text)


def measure(asked: argparse.Namespace, fold: int) -> None:
    """Run `dala explain-eval` for a fold's model."""
    folder = asked.out / f"fold-{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    bundle, mosaic = asked.runs / f"fold-{fold}" / "bundle.safetensors", asked.measured / f"mosaic-{fold}.tiff"
    drawn = teaching_slide(folder / "drawn.tiff", DRAWN_PX, seed=300 + fold)
    data = [part for kind, name in SETS for part in ("--dataset", kind, "--root", asked.data / name)]
    data += ["--magnification", 100, "--folds", FOLDS, "--fold", fold]
    both = ("--slide", mosaic, "--slide", drawn.path, "--limit", asked.limit, "--out", folder)
    run(folder, sys.executable, "-m", "napari_dala.cli", "explain-eval", "--model", bundle, *data, *both)


def run(folder: Path, *command: object) -> None:
    """Run a command with one thread, its words in the folder's log."""
    with (folder / "log.txt").open("a") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*map(str, command)], check=True, env=environment, stdout=log, stderr=log)


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
        kind = f"{re.sub(r'-[0-9]+$', '', Path(row['slide']).stem)}, {row['class_name']}"  # each fold has its mosaic
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
    parts = []
    for title, kind in (("Mean", "mean"), ("Difference from plain Grad-CAM", "difference")):
        shown = {method: row for method, row in found["photographs"].items() if kind == "mean" or method != PLAIN}
        rows = tuple((method, *(shown_estimate(row[name][kind]) for name in MEASURES)) for method, row in shown.items())
        parts.append(Table(f"Photographs of left-out patients: {title} (95 % interval)", ("Method", *MEASURES), rows))
    for kind, methods in found["slides"].items():
        rows = tuple((method, *(shown_mean(places[name]) for name in PLACES)) for method, places in methods.items())
        parts.append(Table(f"{kind}: mean of the folds", ("Method", *PLACES), rows))
    return parts


def shown_estimate(estimate: dict[str, float | None]) -> str:
    """Return an estimate with its interval."""
    interval = "" if estimate["low"] is None else f" ({estimate['low']:.3f} to {estimate['high']:.3f})"
    return f"{estimate['value']:.3f}{interval}"


def shown_mean(values: list[float | None]) -> str:
    """Return the mean of the folds that have a value."""
    there = [value for value in values if value is not None]
    return f"{np.mean(there):.3f}" if there else "–"


if __name__ == "__main__":
    main()
