"""Make the built-in model: models that each hold patients out, then one of all patients with what they measured.

    python scripts/train_default.py --data FOLDER --out OUT [--jobs 2] [--bundle breast.safetensors]

FOLDER holds the data sets (see `SETS`). OUT gets a run of `dala train` for each fold and for the whole; run again, it
goes on where it stopped. Temperature, operating threshold, the limit of what is familiar and every figure of the card
come from the folds' models on patients that they never saw; each is measured on weights as they are shipped, in 10
bits. With `--pretrain` training begins from a model of lung and colon (`PRETRAINING`): not what is shipped, since
by photograph cross-validation lost by it and by patient it gained nothing certain (docs/results.md).
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
import torch
from scipy.special import softmax
from torch.utils.data import DataLoader

from napari_dala.datasets.folders import load_dataset
from napari_dala.datasets.images import ImageDataset, joined_datasets
from napari_dala.datasets.splits import patient_folds
from napari_dala.files import write_json
from napari_dala.metrics.anonymous import patient_key, without_names
from napari_dala.metrics.operating import at_sensitivity, at_threshold, best_gmean, operating_points
from napari_dala.metrics.temperature import fit_temperature
from napari_dala.model.bundle import ModelBundle, load_bundle
from napari_dala.model.catalog import DEFAULT, SUFFIX
from napari_dala.model.familiarity import Familiarity
from napari_dala.training.learner import by_patient
from napari_dala.training.photographs.squares import FixedSquares, TileLogits, scored, squares_at
from napari_dala.training.views import joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_dala.datasets.splits import Split
    from napari_dala.metrics.scores import ScoreTable
    from napari_dala.model.card import ModelCard

SETS = (
    ("breakhis", "breakhis-100x"),
    ("breakhis", "breakhis-more"),
    ("breakhis", "breakhis-500x328"),
    ("ucsb", "ucsb-breast"),
)
PRETRAINING = (("folder", "lung-lc25000"), ("folder", "colon-lc25000"))
COMMON = (
    "--optimizer adamw --lr 5e-4 --schedule one-cycle --label-smoothing 0.05 --batch-size 32 --judge-every 99".split()
)
PRETRAINING_RECIPE = "--mpp 0.65 --group likeness --model-mpp 1.0 --tile 128 --epochs 3 --crops 2".split()
RECIPE = "--magnification 100 --model-mpp 1.0 --train-px 128 --epochs 2".split()
CROPS = {"fold": 7, "all": 6}  # of a photograph in an epoch: some 200 steps in all
FOLDS = 5
BITS = 10
FLAGGED = 0.08  # of held-out tissue that may be called unfamiliar
FITTED = 600  # tiles that tell what is familiar
WISHED = (0.90, 0.95)  # sensitivities that the card gives thresholds for


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network makes of some photographs.

    Attributes
    ----------
    photographs
        (n,) places in the data set.
    found
        Logits of their tiles.
    means
        (tiles, 2048) layer4's channel means; none where they were not kept.
    """

    photographs: NDArray[np.intp]
    found: TileLogits
    means: torch.Tensor | None = None

    @property
    def whose(self) -> NDArray[np.intp]:
        """(tiles,) place of each tile's photograph in the data set."""
        return np.repeat(self.photographs, self.found.counts)


@dataclass(frozen=True)
class Calibration:
    """What left-out patients tell of a model."""

    temperature: float
    threshold: float
    limit: float


