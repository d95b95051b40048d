"""Label a mosaic as a user would, learn quick by the command line, and score its map before and after by its truth.

    python -m benchmarks.quick m16.tiff --parent PARENT.safetensors --out FOLDER [--mosaic-seed 0] [--each 10]

A mosaic repeats photographs of tissue, cell by cell, and has its true class map beside it (scripts/mosaic_truth.py);
the tool that makes one lies beside the project, with the photographs. Half of the patients that the parent was not
trained on are spared: no pixel of theirs is under a labelled tile. The figures are of three sets of cells, each
stricter than the one before:

    unlabelled       no labelled tile touches the cell
    new photograph   nor does one touch a cell with the same photograph, and the parent was not trained on its patient
    new patient      nor does one touch a cell of the same patient: what to expect of a patient never seen

FOLDER then holds annotations.geojson, the slide's analysis, the job and measured.json. The photographs are read where
they are; no picture is written.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.annotations.files import write_annotations
from napari_dala.files import write_json
from napari_dala.metrics.anonymous import patient_key
from napari_dala.metrics.scores import ScoreTable, score
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import for_bundle, open_store
from napari_dala.results.report.outputs import output_folder
from napari_dala.slide import open_slide
from scripts.mosaic_truth import CLASSES, Mosaic, draw_regions, per_cell, read_mosaic

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from napari_dala.model.card import ModelCard

FIGURES = ("gmean", "accuracy", "auroc")


def main() -> None:
    """Measure, print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mosaic", type=Path)
    parser.add_argument("--parent", default="default", help="name or file of the bundle to begin from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mosaic-seed", type=int, default=0, help="that the mosaic was made with")
    parser.add_argument("--data", type=Path, help="the photographs that it was made of")
    parser.add_argument("--only", nargs="*", default=[], help="as the mosaic was made with")
    parser.add_argument("--each", type=int, default=10, help="regions of each class")
    parser.add_argument("--seed", type=int, default=0, help="of the regions and of the learning")
    asked = parser.parse_args()
    write_json(asked.out / "measured.json", measure(asked))


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Return timings (s) and figures; the commands' own output passes through."""
    mosaic = read_mosaic(asked.mosaic, asked.mosaic_seed, asked.data, asked.only)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    dala("analyze", asked.mosaic, "--model", asked.parent, "--out", asked.out)
    seconds["analyse, features cached"] = time.perf_counter() - started
    with open_slide(asked.mosaic) as slide:
        folder, fingerprint = output_folder(asked.out, slide), slide.fingerprint
    before = Analysis.open(folder)
    trained = trained_on(before.card)
    document, seen = draw_regions(
        mosaic, before.grid, fingerprint, each=asked.each, spared=spared(mosaic, trained), seed=asked.seed
    )
    drawn = asked.out / "annotations.geojson"
    write_annotations(document, drawn)

    job = asked.out / "job"
    started = time.perf_counter()
    learn = ("finetune", asked.mosaic, "--annotations", drawn, "--analysis", folder, "--model", asked.parent)
    dala(*learn, "--mode", "quick", "--seed", asked.seed, "--out", job)
    seconds["learn, quick"] = time.perf_counter() - started
    seconds["score all tiles again"], after = rescored(folder, job / "result" / "bundle.safetensors")
    seconds["from Learn to the new map"] = seconds["learn, quick"] + seconds["score all tiles again"]

    cells = {
        "unlabelled": mosaic.tissue & ~seen,
        "new photograph": mosaic.new_photographs(seen, trained),
        "new patient": mosaic.new_patients(seen, trained),
    }
    figures = {name: compared(mosaic, before, after, chosen, name) for name, chosen in cells.items()}
    for name, value in seconds.items():
        print(f"{name}: {value:.1f} s")
    return {
        "seconds": seconds,
        "tiles": int(after.analysed.sum()),
        "regions": {name: sum(one.class_name == name for one in document.annotations) for name in CLASSES},
        "cells": {"tissue": int(mosaic.tissue.sum()), "under labelled tiles": int(seen.sum())},
        "figures": figures,
    }


def dala(*arguments: object) -> None:
    """Run `dala` as a user does; a failure ends this script too."""
    subprocess.run([sys.executable, "-m", "napari_dala.cli", *map(str, arguments)], check=True)


def rescored(folder: Path, bundle: Path) -> tuple[float, Analysis]:
    """Score the stored tiles with a new head as the warm child does; return the seconds and what is then stored."""
    from napari_dala.analysis.rescore import rescore
    from napari_dala.model.bundle_head import load_head

    started = time.perf_counter()
    head = load_head(str(bundle))
    store = for_bundle(open_store(folder / "analysis.zarr"), head.hash, head.card.model_dump(mode="json"))
    rescore(store, head)
    return time.perf_counter() - started, Analysis.open(folder)


def trained_on(card: ModelCard) -> frozenset[str]:
    """Return the keys of the patients that a model's card names as trained on."""
    named = card.training.get("patients_trained")
    if not isinstance(named, list):
        print("the parent's card names no patients: none is taken for trained on", file=sys.stderr)
        return frozenset()
    return frozenset(map(str, named))


def spared(mosaic: Mosaic, trained: Collection[str]) -> list[str]:
    """Return half of each class's patients that were not trained on, and of one the one."""
    chosen: list[str] = []
    for label in (1, 2):
        there = sorted(set(mosaic.patient[mosaic.labels == label].tolist()))
        new = [patient for patient in there if patient_key(patient) not in trained]
        chosen += new[: (len(new) + 1) // 2]
    return chosen


def compared(
    mosaic: Mosaic, before: Analysis, after: Analysis, cells: NDArray[np.bool_], name: str
) -> dict[str, Any] | None:
    """Return the figures of some cells before and after, and print them; None where a class has no cell."""
    tables = [_score(mosaic, analysis, cells) for analysis in (before, after)]
    if tables[0] is None or tables[1] is None:
        print(f"{name}: not every class has such cells")
        return None
    print(f"{name}: {tables[0].n} cells of {tables[0].n_patients} patients")
    for figure in FIGURES:
        print(f"  {figure}: {getattr(tables[0].scores, figure)} before, {getattr(tables[1].scores, figure)} after")
    return {
        "cells": tables[0].n,
        "patients": tables[0].n_patients,
        "before": tables[0].as_json()["scores"],
        "after": tables[1].as_json()["scores"],
        "notes": tables[1].notes,
    }


def _score(mosaic: Mosaic, analysis: Analysis, cells: NDArray[np.bool_]) -> ScoreTable | None:
    names = [known.casefold() for known in analysis.card.class_names]
    order = [names.index(name) for name in CLASSES]
    probability = per_cell(len(mosaic.labels), mosaic.cell_px, analysis.grid, analysis.probability[order])
    cells = cells & np.isfinite(probability[0])
    if len(np.unique(mosaic.labels[cells])) < len(CLASSES):
        return None
    chances = probability[:, cells].T
    chances /= chances.sum(1, keepdims=True)
    return score(mosaic.labels[cells].astype(int) - 1, chances, groups=mosaic.patient[cells], classes=CLASSES)


if __name__ == "__main__":
    main()
