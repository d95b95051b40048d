"""Pool the held-out predictions of networks trained several times, with another seed each, under the same folds.

    python scripts/pool_seeds.py OUT

OUT/seed-S/MODEL/fold-K holds the runs of `dala train --fold K --model MODEL --seed S`. Printed: the figures of each
seed, of the seeds together and of the mean of their probabilities ("averaged"), the differences between networks on the
averaged probabilities, and how much of each patient the seeds know, on average.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.evaluation.tables import Table, signed
from napari_dala.metrics.paired import paired_differences
from napari_dala.metrics.scores import markdown_head, predicted_classes, score

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSES = ("benign", "malignant")
MODELS = ("dalaresnet50", "resnet50", "dalaresnet50-no-attention")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    seeds = sorted(folder.name for folder in out.glob("seed-*"))
    runs = {model: [held_out(out / seed / model) for seed in seeds] for model in MODELS}
    labels, patients, _ = runs[MODELS[0]][0]
    for model in MODELS:
        if not all(np.array_equal(labels, run[0]) and np.array_equal(patients, run[1]) for run in runs[model]):
            raise SystemExit(f"{out}: the runs of {model} held other photographs out")

    print(markdown_head(CLASSES))
    averaged = {}
    for model, its_runs in runs.items():
        probability = [run[2] for run in its_runs]
        averaged[model] = np.mean(probability, axis=0)
        for name, one in [*zip(seeds, probability, strict=True), ("averaged", averaged[model])]:
            print(score(labels, one, groups=patients, classes=CLASSES).as_markdown_row(f"{model}, {name}"))
    print()
    print(over_seeds(runs).as_markdown())
    print(differences(labels, patients, averaged).as_markdown())
    print(by_patient(runs).as_markdown())


Run = tuple["NDArray[np.intp]", "NDArray[np.str_]", "NDArray[np.float64]"]


def held_out(folder: Path) -> Run:
    """Return labels (n,), patients (n,) and probabilities (n, 2) of all folds' held-out photographs, by name."""
    rows = []
    for fold in sorted(folder.glob("fold-*/predictions.csv")):
        with fold.open(newline="") as file:
            rows += list(csv.DictReader(file))
    rows.sort(key=lambda row: row["image"])
    probability = np.array([[float(row[f"prob_{name}"]) for name in CLASSES] for row in rows])
    return (
        np.array([CLASSES.index(row["label"]) for row in rows]),
        np.array([row["patient"] for row in rows]),
        probability / probability.sum(1, keepdims=True),
    )


def over_seeds(runs: dict[str, list[Run]]) -> Table:
    """Return mean and standard deviation over the seeds."""
    rows = []
    for model, its_runs in runs.items():
        tables = [score(run[0], run[2], groups=run[1], classes=CLASSES, n_boot=0).scores for run in its_runs]
        cells = [[getattr(scores, name).value for scores in tables] for name in ("accuracy", "f1", "iba", "gmean")]
        cells += [[scores.recall[k].value for scores in tables] for k in range(len(CLASSES))]
        cells.append([scores.auroc.value for scores in tables])
        rows.append((model, *(f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" for values in cells)))
    head = ("Model", "Accuracy", "F1", "IBA", "GMean", *(f"Recall {name}" for name in CLASSES), "AUROC")
    return Table("Mean and standard deviation over the seeds", head, tuple(rows))


def differences(
    labels: NDArray[np.intp], patients: NDArray[np.str_], averaged: dict[str, NDArray[np.float64]]
) -> Table:
    """Return what each network's averaged probabilities gain on the first one's."""
    rows = []
    for model in MODELS[1:]:
        found = paired_differences(labels, averaged[model], averaged[MODELS[0]], groups=patients)
        rows.append((model, signed(found["accuracy"]), signed(found["gmean"])))
    title = f"Difference from {MODELS[0]}, probabilities averaged over the seeds (95 % interval)"
    return Table(title, ("Model", "Accuracy", "GMean"), tuple(rows))


def by_patient(runs: dict[str, list[Run]]) -> Table:
    """Return the part of each patient's photographs that is classified rightly, mean over the seeds."""
    known: dict[str, dict[str, float]] = defaultdict(dict)
    labels, patients, _ = runs[MODELS[0]][0]
    for model, its_runs in runs.items():
        right = np.mean([predicted_classes(run[2]) == run[0] for run in its_runs], axis=0)
        for patient in np.unique(patients):
            known[patient][model] = float(right[patients == patient].mean())
    rows = [
        (
            patient,
            CLASSES[labels[patients == patient][0]],
            str((patients == patient).sum()),
            *(f"{share[model]:.0%}" for model in MODELS),
        )
        for patient, share in known.items()
    ]
    return Table("Rightly classified, patient by patient", ("Patient", "Class", "Images", *MODELS), tuple(rows))


if __name__ == "__main__":
    main()
