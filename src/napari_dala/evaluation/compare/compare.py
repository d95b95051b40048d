"""Train several networks under one split and put their figures side by side.

Each run lies in <out>/<model>/fold-<number>, as `fit.train` leaves it. A finished run of the same configuration is used
as it is, an interrupted one is resumed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_dala.errors import BundleError, JobError
from napari_dala.metrics.paired import paired_differences
from napari_dala.metrics.scores import score
from napari_dala.training.networks.catalogue import build
from napari_dala.training.photographs.fit import train
from napari_dala.training.photographs.run_folder import read_curves, read_predictions, read_result, run_config, state_of
from napari_dala.training.photographs.squares import scored
from napari_dala.training.provenance import circumstances
from napari_dala.training.settings import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.datasets.splits import Split
    from napari_dala.evaluation.compare.cost import Costs
    from napari_dala.metrics.scores import Estimate, ScoreTable
    from napari_dala.model.bundle import ModelBundle
    from napari_dala.training.epochs import Epoch
    from napari_dala.training.photographs.run_folder import State
    from napari_dala.training.settings import TrainSettings


@dataclass(frozen=True)
class FoldScore:
    """How a run fared on its own held-out photographs."""

    fold: int
    n: int
    accuracy: float | None
    gmean: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class ModelResult:
    """What came of one network over all folds.

    Attributes
    ----------
    model
        Its name.
    table
        Figures of the held-out photographs of all folds together, each predicted by the run that never saw it.
    probabilities
        (n, C) of these photographs, in the order of `Comparison.indices`.
    folds
        A row for each run.
    curves
        The epochs of each run: columns of its metrics.csv, (epochs,), NaN where there is no value.
    differences
        Accuracy and GMean less those of the first network; empty for the first.
    seconds, epochs
        Of training, all runs.
    initial_weights
        What the runs began with.
    trained_on
        Device, precision and threads of the runs.
    """

    model: str
    table: ScoreTable
    probabilities: NDArray[np.float64]
    folds: tuple[FoldScore, ...]
    curves: tuple[Mapping[str, NDArray[np.float64]], ...]
    differences: Mapping[str, Estimate]
    seconds: float
    epochs: int
    initial_weights: tuple[str, ...]
    trained_on: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Networks side by side.

    Attributes
    ----------
    dataset
        The photographs.
    indices
        Those that were held out in some fold, by fold.
    settings
        The recipe of every run.
    folds
        Numbers of the folds, from 1.
    results
        In the order asked for.
    notes
        What the reader must be told, a sentence each.
    machine
        Where this was put together: versions, threads, cores.
    command
        The command line.
    costs
        What the networks cost, those too that are not compared; None where that was not measured.
    """

    dataset: ImageDataset
    indices: NDArray[np.intp]
    settings: TrainSettings
    folds: tuple[int, ...]
    results: tuple[ModelResult, ...]
    notes: tuple[str, ...]
    machine: Mapping[str, Any]
    command: str
    costs: Costs | None = None

    def as_json(self) -> dict[str, Any]:
        """Return JSON values: everything but probabilities and curves."""
        return {
            "dataset": self.dataset.name,
            "data": self.dataset.summary,
            "command": self.command,
            "folds": list(self.folds),
            "settings": self.settings.model_dump(mode="json"),
            "machine": dict(self.machine),
            "notes": list(self.notes),
            "models": [
                {
                    "model": result.model,
                    "initial_weights": list(result.initial_weights),
                    "scores": result.table.as_json(),
                    "difference_from_first": {name: asdict(value) for name, value in result.differences.items()},
                    "folds": [asdict(fold) for fold in result.folds],
                    "train_seconds": result.seconds,
                    "trained_on": list(result.trained_on),
                }
                for result in self.results
            ],
            "costs": None if self.costs is None else self.costs.model_dump(mode="json"),
        }


