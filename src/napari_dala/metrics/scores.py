"""How good a model is: the paper's metrics and calibration, with intervals that respect patients."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.metrics.bootstrap import FEWEST_UNITS, FIGURES, LEVEL, PatientSums, draws, intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

FEW_PATIENTS = 5


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval, never of zero width; None where it is not defined or cannot be estimated."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.3f}" + ("" if self.low is None else f" ({self.low:.3f}–{self.high:.3f})")

    def as_columns(self, name: str) -> dict[str, float | None]:
        """Return the three as columns of a table: NAME, NAME_low and NAME_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class Scores:
    """The figures.

    Attributes
    ----------
    accuracy
        Samples classified rightly.
    f1
        2 TP / (2 TP + FP + FN) of the last class where there are two, else the mean over classes.
    iba
        Index of balanced accuracy (Garcia, Mollineda, Sanchez 2009), (1 + 0.1 (TPR - TNR)) TPR TNR: of the last
        class where there are two, else the mean over classes, each against the rest.
    gmean
        Geometric mean of the classes' recalls (Kubat and Matwin 1997).
    balanced_accuracy
        Arithmetic mean of the classes' recalls.
    auroc
        Area under the ROC curve: of the last class where there are two, else the mean over classes, each against
        the rest. Does not depend on the threshold.
    ece
        Expected calibration error of the likeliest class in 15 bins of equal width (Guo et al. 2017). Chance alone
        makes it positive, more so in a bootstrap draw, so that it may lie below its own interval.
    brier
        Mean squared error of the probabilities (Brier 1950): of the last class where there are two, else summed over
        classes, 0 to 2.
    recall
        Of each class: the part of its samples classified rightly.
    """

    accuracy: Estimate
    f1: Estimate
    iba: Estimate
    gmean: Estimate
    balanced_accuracy: Estimate
    auroc: Estimate
    ece: Estimate
    brier: Estimate
    recall: tuple[Estimate, ...]


@dataclass(frozen=True)
class PatientScore:
    """How one patient's samples of one class fared."""

    patient: str
    label: str
    n: int
    accuracy: float


