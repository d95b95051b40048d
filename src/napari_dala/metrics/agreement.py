"""How far readers agree beyond chance: Cohen's kappa of two, Fleiss' kappa of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def cohen_kappa(
    one: Sequence[object],
    other: Sequence[object],
    categories: Sequence[object],
    *,
    weights: Literal["quadratic"] | None = None,
) -> float | None:
    """Return Cohen's kappa of two series of judgements of the same cases, by scikit-learn.

    Parameters
    ----------
    one, other
        (n,) categories.
    categories
        All there are, in order where `weights` count their distance.
    weights
        "quadratic" for ordered categories (Cohen 1968).

    Returns
    -------
    float or None
        1 for full agreement, 0 for that of chance; None where it is not defined: without cases, or where both gave
        every case one and the same category.

    References
    ----------
    Cohen, J. (1960). A coefficient of agreement for nominal scales. Educational and Psychological Measurement 20(1).
    """
    from sklearn.metrics import cohen_kappa_score

    places = [[categories.index(value) for value in series] for series in (one, other)]
    if not places[0] or len({*places[0], *places[1]}) == 1:
        return None
    return float(cohen_kappa_score(*places, labels=range(len(categories)), weights=weights))


def fleiss_kappa(judgements: Sequence[Sequence[object]], categories: Sequence[object]) -> float | None:
    """Return Fleiss' kappa of cases that several readers judged.

    Parameters
    ----------
    judgements
        (cases, readers): each case has as many, two at least.
    categories
        All there are.

    Returns
    -------
    float or None
        As `cohen_kappa`; None without cases, or where everybody gave every case one and the same category.

    References
    ----------
    Fleiss, J. L. (1971). Measuring nominal scale agreement among many raters. Psychological Bulletin 76(5), 378-382.
    """
    counts = np.array([[list(row).count(category) for category in categories] for row in judgements], np.float64)
    if not len(counts) or (counts.sum(0) > 0).sum() < 2:
        return None
    readers = counts.sum(1)
    if readers.min() < 2 or np.ptp(readers):
        raise ValueError(f"each case needs as many judgements, two at least, found {readers.tolist()}")
    observed = ((np.square(counts).sum(1) - readers) / (readers * (readers - 1))).mean()
    by_chance = np.square(counts.sum(0) / counts.sum()).sum()
    return float((observed - by_chance) / (1 - by_chance))
