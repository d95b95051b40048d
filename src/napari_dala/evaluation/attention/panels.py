"""Panels of differences, a row each, shared by both reports on the attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dala.evaluation.figures import legend_below, new_figure, numbers
from napari_dala.words import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from napari_dala.metrics.scores import Estimate

_HEADINGS = {"gmean": "GMean", "auroc": "AUROC"}


def figure_key(name: str, classes: Sequence[str]) -> str:
    """Return the name of a figure, "recall 1" with its class's name for the number."""
    kind, _, number = name.partition(" ")
    return f"{kind} {classes[int(number)]}" if number else kind


def heading(name: str, classes: Sequence[str]) -> str:
    """Return a figure's name as a table's head has it."""
    return _HEADINGS.get(name) or sentence(figure_key(name, classes))


def beyond_chance(rows: Mapping[str, Mapping[str, Estimate]], classes: Sequence[str]) -> list[str]:
    """Say which differences leave 0 out of their interval, and of how many.

    Parameters
    ----------
    rows
        By what is compared: differences by figure.
    classes
        Names of the classes.
    """
    lines = []
    for title, differences in rows.items():
        found = [
            f"{heading(name, classes)} {'higher' if one.low > 0 else 'lower'} by {abs(one.value or 0):.3f} "
            f"({one.low:+.3f} to {one.high:+.3f})"
            for name, one in differences.items()
            if one.low is not None and one.high is not None and not one.low <= 0 <= one.high
        ]
        if found:
            lines.append(f"{title}: {'; '.join(found)}.")
    count = sum(map(len, rows.values()))
    return [
        *(lines or ["Nowhere does the interval of a difference leave 0 out: these patients do not tell."]),
        f"{count} differences were looked at; of 20 such intervals one leaves 0 out by chance alone.",
    ]


def difference_panels(
    rows: Mapping[str, Mapping[str, Estimate]],
    classes: Sequence[str],
    labels: tuple[str, str],
    single: Mapping[str, Sequence[Mapping[str, float | None]]] | None = None,
) -> Figure:
    """Return differences with their intervals, a panel for each figure and a row for each of `rows`.

    Parameters
    ----------
    rows
        By title: differences by figure; the same figures in each.
    classes
        Names of the classes.
    labels
        Of the axes: of the differences, of the rows.
    single
        By the same titles: differences of single runs, which are drawn hollow.
    """
    names = list(next(iter(rows.values())))
    figure = new_figure(2.7 * len(names) + 2, 0.5 * len(rows) + 1.8)
    panels = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
    places = np.arange(len(rows))
    for axes, name in zip(panels, names, strict=True):
        estimates = [differences[name] for differences in rows.values()]
        low, value, high = (numbers(getattr(one, part) for one in estimates) for part in ("low", "value", "high"))
        axes.axvline(0, color="0.5", linewidth=1, linestyle="--")
        axes.hlines(places, low, high, color="black", linewidth=1.5)
        axes.plot(value, places, "o", color="black", label="difference, 95 % interval")
        for place, title in enumerate(rows):
            found = numbers(run[name] for run in single[title]) if single else np.empty(0)
            label = "single seeds" if len(found) and place == 0 else None
            axes.plot(found, np.full(len(found), place + 0.2), "o", color="0.4", mfc="none", markersize=4, label=label)
        axes.set_title(heading(name, classes), fontsize=9)
        axes.set_xlabel(labels[0], fontsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.margins(y=0.25)
    panels[0].set_yticks(places, list(rows))
    panels[0].set_ylabel(labels[1])
    panels[0].invert_yaxis()
    legend_below(figure, panels[0])
    return figure
