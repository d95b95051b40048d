"""Make the built-in model: five models that each hold patients out, then one of all patients with what they measured.

    python scripts/train_default.py --root breakhis-100x --out FOLDER [--jobs 2] [--bundle breakhis-100x.safetensors]

FOLDER holds a run of `dala train` for each fold and one for the whole; run again, it goes on where it stopped. The
temperature, the limit of what is familiar and every figure of the card come from the folds' models on patients that
they never saw; each is measured on weights as they are shipped, in 10 bits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from napari_dala.model.bundle import ModelBundle, load_bundle  # before torch: it sees to triton
from napari_dala.model.catalog import DEFAULT, SUFFIX
from napari_dala.model.familiarity import Familiarity
from napari_dala.training.anonymous import patient_key, without_names
from napari_dala.training.calibration import fit_temperature
from napari_dala.training.datasets import load_dataset
from napari_dala.training.evaluate import FixedSquares, fitting, joined, scored
from napari_dala.training.splits import patient_folds

# isort: split
import torch
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.model.card import ModelCard
    from napari_dala.training.datasets import ImageDataset
    from napari_dala.training.metrics import ScoreTable

RECIPE = (
    "--train-px 128 --epochs 32 --judge-every 16 --batch-size 16 --augmentation none --optimizer adamw "
    "--schedule one-cycle --lr 5e-4 --label-smoothing 0.05 --no-imagenet --seed 0"
).split()
FOLDS = 5
BITS = 10
FLAGGED = 0.08  # of held-out tissue that may be called unfamiliar


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network makes of tiles: layer4's channel means (n, 2048), logits (n, C), and whose tiles they are (n,)."""

    means: torch.Tensor
    logits: NDArray[np.float64]
    photograph: NDArray[np.intp]


def main() -> None:
    """Train, measure, write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="BreakHis, any part of it at 100X")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="where to write the model; FOLDER/breakhis-100x.safetensors else")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; on a processor each has one thread")
    asked = parser.parse_args()
    runs = {f"fold-{fold}": ("--fold", str(fold)) for fold in range(1, FOLDS + 1)} | {"all": ("--all",)}
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(lambda run: train(asked, *run), runs.items()))
    bundle, report = assembled(asked.root, asked.out)
    target = asked.bundle or asked.out / f"{DEFAULT}{SUFFIX}"
    bundle.save(target, bits=BITS)
    (asked.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))
    print(target, f"{target.stat().st_size / 2**20:.1f} MiB", bundle.hash)


def train(asked: argparse.Namespace, name: str, options: tuple[str, ...]) -> None:
    """Run `dala train` for one of the models, unless it is finished."""
    out = asked.out / name
    if (out / "result.json").exists():
        return
    source = ("--dataset", "breakhis", "--root", asked.root, "--magnification", 100, "--folds", FOLDS)
    command = ["train", *source, *options, *RECIPE, "--out", out, "--resume"]
    environment = os.environ | ({} if torch.cuda.is_available() else {"OMP_NUM_THREADS": "1"})
    with (asked.out / f"{name}.log").open("a") as log:
        arguments = [sys.executable, "-m", "napari_dala.cli", *map(str, command)]
        subprocess.run(arguments, check=True, env=environment, stdout=log, stderr=log)


def assembled(root: Path, out: Path) -> tuple[ModelBundle, dict[str, Any]]:
    """Return the model of all patients with what the folds' models measured, and the figures."""
    dataset = load_dataset("breakhis", root, magnification=100)
    left_out, ratios = [], []
    for fold, split in enumerate(patient_folds(dataset.labels, dataset.patients, FOLDS, 0), start=1):
        bundle = load_bundle(out / f"fold-{fold}" / "bundle.safetensors").as_stored(BITS)
        known = Familiarity.fit(seen(bundle, dataset, split.train).means)
        tiles = seen(bundle, dataset, split.test)
        left_out.append(tiles)
        ratios.append(known.ratio(tiles.means).double().numpy())
    temperature, limit = calibrated(dataset, left_out, ratios)

    # What is told of them is measured with what the other folds gave.
    probability, flagged = [], []
    for fold, (tiles, ratio) in enumerate(zip(left_out, ratios, strict=True)):
        others = [one for one in range(FOLDS) if one != fold]
        its_temperature, its_limit = calibrated(dataset, [left_out[k] for k in others], [ratios[k] for k in others])
        probability.append(softmax(tiles.logits / its_temperature, axis=1))
        flagged.append(ratio > its_limit)
    whose = np.concatenate([tiles.photograph for tiles in left_out])
    table = scored(dataset, np.arange(len(dataset)), of_photographs(np.concatenate(probability), whose))
    unfamiliar = np.concatenate(flagged)

    exact = load_bundle(out / "all" / "bundle.safetensors")
    small = exact.as_stored(BITS)
    here, there = (seen(one, dataset, np.arange(len(dataset))) for one in (exact, small))
    change = np.abs(softmax(here.logits / temperature, axis=1) - softmax(there.logits / temperature, axis=1))
    report = {
        "temperature": temperature,
        "limit": limit,
        "change_of_a_probability_by_10_bits": {"p99": float(np.quantile(change, 0.99)), "max": float(change.max())},
        "unfamiliar": {"all": float(unfamiliar.mean())}
        | {name: float(unfamiliar[dataset.patients[whose] == name].mean()) for name in sorted(set(dataset.patients))},
        "cross_validated": table.as_json(),
    }
    bundle = replace(
        small,
        card=described(exact.card, report, table),
        familiarity=vars(Familiarity.fit(there.means).with_limit(limit)),
    )
    return bundle.as_stored(BITS), report