def main() -> None:
    """Train, measure, write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help=f"where to write the model; OUT/{DEFAULT}{SUFFIX} else")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; on a processor they share its cores")
    parser.add_argument("--pretrain", action="store_true", help="begin from a model of lung and colon")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    init: tuple[object, ...] = ()
    if asked.pretrain:
        train(asked, "pretrained", PRETRAINING, PRETRAINING_RECIPE, jobs=1)
        init = ("--init", asked.out / "pretrained" / "bundle.safetensors")
    runs: dict[str, tuple[object, ...]] = {
        f"fold-{fold}": ("--fold", fold, "--crops", CROPS["fold"]) for fold in range(1, FOLDS + 1)
    }
    runs["all"] = ("--all", "--crops", CROPS["all"])
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(
            pool.map(
                lambda run: train(asked, run[0], SETS, [*RECIPE, *run[1], *init, "--seed", 0], jobs=asked.jobs),
                runs.items(),
            )
        )
    bundle, report = assembled(asked.data, asked.out)
    target = asked.bundle or asked.out / f"{DEFAULT}{SUFFIX}"
    bundle.save(target, bits=BITS)
    write_json(asked.out / "report.json", report)
    print(json.dumps(report, indent=1))
    print(target, f"{target.stat().st_size / 1e6:.1f} MB", bundle.hash)


def train(
    asked: argparse.Namespace, name: str, sets: Sequence[tuple[str, str]], recipe: Sequence[object], *, jobs: int
) -> None:
    """Run `dala train` for one of the models, unless it is finished."""
    out = asked.out / name
    if (out / "result.json").exists():
        return
    source = [part for kind, folder in sets for part in ("--dataset", kind, "--root", asked.data / folder)]
    command = ["train", *source, *recipe, *COMMON, "--out", out, "--resume"]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = os.environ | ({} if torch.cuda.is_available() else {"OMP_NUM_THREADS": str(threads)})
    with (asked.out / f"{name}.log").open("a") as log:
        arguments = [sys.executable, "-m", "napari_dala.cli", *map(str, command)]
        subprocess.run(arguments, check=True, env=environment, stdout=log, stderr=log)


def data_of(folder: Path) -> ImageDataset:
    """Return the photographs that the model is trained on."""
    return joined_datasets(
        [
            load_dataset(kind, folder / name, magnification=100 if kind == "breakhis" else None)  # type: ignore[arg-type]
            for kind, name in SETS
        ]
    )


def folds_of(dataset: ImageDataset) -> list[Split]:
    """Return the folds that `dala train --fold` makes."""
    return patient_folds(dataset.labels, dataset.patients, FOLDS, 0)


def left_out(dataset: ImageDataset, runs: Path) -> tuple[list[Seen], list[NDArray[np.float64]]]:
    """Return what each fold's model makes of its patients, and how far their tiles are from what it knows.

    It is kept beside the fold's bundle, in left-out.npz, so that it is computed once.
    """
    found, ratios = [], []
    for fold, split in enumerate(folds_of(dataset), start=1):
        kept = runs / f"fold-{fold}" / "left-out.npz"
        if not kept.exists():
            bundle = load_bundle(kept.with_name("bundle.safetensors")).as_stored(BITS)
            known = familiar(bundle, dataset, split.train)
            tiles = seen(bundle, dataset, split.test)
            assert tiles.means is not None
            ratio = known.ratio(tiles.means).double().numpy()
            np.savez(kept, logits=tiles.found.logits, counts=tiles.found.counts, ratio=ratio)
        with np.load(kept) as stored:
            found.append(Seen(split.test, TileLogits(stored["logits"], stored["counts"])))
            ratios.append(stored["ratio"])
    return found, ratios


def assembled(data: Path, out: Path) -> tuple[ModelBundle, dict[str, Any]]:
    """Return the model of all patients with what the folds' models measured, and the figures."""
    dataset = data_of(data)
    found, ratios = left_out(dataset, out)
    whole = calibrated(dataset, found, ratios)

    # What is told of them is measured with what the other folds gave.
    probability = np.zeros((len(dataset), len(dataset.classes)))
    called = np.zeros(len(dataset))  # probability less the threshold, as far as the class that is called goes
    flagged = []
    for fold, (tiles, ratio) in enumerate(zip(found, ratios, strict=True)):
        others = [one for one in range(FOLDS) if one != fold]
        from_others = calibrated(dataset, [found[k] for k in others], [ratios[k] for k in others])
        probability[tiles.photographs] = tiles.found.of_photographs(from_others.temperature)
        called[tiles.photographs] = probability[tiles.photographs, 1] - from_others.threshold
        flagged.append(ratio > from_others.limit)
    unfamiliar, whose = np.concatenate(flagged), np.concatenate([tiles.whose for tiles in found])

    exact = load_bundle(out / "all" / "bundle.safetensors")
    small = exact.as_stored(BITS)
    some = np.random.default_rng(0).permutation(len(dataset))[:150]
    here, there = (seen(one, dataset, some).found.logits / whole.temperature for one in (exact, small))
    change = np.abs(softmax(here, axis=1) - softmax(there, axis=1))
    own = np.concatenate([tiles.found.of_photographs(whole.temperature) for tiles in found])
    places = np.concatenate([tiles.photographs for tiles in found])
    positive = dataset.labels[places] == 1
    points = operating_points(positive, own[:, 1])
    chosen = [at_threshold(positive, own[:, 1], whole.threshold), *(at_sensitivity(points, at) for at in WISHED)]
    report = {
        **vars(whole),
        "change_of_a_probability_by_10_bits": {"p99": float(np.quantile(change, 0.99)), "max": float(change.max())},
        "unfamiliar": {"all": float(unfamiliar.mean())}
        | {name: float(unfamiliar[dataset.patients[whose] == name].mean()) for name in sorted(set(dataset.patients))},
        "operating_points": [vars(point) for point in chosen],
        "cross_validated": table_of(dataset, np.arange(len(dataset)), probability, called).as_json(),
        "by_set": {
            name: table_of(dataset, np.flatnonzero(dataset.sources == name), probability, called).as_json()
            for name in sorted(set(dataset.sources))
        },
    }
    table = table_of(dataset, np.arange(len(dataset)), probability, called)
    bundle = replace(
        small,
        card=described(exact.card, dataset, report, table),
        familiarity=vars(familiar(small, dataset, np.arange(len(dataset))).with_limit(whole.limit)),
    )
    return bundle.as_stored(BITS), report