@dataclass(frozen=True)
class ScoreTable:
    """Scores and what they were computed from.

    Attributes
    ----------
    scores
        See there.
    classes
        Names, in the order of the labels.
    confusion
        Counts; a row is a true class, a column a predicted one.
    patients
        A row per patient and class; empty where patients were not given.
    n, n_patients
        Samples and patients; None where patients were not given.
    threshold, n_boot, seed
        As given.
    notes
        What the reader must be told, a sentence each.
    """

    scores: Scores
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    patients: tuple[PatientScore, ...]
    n: int
    n_patients: int | None
    threshold: float | None
    n_boot: int
    seed: int
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return JSON values; what is not defined is null."""
        table = asdict(self)
        table["scores"]["recall"] = dict(zip(self.classes, table["scores"]["recall"], strict=True))
        return {**table, "level": LEVEL, "resampled": "images" if self.n_patients is None else "patients"}


def predicted_classes(
    probabilities: ArrayLike, threshold: float | None = None, target: int | None = None
) -> NDArray[np.intp]:
    """Return the class of each sample, (n,): the likeliest, or with a threshold the target wherever it reaches it.

    Below the threshold it is the likeliest of the others. The target is the last class where none is given.
    """
    values = np.array(probabilities, np.float64)
    if threshold is None:
        return np.asarray(values.argmax(1))
    target = values.shape[1] - 1 if target is None else target
    reached = values[:, target] >= threshold
    values[:, target] = -1
    return np.asarray(np.where(reached, target, values.argmax(1)))


def score(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float | None = None,
    target: int | None = None,
    groups: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> ScoreTable:
    """Score predicted probabilities against true classes.

    The intervals are the 2.5th and 97.5th percentiles over bootstrap draws. A draw takes as many patients as there
    are, with replacement and with all their samples, since samples of one patient are alike. A draw that lacks a
    class is drawn again: its recall would not be defined. There is no interval where a class has fewer than three
    patients, nor where every draw gave the same value; notes say so.

    Parameters
    ----------
    labels
        (n,) int, 0 to C - 1. A class without any sample is left out of every mean over classes.
    probabilities
        (n, C), each row adding to 1.
    threshold, target
        See `predicted_classes`.
    groups
        (n,) patient of each sample, or its slide. Without, samples are resampled singly and a note says so.
    classes
        Names; their numbers by default.
    n_boot
        How many draws; 0 for no intervals.
    seed
        Of the draws.

    Raises
    ------
    ValueError
        When the arrays do not fit each other or the probabilities are none.
    """
    truth, probability = np.asarray(labels), np.asarray(probabilities, np.float64)
    names, patient = np.unique(np.arange(len(truth)) if groups is None else groups, return_inverse=True)
    _check(truth, probability, patient)
    class_names = tuple(map(str, range(probability.shape[1]))) if classes is None else tuple(classes)
    predicted = predicted_classes(probability, threshold, target)
    sums = PatientSums.of(truth, predicted, probability, patient)
    once = np.ones((1, len(names)))
    holds = np.zeros((len(names), len(class_names)), np.bool_)
    holds[patient, truth] = True

    figures = sums.figures(once)
    drawn = [sums.figures(weights) for weights in draws(holds, n_boot, np.random.default_rng(seed))]
    bounds = intervals(np.concatenate(drawn) if drawn else np.empty((0, figures.shape[1])))
    estimates = [Estimate(_or_none(value), *bound) for value, bound in zip(figures[0].tolist(), bounds, strict=True)]
    notes = [] if groups is not None else ["patients unknown: the intervals take images for independent"]
    if groups is not None:
        notes += [
            f"{name}: {held} patient{'s'[: held > 1]} only, "
            + ("so the intervals are too narrow" if held >= FEWEST_UNITS else "so there are no intervals")
            for name, held in zip(class_names, holds.sum(0).tolist(), strict=True)
            if 0 < held < FEW_PATIENTS
        ]
    if n_boot and not drawn and holds.sum(0)[holds.any(0)].min() >= FEWEST_UNITS:
        notes.append("no intervals: a draw of patients almost never has every class")
    if drawn and any(one.value is not None and one.low is None for one in estimates):
        notes.append("a figure without an interval is the same in every draw: that does not make it certain")
    return ScoreTable(
        scores=Scores(**dict(zip(FIGURES, estimates, strict=False)), recall=tuple(estimates[len(FIGURES) :])),
        classes=class_names,
        confusion=tuple(tuple(map(int, row)) for row in sums.confusion(once)[0]),
        patients=() if groups is None else _patient_scores(truth, predicted, patient, names, class_names),
        n=len(truth),
        n_patients=None if groups is None else len(names),
        threshold=threshold,
        n_boot=n_boot,
        seed=seed,
        notes=tuple(notes),
    )


def mean_estimates(values: ArrayLike, groups: ArrayLike, *, n_boot: int = 2000, seed: int = 0) -> list[Estimate]:
    """Return the mean of each column with its interval over bootstrap draws of patients, as `score` draws them.

    Parameters
    ----------
    values
        (n, k) finite numbers.
    groups
        (n,) patient of each row.
    n_boot, seed
        As for `score`.
    """
    rows = np.asarray(values, np.float64)
    names, patient = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.stack([np.bincount(patient, column) for column in rows.T], 1)
    everybody = np.ones((len(names), 1), np.bool_)
    weights = [np.empty((0, len(names))), *draws(everybody, n_boot, np.random.default_rng(seed))]
    drawn = np.concatenate([(w @ sums) / (w @ np.bincount(patient))[:, None] for w in weights])
    return [Estimate(value, *bound) for value, bound in zip(rows.mean(0).tolist(), intervals(drawn), strict=True)]


def class_differences(
    values: ArrayLike, labels: ArrayLike, groups: ArrayLike, *, n_boot: int = 2000, seed: int = 0
) -> list[Estimate]:
    """Return, of each column, the mean of class 1 less that of class 0, with its interval over draws of patients.

    Parameters
    ----------
    values
        (n, k) finite numbers.
    labels
        (n,) 0 or 1; both must be there.
    groups
        (n,) patient of each row.
    n_boot, seed
        As for `score`.
    """
    rows, truth = np.asarray(values, np.float64), np.asarray(labels)
    names, patient = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.stack([np.bincount(patient[truth == k], minlength=len(names)) for k in (0, 1)], 1)
    sums = np.zeros((2, len(names), rows.shape[1]))
    np.add.at(sums, (truth, patient), rows)
    weights = [np.ones((1, len(names))), *draws(counts > 0, n_boot, np.random.default_rng(seed))]
    means = ([(w @ sums[k]) / (w @ counts[:, k])[:, None] for w in weights] for k in (0, 1))
    below, above = map(np.concatenate, means)
    drawn = above - below
    return [Estimate(value, *bound) for value, bound in zip(drawn[0].tolist(), intervals(drawn[1:]), strict=True)]


def _check(truth: NDArray[Any], probability: NDArray[np.float64], patient: NDArray[np.intp]) -> None:
    if probability.ndim != 2 or not len(truth) or not truth.shape == patient.shape == probability.shape[:1]:
        raise ValueError(
            f"labels (n,), probabilities (n, C) and groups (n,) needed, found {truth.shape}, {probability.shape} "
            f"and {patient.shape}"
        )
    if truth.min() < 0 or truth.max() >= probability.shape[1]:
        raise ValueError(f"labels must be 0 to {probability.shape[1] - 1}, found {truth.min()} to {truth.max()}")
    if not (np.abs(probability.sum(1) - 1) < 0.01).all() or probability.min() < 0:
        raise ValueError("probabilities must not be negative and each row must add to 1")


def _patient_scores(
    truth: NDArray[np.intp],
    predicted: NDArray[np.intp],
    patient: NDArray[np.intp],
    names: NDArray[Any],
    classes: tuple[str, ...],
) -> tuple[PatientScore, ...]:
    pairs, pair, samples = np.unique(patient * len(classes) + truth, return_inverse=True, return_counts=True)
    accuracy = np.bincount(pair, predicted == truth) / samples
    return tuple(
        PatientScore(str(names[number // len(classes)]), classes[number % len(classes)], n, right)
        for number, n, right in zip(pairs.tolist(), samples.tolist(), accuracy.tolist(), strict=True)
    )


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