def calibrated(dataset: ImageDataset, left_out: list[Seen], ratios: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Return temperature, and limit of the ratio of a familiar tile, from tiles of patients that were left out."""
    logits, whose = (np.concatenate([getattr(tiles, name) for tiles in left_out]) for name in ("logits", "photograph"))
    limit = float(np.quantile(np.concatenate(ratios), 1 - FLAGGED))
    return fit_temperature(logits, dataset.labels[whose]), limit


def described(card: ModelCard, report: dict[str, Any], table: ScoreTable) -> ModelCard:
    """Return the card of the model of all patients, whose figures are the folds' models'."""
    gmean, recall = table.scores.gmean, table.scores.recall
    summary = (
        f"Benign or malignant breast tissue (H&E). On patients it never saw: GMean {gmean}; it knows "
        f"{recall[0].value:.0%} of benign and {recall[1].value:.0%} of malignant photographs. A start to learn from, "
        "not an expert."
    )
    limits = (
        "Learned from 348 photographs at 100X of 18 patients (5 benign, 13 malignant) of one laboratory and one stain.",
        "Its figures are those of five models that each held patients out; this one learned from all 18.",
        "It was trained from scratch; benign patients that it never saw are often called malignant.",
        "Other scanners, stains, organs and diseases were not tested; tiles unlike the training tiles are hatched.",
    )
    metrics = {
        "cross_validated": without_names(table),
        "temperature": "of all left-out tiles; the figures are with temperatures of the other folds'",
        "change_of_a_probability_by_10_bits": report["change_of_a_probability_by_10_bits"],
        "unfamiliar_tiles_of_patients_left_out": {
            name if name == "all" else patient_key(name): round(share, 3)
            for name, share in report["unfamiliar"].items()
        },
    }
    return card.model_copy(
        update={
            "name": DEFAULT,
            "summary": summary,
            "temperature": report["temperature"],
            "limits": (*limits, *table.notes),
            "metrics": metrics,
            "training": {**card.training, "script": "scripts/train_default.py", "folds": FOLDS},
        }
    )


@torch.inference_mode()
def seen(bundle: ModelBundle, dataset: ImageDataset, indices: NDArray[np.intp]) -> Seen:
    """Return what a bundle makes of all squares of some photographs, in float32."""
    squares, _, _ = fitting(bundle.card, dataset)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = bundle.network.to(device)
    means, whose = [], []
    for number, (tiles, counts, _) in enumerate(
        DataLoader(FixedSquares(dataset, indices, squares), 8, collate_fn=joined)
    ):
        means.append(network.features(squares.normalize(tiles.to(device))).mean((2, 3)))
        whose.append(np.repeat(indices[8 * number : 8 * number + len(counts)], counts))
    logits = network.head_from_means(torch.cat(means)).double().cpu().numpy()
    return Seen(torch.cat(means).cpu(), logits, np.concatenate(whose))


def of_photographs(probability: NDArray[np.float64], whose: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean probability of each photograph's tiles, (photographs, C)."""
    total = np.zeros((whose.max() + 1, probability.shape[1]))
    np.add.at(total, whose, probability)
    return total / np.bincount(whose)[:, None]


if __name__ == "__main__":
    main()
