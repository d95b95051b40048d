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

from napari_dala.model.bundle import ModelBundle, load_bundle  # before torch: it sees to triton
from napari_dala.model.familiarity import Familiarity
from napari_dala.training.calibration import fit_temperature
from napari_dala.training.datasets import load_dataset
from napari_dala.training.evaluate import FixedSquares, Squares, joined, scored, typical_side
from napari_dala.training.splits import patient_folds

# isort: split
import torch
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.training.datasets import ImageDataset

RECIPE = (
    "--train-px 128 --epochs 100 --judge-every 20 --batch-size 16 --optimizer adamw --schedule one-cycle --lr 5e-4 "
    "--label-smoothing 0.05 --no-imagenet --seed 0"
).split()
FOLDS = 5
BITS = 10
FLAGGED = 0.05  # of held-out tissue that may be called unfamiliar


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
    target = asked.bundle or asked.out / "breakhis-100x.safetensors"
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
    logits: list[NDArray[np.float64]] = []
    photograph: list[NDArray[np.intp]] = []
    ratios: list[NDArray[np.float64]] = []
    for fold, split in enumerate(patient_folds(dataset.labels, dataset.patients, FOLDS, 0), start=1):
        bundle = load_bundle(out / f"fold-{fold}" / "bundle.safetensors").as_stored(BITS)
        known = Familiarity.fit(seen(bundle, dataset, split.train).means)
        held_out = seen(bundle, dataset, split.test)
        logits.append(held_out.logits)
        photograph.append(held_out.photograph)
        ratios.append(known.ratio(held_out.means).double().numpy())
    pooled, whose = np.concatenate(logits), np.concatenate(photograph)
    temperature = fit_temperature(pooled, dataset.labels[whose])
    limit = float(np.quantile(np.concatenate(ratios), 1 - FLAGGED))

    table = scored(dataset, np.arange(len(dataset)), of_photographs(pooled / temperature, whose))
    exact = load_bundle(out / "all" / "bundle.safetensors")
    everything = np.arange(len(dataset))
    small = exact.as_stored(BITS)
    here, there = (seen(one, dataset, everything) for one in (exact, small))
    change = np.abs(softmax(here.logits / temperature) - softmax(there.logits / temperature))
    familiarity = Familiarity.fit(there.means).with_limit(limit)
    flagged = np.concatenate(ratios) > limit
    report = {
        "temperature": temperature,
        "limit": limit,
        "change of a probability by 10 bits": {"p99": float(np.quantile(change, 0.99)), "max": float(change.max())},
        "flagged of each patient's held-out tiles": {
            patient: float(flagged[dataset.patients[whose] == patient].mean())
            for patient in sorted(set(dataset.patients))
        },
        "held_out": table.as_json(),
    }
    card = exact.card.model_copy(update={"name": "breakhis-100x", "temperature": temperature})
    return replace(small, card=card, familiarity=vars(familiarity)).as_stored(BITS), report


@torch.inference_mode()
def seen(bundle: ModelBundle, dataset: ImageDataset, indices: NDArray[np.intp]) -> Seen:
    """Return what a bundle makes of all squares of some photographs, in float32."""
    squares = Squares(typical_side(dataset), bundle.card.tile_px, bundle.card.mean, bundle.card.std)
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


def of_photographs(logits: NDArray[np.float64], whose: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean probability of each photograph's tiles, (photographs, C)."""
    probability = softmax(logits)
    total = np.zeros((whose.max() + 1, logits.shape[1]))
    np.add.at(total, whose, probability)
    return total / np.bincount(whose)[:, None]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities of logits (n, C)."""
    from scipy.special import softmax as of

    return np.asarray(of(logits, axis=1))


if __name__ == "__main__":
    main()