def compare(
    dataset: ImageDataset,
    splits: Mapping[int, Split],
    models: Sequence[str],
    settings: TrainSettings,
    out: Path,
    *,
    init: ModelBundle | None = None,
    finished_only: bool = False,
    command: str = "",
    n_boot: int = 2000,
    on_run: Callable[[str, int, State], object] | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> Comparison:
    """Train each network on each fold where that was not done yet, and score it.

    Parameters
    ----------
    dataset
        Photographs.
    splits
        By number of the fold. A photograph is held out in at most one.
    models
        Each a `settings.Network`; the others are compared with the first.
    settings
        The recipe, the same for all.
    out
        Folder of the runs.
    init
        Bundle to begin from, for ``dalaresnet50`` alone.
    finished_only
        Train nothing: leave out a network of which some fold is not finished, and say so.
    command
        The command line, for the record.
    n_boot
        Draws of patients for the intervals.
    on_run
        Told model, fold and how far the run is: "new", "interrupted" or "finished".
    on_epoch
        Told each epoch's figures.

    Raises
    ------
    DalaError
        `JobError` if a folder holds a run of another configuration or nothing is finished where that is asked,
        `BundleError` if there is no network of a name or `init` is not for it, else as `fit.train`. All folders and
        names are looked at before anything is trained.
    """
    if init is not None and set(models) != {BUNDLED}:
        raise BundleError(f"{init.card.name}: a bundle can begin a {BUNDLED} alone; compare others without it")
    train_px = None if finished_only else settings.train_px
    with torch.device("meta"):  # says what is wrong, and makes nothing
        for model in models:
            build(model, len(dataset.classes), tile_px=settings.tile_px, train_px=train_px)
    states = {
        (model, fold): state_of(_folder(out, model, fold), run_config(dataset, split, settings, model, init))
        for model in models
        for fold, split in splits.items()
    }
    notes: dict[str, None] = {}
    if finished_only:
        unfinished = {model for (model, _), state in states.items() if state != "finished"}
        models = [model for model in models if model not in unfinished]
        if not models:
            raise JobError(f"{out}: no network has finished runs of all folds; train them first")
        if unfinished:
            notes[f"not every fold is finished yet, so not compared: {', '.join(sorted(unfinished))}"] = None
    elif settings.devices * settings.nodes > 1 and set(states.values()) != {"finished"}:
        raise JobError("more than one device: train each fold with `dala train`, then compare with the same options")
    for (model, fold), state in states.items():
        if model not in models:
            continue
        if on_run:
            on_run(model, fold, state)
        if state != "finished":
            train(
                dataset,
                splits[fold],
                settings,
                _folder(out, model, fold),
                model=model,
                init=init,
                resume=state == "interrupted",
                command=command,
                n_boot=n_boot,
                on_epoch=on_epoch,
            )
    indices = np.concatenate([split.test for split in splits.values()])
    results: list[ModelResult] = []
    for model in models:
        folders = {fold: _folder(out, model, fold) for fold in splits}
        first = results[0].probabilities if results else None
        results.append(_gathered(dataset, splits, folders, model, first, n_boot))
    notes |= dict.fromkeys(note for split in splits.values() for note in split.notes)
    if len({"from scratch" in origin for result in results for origin in result.initial_weights}) > 1:
        notes["some runs began from scratch, others with pretrained weights: this is no fair comparison"] = None
    if len({place for result in results for place in result.trained_on}) > 1:
        notes["the runs were not all trained alike (device, precision, threads): their times do not compare"] = None
    return Comparison(dataset, indices, settings, tuple(splits), tuple(results), tuple(notes), circumstances(), command)


def _folder(out: Path, model: str, fold: int) -> Path:
    return out / model / f"fold-{fold}"


def _gathered(
    dataset: ImageDataset,
    splits: Mapping[int, Split],
    folders: Mapping[int, Path],
    model: str,
    first: NDArray[np.float64] | None,
    n_boot: int,
) -> ModelResult:
    """Read what the runs of a network left and score it."""
    parts, folds, curves = [], [], []
    origins: dict[str, None] = {}
    places: dict[str, None] = {}
    for fold, split in splits.items():
        probabilities = read_predictions(folders[fold], dataset, split)
        result = read_result(folders[fold])
        scores = score(dataset.labels[split.test], probabilities, n_boot=0).scores
        folds.append(
            FoldScore(fold, len(split.test), scores.accuracy.value, scores.gmean.value, float(result["seconds"]))
        )
        parts.append(probabilities)
        curves.append(read_curves(folders[fold]))
        origins[result["initial_weights"]] = None
        places[f"{result['device']}, {result['precision']}, threads: {result['threads']}"] = None
    indices = np.concatenate([split.test for split in splits.values()])
    pooled = np.concatenate(parts)
    groups = dataset.patients[indices] if dataset.patients_known else None
    return ModelResult(
        model=model,
        table=scored(dataset, indices, pooled, n_boot=n_boot),
        probabilities=pooled,
        folds=tuple(folds),
        curves=tuple(curves),
        differences={}
        if first is None
        else paired_differences(dataset.labels[indices], pooled, first, groups=groups, n_boot=n_boot),
        seconds=round(sum(fold.seconds for fold in folds), 1),
        epochs=sum(len(run["train_loss"]) for run in curves),
        initial_weights=tuple(origins),
        trained_on=tuple(places),
    )
