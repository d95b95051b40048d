"""How much better one model is than another on the same samples, with an interval over the same draws of patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dala.metrics.bootstrap import FIGURES, PatientSums, draws, intervals
from napari_dala.metrics.scores import Estimate, predicted_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


def paired_differences(
    labels: ArrayLike,
    probabilities: ArrayLike,
    reference: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    figures: Sequence[str] = ("accuracy", "gmean"),
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return figures of one model minus those of a reference model.

    Both are scored on the same draws of patients, so that what makes a draw hard for both cancels out: the interval is
    that of the difference. Where it holds 0, the samples do not tell the two apart. The draws are those of
    `metrics.score` with the same seed.

    Parameters
    ----------
    labels
        (n,) int.
    probabilities, reference
        (n, C) of the two models.
    groups
        (n,) patient of each sample; without, samples are resampled singly.
    figures
        Names from `bootstrap.FIGURES`.
    n_boot, seed
        As for `metrics.score`.
    """
    truth = np.asarray(labels)
    names, patient = np.unique(np.arange(len(truth)) if groups is None else groups, return_inverse=True)
    sums = [
        PatientSums.of(truth, predicted_classes(values), np.asarray(values, np.float64), patient)
        for values in (probabilities, reference)
    ]
    columns = [FIGURES.index(figure) for figure in figures]
    holds = np.zeros((len(names), np.shape(probabilities)[1]), np.bool_)
    holds[patient, truth] = True
    weights = [np.ones((1, len(names))), *draws(holds, n_boot, np.random.default_rng(seed))]
    differences = np.concatenate([(sums[0].figures(w) - sums[1].figures(w))[:, columns] for w in weights])
    bounds = intervals(differences[1:])
    return {
        figure: Estimate(value, *bound)
        for figure, value, bound in zip(figures, differences[0].tolist(), bounds, strict=True)
    }
