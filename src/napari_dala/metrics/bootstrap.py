"""Every figure of many bootstrap draws of patients at once, from sums per patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Indices: TypeAlias = NDArray[np.intp]

FIGURES = ("accuracy", "f1", "iba", "gmean", "balanced_accuracy", "auroc", "ece", "brier")  # then a recall per class
ECE_BINS = 15
IBA_ALPHA = 0.1  # imbalanced-learn's default
LEVEL = 0.95  # of the intervals
FEWEST_UNITS = 3  # patients (or slides, regions) of a class, without which there is no interval

_CHUNK = 64  # draws at a time: bounds memory
_ROUNDS = 1000  # of redrawing, until the patients of a class are taken to be too few


@dataclass(frozen=True, eq=False)
class PatientSums:
    """What the figures need of each patient: all add up, so that a draw is a weighted sum of patients.

    Attributes
    ----------
    classes
        How many.
    sums
        (patients, C * C + 16): the confusion matrix; per bin of confidence, rightly classified less confidence;
        the squared error.
    rankings
        For each class that AUROC looks at, its samples and the others by score.
    """

    classes: int
    sums: Floats
    rankings: tuple[_Ranking, ...]

    @classmethod
    def of(cls, truth: Indices, predicted: Indices, probability: Floats, patient: Indices) -> PatientSums:
        """Sum samples by patient.

        Parameters
        ----------
        truth, predicted
            (n,) class.
        probability
            (n, C).
        patient
            (n,) numbers from 0, without holes.
        """
        count = probability.shape[1]
        patients = int(patient.max()) + 1
        confidence = probability.max(1)
        bins = np.searchsorted(np.linspace(0, 1, ECE_BINS + 1)[1:-1], confidence)  # (low, high] as Guo et al.
        error = (probability - np.eye(count)[truth])[:, 1 if count == 2 else 0 :]
        cells = count * count
        columns = (truth * count + predicted, cells + bins, np.full_like(truth, cells + ECE_BINS))
        values = (np.ones(len(truth)), (probability.argmax(1) == truth) - confidence, (error**2).sum(1))
        sums = sparse.coo_array(
            (np.concatenate(values), (np.tile(patient, 3), np.concatenate(columns))),
            shape=(patients, cells + ECE_BINS + 1),
        ).toarray()
        looked_at = [1] if count == 2 else range(count)
        rankings = (_Ranking.of(truth == index, probability[:, index], patient, patients) for index in looked_at)
        return cls(count, sums, tuple(ranking for ranking in rankings if ranking is not None))

    def confusion(self, weights: Floats) -> Floats:
        """Return the confusion matrices (draws, C, C), rows true classes, of (draws, patients) weights."""
        return (weights @ self.sums[:, : self.classes**2]).reshape(-1, self.classes, self.classes)

    def figures(self, weights: Floats) -> Floats:
        """Return FIGURES and the recalls of each draw, (draws, 8 + C); see `metrics.Scores` for what they are.

        Parameters
        ----------
        weights
            (draws, patients): how often a draw has each patient.
        """
        confusion = self.confusion(weights)
        n = confusion.sum((1, 2))
        true, named, hits = confusion.sum(2), confusion.sum(1), np.diagonal(confusion, axis1=1, axis2=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = hits / true
            specificity = (n[:, None] - true - named + hits) / (n[:, None] - true)
            f1 = 2 * hits / (true + named)
            iba = (1 + IBA_ALPHA * (recall - specificity)) * recall * specificity
        f1, iba = ((part[:, 1] if self.classes == 2 else _mean(part)) for part in (f1, iba))
        there = np.isfinite(recall)
        gmean = np.where(there, recall, 1).prod(1) ** (1 / there.sum(1))
        rest = weights @ self.sums[:, self.classes**2 :] / n[:, None]
        ece, brier = np.abs(rest[:, :-1]).sum(1), rest[:, -1]
        areas = [ranking.areas(weights) for ranking in self.rankings]
        auroc = np.mean(areas, axis=0) if areas else np.full(len(weights), np.nan)
        columns = (hits.sum(1) / n, f1, iba, gmean, _mean(recall), auroc, ece, brier)
        return np.column_stack([*columns, recall])


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The samples of a class and all others by score, for the area under the ROC curve: Mann and Whitney's U.

    Attributes
    ----------
    own, others
        (distinct scores ascending, patients) how many samples have a score.
    won
        (patients, patients) pairs of a row's own sample above a column's other sample, ties counting half; None where
        patients are so many that ranking each draw anew is quicker.
    """

    own: Any
    others: Any
    won: Floats | None

    @classmethod
    def of(cls, own: NDArray[np.bool_], scores: Floats, patient: Indices, patients: int) -> _Ranking | None:
        if own.all() or not own.any():
            return None
        distinct, rank = np.unique(scores, return_inverse=True)
        counted, others = (
            sparse.csr_array((np.ones(side.sum()), (rank[side], patient[side])), shape=(len(distinct), patients))
            for side in (own, ~own)
        )
        won = counted.T @ _below(others.toarray()) if patients**2 < 20 * len(own) else None
        return cls(counted, others, won)

    def areas(self, weights: Floats) -> Floats:
        """Return the area of each draw, (draws,), of (draws, patients) weights."""
        if self.won is not None:
            won = np.einsum("dp,dp->d", weights @ self.won, weights)
            return np.asarray(won / ((weights @ self.own.sum(0)) * (weights @ self.others.sum(0))))
        own, others = self.own @ weights.T, self.others @ weights.T
        return np.asarray(np.einsum("sd,sd->d", own, _below(others)) / (own.sum(0) * others.sum(0)))


def _below(others: Floats) -> Floats:
    """Count the others below each score, those at the same score half, (scores, columns)."""
    return np.asarray(np.cumsum(others, axis=0) - others / 2)


def draws(holds: NDArray[np.bool_], number: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Draw patients with replacement, as many as there are; draws that lack a class are drawn again.

    Where a class has fewer than `FEWEST_UNITS` patients nothing is drawn: so few do not tell how patients differ.

    Parameters
    ----------
    holds
        (patients, classes) whether a patient has samples of a class.
    number
        How many draws.
    rng
        Their source.

    Yields
    ------
    (some, patients) float64
        How often each patient was drawn; `number` rows in all, fewer or none where nearly every draw lacks a class.
    """
    patients = len(holds)
    needed = holds[:, holds.any(0)].astype(np.float64)
    if needed.sum(0).min() < FEWEST_UNITS:
        return
    for start in range(0, number, _CHUNK):
        weights = np.empty((min(_CHUNK, number - start), patients))
        again = np.arange(len(weights))
        for _ in range(_ROUNDS):
            drawn = rng.integers(patients, size=(len(again), patients)) + np.arange(len(again))[:, None] * patients
            weights[again] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
            again = again[(weights[again] @ needed == 0).any(1)]
            if not len(again):
                break
        else:
            return
        yield weights


def intervals(drawn: Floats) -> list[tuple[float, float] | tuple[()]]:
    """Return the 95 % interval of each column of draws (draws, figures): percentiles; () where there is none.

    There is none without draws, where a figure is not defined, or where every draw gave the same value: an interval of
    zero width would claim certainty that no sample gives.
    """
    if not len(drawn):
        return [()] * drawn.shape[1]
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
    return [(a, b) if b - a > 1e-9 else () for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def _mean(values: Floats) -> Floats:
    """Mean over the classes that have a value, (draws, C) -> (draws,)."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0).sum(1) / there.sum(1))
