"""Pictures of a comparison, each as PNG and SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from napari_dala.evaluation.compare.cost import BATCH
from napari_dala.evaluation.figures import axes_grid, color_of, legend_below, new_figure, numbers, write_figures
from napari_dala.evaluation.tables import PAPER_FIGURES
from napari_dala.metrics.bootstrap import ECE_BINS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from napari_dala.evaluation.compare.compare import Comparison, ModelResult
    from napari_dala.evaluation.compare.cost import Cost

_FIGURES = {**PAPER_FIGURES, "auroc": "AUROC", "ece": "ECE"}
_COSTS = {
    "latency_batch_ms": (f"ms per tile in a batch of {BATCH}", 1),
    "flops": ("GFLOPs per tile", 1e9),
    "parameters": ("million parameters", 1e6),
}
_MARKS = "osD^vP*X<>"
_CURVES = {"train_loss": "Loss, training", "val_loss": "Loss, validation", "val_gmean": "GMean, validation"}


def write_plots(comparison: Comparison, out: Path) -> list[Path]:
    """Draw scores, confusion matrices, reliability, training curves and GMean against cost; return the files.

    pyplot and its state are left alone.
    """
    drawn = {
        "scores": scores(comparison),
        "confusion": confusion(comparison),
        "reliability": reliability(comparison),
        "curves": curves(comparison),
    }
    for device, costs in (comparison.costs.of if comparison.costs else {}).items():
        drawn[f"gmean-cost-{device.replace(':', '-')}"] = gmean_and_cost(comparison, costs, device)
    return write_figures(drawn, out)


def scores(comparison: Comparison) -> Figure:
    """Return the figures of each network with their intervals."""
    figure = new_figure(1.4 * len(_FIGURES) + 2, 4)
    axes = figure.subplots()
    count = len(comparison.results)
    for number, result in enumerate(comparison.results):
        places = np.arange(len(_FIGURES)) + (number - (count - 1) / 2) * 0.7 / count
        estimates = [getattr(result.table.scores, name) for name in _FIGURES]
        values = numbers(estimate.value for estimate in estimates)
        low, high = (numbers(getattr(estimate, end) for estimate in estimates) for end in ("low", "high"))
        color = color_of(number)
        axes.vlines(places, low, high, color=color, linewidth=2)  # a figure may lie beside its own interval
        axes.plot(places, values, "o", color=color, label=result.model)
    axes.set_xticks(range(len(_FIGURES)), list(_FIGURES.values()))
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y", alpha=0.3)
    axes.set_ylabel("95 % interval by " + ("patient" if comparison.dataset.patients_known else "image"))
    legend_below(figure, axes)
    return figure


def gmean_and_cost(comparison: Comparison, costs: Mapping[str, Cost], device: str) -> Figure:
    """Return GMean with its interval against what a network costs on a device.

    Full marks, joined by a line, are those of networks that no other one beats in both; told apart by shape and name.
    """
    figure = new_figure(13, 4.5)
    row = figure.subplots(1, len(_COSTS), sharey=True)
    for axes, (name, (title, unit)) in zip(row, _COSTS.items(), strict=True):
        spent = [getattr(costs[result.model], name) / unit for result in comparison.results]
        gmeans = [result.table.scores.gmean for result in comparison.results]
        values = numbers(gmean.value for gmean in gmeans)
        best = unbeaten(np.array(spent), values)
        for number, (result, cost, gmean) in enumerate(zip(comparison.results, spent, gmeans, strict=True)):
            low, value, high = numbers((gmean.low, gmean.value, gmean.high))
            axes.vlines(cost, low, high, color="0.7", linewidth=1)
            axes.plot(
                cost,
                value,
                _MARKS[number % len(_MARKS)],
                color=color_of(number),
                markerfacecolor=color_of(number) if number in best else "white",
                markersize=8,
                label=result.model,
                zorder=3,
            )
        axes.plot(np.array(spent)[best], values[best], color="black", linewidth=1, linestyle="--")
        axes.set_xlim(left=0)
        axes.set_xlabel(title)
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
    row[0].set_ylabel(f"GMean, 95 % interval by {'patient' if comparison.dataset.patients_known else 'image'}")
    row[0].set_title(f"on {device}", fontsize=9)
    legend_below(figure, row[0])
    return figure


def unbeaten(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the places on the Pareto front, dearest last: none cheaper is as good; (n,) and (n,), NaN never is."""
    best, front = -np.inf, []
    for place in np.lexsort((-values, costs)):
        if values[place] > best:
            best = values[place]
            front.append(place)
    return np.array(front, np.intp)


def confusion(comparison: Comparison) -> Figure:
    """Return a confusion matrix for each network: counts, coloured by the part of the true class."""
    classes = comparison.dataset.classes
    figure, grid = axes_grid(len(comparison.results), 2 + 0.45 * len(classes))
    for axes, result in zip(grid, comparison.results, strict=True):
        counts = np.array(result.table.confusion)
        parts = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if parts[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color)
        axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        axes.set_title(result.model, fontsize=9)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
    return figure


def reliability(comparison: Comparison) -> Figure:
    """Return, for each network, how often it is right where it is how sure; dots grow with the number of images."""
    labels = comparison.dataset.labels[comparison.indices]
    figure, grid = axes_grid(len(comparison.results), 3)
    for number, (axes, result) in enumerate(zip(grid, comparison.results, strict=True)):
        sure, right, counts = _bins(result, labels)
        axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
        axes.plot(sure, right, color=color_of(number), linewidth=1)
        axes.scatter(sure, right, s=10 + 200 * counts / counts.sum(), color=color_of(number))
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(f"{result.model}, ECE {result.table.scores.ece}", fontsize=8)
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
    return figure


def curves(comparison: Comparison) -> Figure:
    """Return the mean over the folds after each epoch, and from the least to the most of them."""
    figure = new_figure(12, 4)
    row = np.atleast_1d(figure.subplots(1, len(_CURVES)))
    for axes, (name, title) in zip(row, _CURVES.items(), strict=True):
        for number, result in enumerate(comparison.results):
            epochs, values = _by_epoch(result, name)
            if not len(epochs):
                continue
            mean = np.nanmean(values, axis=0)
            axes.plot(epochs, mean, color=color_of(number), label=result.model, marker="." if len(epochs) < 3 else "")
            low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
            axes.fill_between(epochs, low, high, color=color_of(number), alpha=0.15, linewidth=0)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    legend_below(figure, row[0])
    return figure


def _by_epoch(result: ModelResult, name: str) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the epochs, from 1, of which some run has a value, and the values (runs, epochs)."""
    longest = max(len(run[name]) for run in result.curves)
    values = np.full((len(result.curves), longest), np.nan)
    for row, run in zip(values, result.curves, strict=True):
        row[: len(run[name])] = run[name]
    there = np.flatnonzero(np.isfinite(values).any(0))
    return there + 1, values[:, there]


def _bins(result: ModelResult, labels: NDArray[np.intp]) -> tuple[NDArray[np.float64], ...]:
    """Return mean confidence, accuracy and number of images of each bin of the calibration error that has any."""
    confidence = result.probabilities.max(1)
    right = result.probabilities.argmax(1) == labels
    place = np.searchsorted(np.linspace(0, 1, ECE_BINS + 1)[1:-1], confidence)
    counts = np.bincount(place, minlength=ECE_BINS).astype(np.float64)
    there = counts > 0
    sums = (np.bincount(place, values, ECE_BINS)[there] for values in (confidence, right))
    sure, accuracy = (total / counts[there] for total in sums)
    return sure, accuracy, counts[there]
