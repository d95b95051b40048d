"""Operating thresholds: from which probability on a tile counts as the target class, and what that gives. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and the parts of both sides that it tells rightly (sensitivity of the target class, specificity)."""

    threshold: float
    sensitivity: float
    specificity: float

    @property
    def gmean(self) -> float:
        """Geometric mean of sensitivity and specificity (Kubat and Matwin 1997)."""
        return float(np.sqrt(self.sensitivity * self.specificity))


def operating_points(positive: ArrayLike, probability: ArrayLike) -> list[OperatingPoint]:
    """Return every operating point there is, thresholds ascending: between each two probabilities, and beyond all.

    Parameters
    ----------
    positive
        (n,) bool, whether a sample is of the target class; both kinds must be there.
    probability
        (n,) of the target class.
    """
    truth, scores = np.asarray(positive, bool), np.asarray(probability, float)
    values = np.unique(scores)
    thresholds = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.0]])
    missed, spared = (
        np.searchsorted(np.sort(scores[side]), thresholds, side="left") / max(1, side.sum()) for side in (truth, ~truth)
    )
    rows = zip(thresholds.tolist(), (1 - missed).tolist(), spared.tolist(), strict=True)
    return [OperatingPoint(*row) for row in rows]


def at_threshold(positive: ArrayLike, probability: ArrayLike, threshold: float) -> OperatingPoint:
    """Return what a threshold gives; the arrays are those of `operating_points`."""
    truth, named = np.asarray(positive, bool), np.asarray(probability, float) >= threshold
    return OperatingPoint(threshold, float(named[truth].mean()), float((~named[~truth]).mean()))


def best_gmean(points: list[OperatingPoint]) -> OperatingPoint:
    """Return the point of the largest GMean; of several, the one in their middle."""
    gmeans = np.array([point.gmean for point in points])
    best = np.flatnonzero(gmeans >= gmeans.max() - 1e-12)
    return points[int(best[len(best) // 2])]


def at_sensitivity(points: list[OperatingPoint], wished: float) -> OperatingPoint:
    """Return the highest threshold at which at least this part of the target class is found."""
    return max((point for point in points if point.sensitivity >= wished - 1e-12), key=lambda point: point.threshold)


def reliability(
    right: NDArray[np.bool_], confidence: NDArray[np.float64], bins: int = 10
) -> list[tuple[float, float, int]]:
    """Return mean confidence, part that is right and count of each bin of equal width that is not empty."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[place == k].mean()), float(right[place == k].mean()), int((place == k).sum()))
        for k in np.unique(place).tolist()
    ]
