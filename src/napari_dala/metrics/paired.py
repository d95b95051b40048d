"""How good runs of a model are in the mean, and how much better than another's, over the same draws of patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dala.metrics.bootstrap import FIGURES, PatientSums, draws, intervals
from napari_dala.metrics.scores import Estimate, predicted_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def mean_figures(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    figures: Sequence[str] = ("accuracy", "gmean"),
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return figures of one model, or of the mean of several runs of it, such as those of several seeds.

    The interval is over draws of patients at these runs: how the runs themselves differ is not in it.

    Parameters
    ----------
    labels
        (n,) int.
    probabilities
        (n, C), or (runs, n, C): then each run is scored and the figures are averaged.
    groups
        (n,) patient of each sample; without, samples are resampled singly.
    figures
        Names from `bootstrap.FIGURES`, and "recall 0" and so on of the classes.
    n_boot, seed
        As for `metrics.score`.
    """
    drawn = _drawn(labels, probabilities, groups, n_boot, seed)
    return _estimates(drawn, figures)


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
    labels, groups, figures, n_boot, seed
        As for `mean_figures`.
    probabilities, reference
        (n, C) or (runs, n, C) of the two models.
    """
    one, other = (_drawn(labels, values, groups, n_boot, seed) for values in (probabilities, reference))
    return _estimates(one - other, figures)


def _drawn(
    labels: ArrayLike, probabilities: ArrayLike, groups: ArrayLike | None, n_boot: int, seed: int
) -> NDArray[np.float64]:
    """Return the figures, meaned over the runs, of everybody and of each draw, (1 + draws, figures)."""
    truth, runs = np.asarray(labels), np.asarray(probabilities, np.float64)
    runs = runs.reshape(-1, *runs.shape[-2:])
    names, patient = np.unique(np.arange(len(truth)) if groups is None else groups, return_inverse=True)
    sums = [PatientSums.of(truth, predicted_classes(values), values, patient) for values in runs]
    holds = np.zeros((len(names), runs.shape[2]), np.bool_)
    holds[patient, truth] = True
    weights = [np.ones((1, len(names))), *draws(holds, n_boot, np.random.default_rng(seed))]
    return np.concatenate([np.mean([one.figures(w) for one in sums], axis=0) for w in weights])


def _estimates(drawn: NDArray[np.float64], figures: Sequence[str]) -> dict[str, Estimate]:
    names = [*FIGURES, *(f"recall {number}" for number in range(drawn.shape[1] - len(FIGURES)))]
    chosen = drawn[:, [names.index(figure) for figure in figures]]
    values = [value if np.isfinite(value) else None for value in chosen[0].tolist()]
    return {
        figure: Estimate(value, *bound)
        for figure, value, bound in zip(figures, values, intervals(chosen[1:]), strict=True)
    }