def table_of(
    dataset: ImageDataset, indices: NDArray[np.intp], probability: NDArray[np.float64], called: NDArray[np.float64]
) -> ScoreTable:
    """Return the figures of photographs whose class was called at each fold's own threshold.

    The probabilities of the figures are shifted in logit so that all thresholds lie at one half; those that tell of
    calibration are of the probabilities as they are.
    """
    malignant = np.clip(probability[indices, 1], 1e-9, 1 - 1e-9)
    threshold = np.clip(malignant - called[indices], 1e-9, 1 - 1e-9)
    shifted = 1 / (1 + np.exp(-(logit(malignant) - logit(threshold))))
    by_call = scored(dataset, indices, np.stack([1 - shifted, shifted], 1), threshold=(0.5, 1))
    as_it_is = scored(dataset, indices, probability[indices])
    calibration = {name: getattr(as_it_is.scores, name) for name in ("auroc", "ece", "brier")}
    return replace(by_call, scores=replace(by_call.scores, **calibration), threshold=None)


def logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log odds."""
    return np.asarray(np.log(probability / (1 - probability)))


def calibrated(dataset: ImageDataset, found: list[Seen], ratios: list[NDArray[np.float64]]) -> Calibration:
    """Return temperature, operating threshold, and the limit of a familiar tile, from patients that were left out."""
    logits = np.concatenate([tiles.found.logits for tiles in found])
    whose = np.concatenate([tiles.whose for tiles in found])
    temperature = fit_temperature(logits, dataset.labels[whose])
    probability = np.concatenate([tiles.found.of_photographs(temperature)[:, 1] for tiles in found])
    positive = dataset.labels[np.concatenate([tiles.photographs for tiles in found])] == 1
    threshold = best_gmean(operating_points(positive, probability)).threshold
    return Calibration(temperature, threshold, float(np.quantile(np.concatenate(ratios), 1 - FLAGGED)))


def familiar(bundle: ModelBundle, dataset: ImageDataset, indices: NDArray[np.intp]) -> Familiarity:
    """Return what a bundle knows of its training tiles, patients alike."""
    rng = np.random.default_rng(0)
    chance = by_patient(dataset.labels[indices], dataset.patients[indices])
    order = indices[rng.choice(len(indices), len(indices), replace=False, p=chance / chance.sum())]
    means = seen(bundle, dataset, order, most=FITTED).means
    assert means is not None
    return Familiarity.fit(means)


@torch.inference_mode()
def seen(bundle: ModelBundle, dataset: ImageDataset, indices: NDArray[np.intp], most: int | None = None) -> Seen:
    """Return what a bundle makes of all squares of some photographs, in float32; of the first ones for `most` tiles."""
    card = bundle.card
    squares, _ = squares_at(card.mpp, dataset, card.tile_px, card.mean, card.std)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = bundle.network.to(device)
    means, every, tiles_seen = [], [], 0
    for tiles, counts, _ in DataLoader(FixedSquares(dataset, indices, squares), 8, collate_fn=joined):
        means.append(network.features(squares.normalize(tiles.to(device))).mean((2, 3)))
        every.append(counts)
        tiles_seen += len(tiles)
        if most is not None and tiles_seen >= most:
            break
    logits = network.head_from_means(torch.cat(means)).double().cpu().numpy()
    counts = torch.cat(every).numpy().astype(np.intp)
    return Seen(indices[: len(counts)], TileLogits(logits, counts), torch.cat(means).cpu())


def described(card: ModelCard, dataset: ImageDataset, report: dict[str, Any], table: ScoreTable) -> ModelCard:
    """Return the card of the model of all patients, whose figures are the folds' models'."""
    patients = [len(set(dataset.patients[dataset.labels == label])) for label in (0, 1)]
    summary = "Benign or malignant breast tissue (H&E). A start to learn from, not an expert."
    limits = (
        f"Learned from {len(dataset)} photographs of {sum(patients)} patients ({patients[0]} benign, {patients[1]} "
        "malignant) of two laboratories, at about 0.65 and 0.25 um/px.",
        f"Its figures are those of {FOLDS} models that each held patients out; this one learned from all.",
        "Trained from random weights; benign patients that it never saw are often called malignant.",
        "Other scanners, stains, organs and diseases were not tested; tiles unlike the training tiles are hatched.",
    )
    names = ("at the operating threshold", *(f"for a sensitivity of {at:.2f}" for at in WISHED))
    metrics = {
        "cross_validated": without_names(table),
        "operating_points": dict(zip(names, report["operating_points"], strict=True)),
        "temperature_and_threshold": "of all left-out photographs; the figures are with those of the other folds",
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
            "operating_threshold": report["threshold"],
            "limits": (*limits, *table.notes),
            "metrics": metrics,
            "training": {**card.training, "script": "scripts/train_default.py", "folds": FOLDS},
        }
    )


if __name__ == "__main__":
    main()
