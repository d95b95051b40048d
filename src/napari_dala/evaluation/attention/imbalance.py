"""Train with and without the attention where a class is rare, and see what that changes.

Each run lies in <out>/<class ratio>/seed-<number>/<model>/fold-<number>, as `fit.train` leaves it. All runs learn from
equally many photographs, so that a rare class is not mixed up with a small data set.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.errors import DatasetError, JobError
from napari_dala.evaluation.attention.panels import figure_key
from napari_dala.metrics.paired import mean_figures, paired_differences
from napari_dala.training.photographs.fit import train
from napari_dala.training.photographs.run_folder import read_predictions, run_config, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.datasets.splits import Split
    from napari_dala.metrics.scores import Estimate
    from napari_dala.training.epochs import Epoch
    from napari_dala.training.photographs.run_folder import State
    from napari_dala.training.settings import TrainSettings

WITH, WITHOUT = "dalaresnet50", "dalaresnet50-no-attention"
FIGURES = ("recall 0", "recall 1", "gmean", "auroc")


@dataclass(frozen=True)
class ClassRatio:
    """How many photographs of one class there are for each of the other.

    Attributes
    ----------
    times
        As many of the common class for one of the rare one; at least 1.
    rare
        Number of the rare class; either where `times` is 1.
    """

    times: int
    rare: int = 0

    def title(self, classes: Sequence[str]) -> str:
        """Return the ratio in words."""
        return "1:1" if self.times == 1 else f"1:{self.times}, {classes[self.rare]} rare"

    def folder(self, classes: Sequence[str]) -> str:
        """Return the name of the folder of its runs."""
        return "1-1" if self.times == 1 else f"1-{self.times}-{classes[self.rare]}-rare"

    def counts(self, photographs: int) -> tuple[int, int]:
        """Return how many of so many photographs are of each class."""
        few = max(1, round(photographs / (self.times + 1)))
        return (few, photographs - few) if self.rare == 0 else (photographs - few, few)


@dataclass(frozen=True, eq=False)
class RatioResult:
    """What came of training under one class ratio.

    Attributes
    ----------
    ratio
        The ratio.
    photographs
        How many of each class every run learned from.
    patients
        Of each class, of how many patients these were: the fewest and the most of all runs.
    figures
        By network: each of `FIGURES`, the mean of the seeds, with an interval by patient.
    differences
        Each of `FIGURES` with the attention less that without, on the same photographs.
    by_seed
        The same difference of each seed.
    """

    ratio: ClassRatio
    photographs: tuple[int, int]
    patients: tuple[tuple[int, int], ...]
    figures: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Estimate]
    by_seed: tuple[Mapping[str, float | None], ...]


@dataclass(frozen=True, eq=False)
class ImbalanceStudy:
    """Training with and without the attention under several class ratios.

    Attributes
    ----------
    dataset
        The photographs.
    settings
        The recipe; its seed is that of the folds and the first of the runs.
    seeds
        Of the runs.
    folds
        Their numbers, from 1.
    held_out
        How many photographs were held out in some fold, of how many patients.
    results
        By class ratio.
    notes
        What the reader must be told, a sentence each.
    command
        The command line.
    """

    dataset: ImageDataset
    settings: TrainSettings
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    held_out: tuple[int, int]
    results: tuple[RatioResult, ...]
    notes: tuple[str, ...]
    command: str

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        classes = self.dataset.classes
        return {
            "dataset": self.dataset.name,
            "data": self.dataset.summary,
            "command": self.command,
            "classes": list(classes),
            "folds": list(self.folds),
            "seeds": list(self.seeds),
            "held_out": {"photographs": self.held_out[0], "patients": self.held_out[1]},
            "settings": self.settings.model_dump(mode="json"),
            "notes": list(self.notes),
            "ratios": [
                {
                    "ratio": result.ratio.title(classes),
                    "photographs": dict(zip(classes, result.photographs, strict=True)),
                    "patients": dict(zip(classes, result.patients, strict=True)),
                    "models": {model: _plain(found, classes) for model, found in result.figures.items()},
                    "difference": _plain(result.differences, classes),
                    "difference_by_seed": [
                        {figure_key(name, classes): value for name, value in found.items()} for found in result.by_seed
                    ],
                }
                for result in self.results
            ],
        }


def class_ratios(times: Sequence[int]) -> list[ClassRatio]:
    """Return 1:1 where it is asked for, and every other ratio with either class rare, the second class first.

    Raises
    ------
    DatasetError
        If a ratio is below 1, or none is given.
    """
    wanted = sorted(set(times))
    if not wanted or wanted[0] < 1:
        raise DatasetError("class ratios: give whole numbers from 1 on with commas between, such as 1,3,10")
    return [ClassRatio(number, rare) for number in wanted for rare in ((1, 0) if number > 1 else (0,))]


def with_ratios(
    splits: Mapping[int, Split], labels: NDArray[np.intp], ratios: Sequence[ClassRatio], seed: int
) -> dict[ClassRatio, dict[int, Split]]:
    """Return the splits with fewer training photographs, in every ratio; what is held out stays as it is.

    All have equally many training photographs, as many as the rarest ratio allows in every fold. They are drawn by
    seed, those of a smaller number among those of a larger, so that the ratios differ in nothing else.

    Raises
    ------
    DatasetError
        If there are too few training photographs for the rarest ratio.
    """
    most = max(ratio.times for ratio in ratios)
    common = min(int(np.bincount(labels[split.train], minlength=2).min()) for split in splits.values())
    total = common * (most + 1) // most
    if total < most + 1:
        raise DatasetError(
            f"1:{most} needs {most} training photographs of each class, a fold has {common}; ask for smaller ratios"
        )
    found: dict[ClassRatio, dict[int, Split]] = {ratio: {} for ratio in ratios}
    for fold, split in splits.items():
        rng = np.random.default_rng([seed, fold])
        drawn = [rng.permutation(split.train[labels[split.train] == number]) for number in range(2)]
        for ratio in ratios:
            kept = np.sort(np.concatenate([of[:n] for of, n in zip(drawn, ratio.counts(total), strict=True)]))
            dropped = np.union1d(split.dropped, np.setdiff1d(split.train, kept))
            found[ratio][fold] = replace(split, train=kept, dropped=dropped)
    return found


def train_under_imbalance(
    dataset: ImageDataset,
    splits: Mapping[int, Split],
    times: Sequence[int],
    seeds: Sequence[int],
    settings: TrainSettings,
    out: Path,
    *,
    keep_weights: bool = False,
    command: str = "",
    n_boot: int = 2000,
    on_run: Callable[[str, str, int, int, State], object] | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> ImbalanceStudy:
    """Train with and without the attention under every class ratio where that was not done yet, and compare.

    Parameters
    ----------
    dataset
        Photographs of two classes, their resolution known.
    splits
        By number of the fold; a photograph is held out in at most one.
    times
        The ratios, see `class_ratios`.
    seeds
        Of weights, order, augmentation, dropout and of which photographs are drawn.
    settings
        The recipe, the same for all but for its seed.
    out
        Folder of the runs.
    keep_weights
        Leave the runs' weights in their folders, about 100 MB a run.
    command
        The command line, for the record.
    n_boot
        Draws of patients for the intervals.
    on_run
        Told ratio, network, seed, fold and how far the run is.
    on_epoch
        Told each epoch's figures.

    Raises
    ------
    DalaError
        `DatasetError` if there are other than two classes, too few photographs or no resolution, `JobError` if a folder
        holds a run of another configuration or several devices are asked for, else as `fit.train`. All folders are
        looked at before anything is trained.
    """
    if len(dataset.classes) != 2:
        raise DatasetError(f"{dataset.name}: a class ratio is of two classes, found {len(dataset.classes)}")
    if dataset.mpp is None:
        raise DatasetError(f"{dataset.name}: a bundle needs the images' resolution; give it with --mpp")
    if settings.devices * settings.nodes > 1:
        raise JobError("class ratios are trained on one device: leave out --devices and --nodes")
    ratios = class_ratios(times)
    runs = [
        _Run(
            out / ratio.folder(dataset.classes) / f"seed-{seed}" / model / f"fold-{fold}",
            ratio,
            model,
            seed,
            fold,
            split,
        )
        for seed in seeds
        for ratio, drawn in with_ratios(splits, dataset.labels, ratios, seed).items()
        for fold, split in drawn.items()
        for model in (WITH, WITHOUT)
    ]
    runs.sort(key=lambda run: (run.seed, run.fold))  # what is there after some hours is of all ratios
    recipes = {seed: settings.model_copy(update={"seed": seed}) for seed in seeds}
    states = [state_of(run.folder, run_config(dataset, run.split, recipes[run.seed], run.model)) for run in runs]
    for run, state in zip(runs, states, strict=True):
        if on_run:
            on_run(run.ratio.title(dataset.classes), run.model, run.seed, run.fold, state)
        if state == "finished":
            continue
        trained = train(
            dataset,
            run.split,
            recipes[run.seed],
            run.folder,
            model=run.model,
            resume=state == "interrupted",
            command=command,
            n_boot=0,
            on_epoch=on_epoch,
        )
        if not keep_weights:
            trained.weights.unlink()

    results = [_result(dataset, [run for run in runs if run.ratio == ratio], n_boot) for ratio in ratios]
    indices = _held_out(splits)
    notes = dict.fromkeys(note for split in splits.values() for note in split.notes)
    if not dataset.patients_known:
        notes["patients unknown: the intervals take images for independent"] = None
    patients = len(set(dataset.patients[indices].tolist()))
    return ImbalanceStudy(
        dataset,
        settings,
        tuple(seeds),
        tuple(splits),
        (len(indices), patients),
        tuple(results),
        tuple(notes),
        command,
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """A network on a fold, under a ratio and a seed."""

    folder: Path
    ratio: ClassRatio
    model: str
    seed: int
    fold: int
    split: Split


def _result(dataset: ImageDataset, runs: Sequence[_Run], n_boot: int) -> RatioResult:
    """Compare the networks under a ratio by its runs, which are finished and in the order of seeds, then folds."""
    first = runs[0]
    indices = _held_out({run.fold: run.split for run in runs if (run.seed, run.model) == (first.seed, first.model)})
    labels = dataset.labels[indices]
    groups = dataset.patients[indices] if dataset.patients_known else None
    by_model = {
        model: np.concatenate(
            [read_predictions(run.folder, dataset, run.split) for run in runs if run.model == model]
        ).reshape(-1, len(indices), 2)
        for model in (WITH, WITHOUT)
    }
    patients = [
        [
            len(set(dataset.patients[part[dataset.labels[part] == number]].tolist()))
            for part in (r.split.train for r in runs)
        ]
        for number in range(2)
    ]
    return RatioResult(
        ratio=first.ratio,
        photographs=first.ratio.counts(len(first.split.train)),
        patients=tuple((min(counts), max(counts)) for counts in patients),
        figures={
            model: mean_figures(labels, values, groups=groups, figures=FIGURES, n_boot=n_boot)
            for model, values in by_model.items()
        },
        differences=paired_differences(
            labels, by_model[WITH], by_model[WITHOUT], groups=groups, figures=FIGURES, n_boot=n_boot
        ),
        by_seed=tuple(
            {
                name: estimate.value
                for name, estimate in paired_differences(labels, *pair, figures=FIGURES, n_boot=0).items()
            }
            for pair in zip(by_model[WITH], by_model[WITHOUT], strict=True)
        ),
    )


def _held_out(splits: Mapping[int, Split]) -> NDArray[np.intp]:
    return np.concatenate([split.test for split in splits.values()])


def _plain(found: Mapping[str, Estimate], classes: Sequence[str]) -> dict[str, Any]:
    return {figure_key(name, classes): asdict(estimate) for name, estimate in found.items()}
