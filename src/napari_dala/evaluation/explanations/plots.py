"""Pictures of an evaluation of explanations: numbers only, no tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from napari_dala.evaluation.explanations.maps import GRAD_CAM, RANDOMISED, THRESHOLDS
from napari_dala.evaluation.explanations.photographs import MEASURES
from napari_dala.evaluation.figures import color_of, legend_below, new_figure, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_dala.evaluation.explanations.localisation import Localisation
    from napari_dala.evaluation.explanations.photographs import PhotographFigures

MOST_OUTSIDE, LEAST_INSIDE = 0.7, 0.8
"""What DT Grad-CAM is to keep of plain Grad-CAM's heat outside the class at most, and inside it at least."""


def explain_figures(photographs: PhotographFigures, slides: Sequence[Localisation]) -> dict[str, Figure]:
    """Draw the measures, the curves, the randomised weights and, where there are slides, where the heat lies."""
    drawn = {
        "faithfulness": faithfulness(photographs),
        "curves": curves(photographs),
        "randomised-weights": randomised_weights(photographs),
    }
    return drawn | ({"localisation": localisation(slides), "heat-kept": heat_kept(slides)} if slides else {})


def faithfulness(photographs: PhotographFigures) -> Figure:
    """Return every measure by method, with intervals; a dashed line marks plain Grad-CAM."""
    figure = new_figure(2.4 * len(MEASURES) + 1, 4.5)
    row = np.atleast_1d(figure.subplots(1, len(MEASURES), sharey=True))
    methods = list(photographs.means)
    for axes, measure in zip(row, MEASURES, strict=True):
        estimates = [photographs.means[name][measure] for name in methods]
        low, value, high = (numbers(getattr(item, part) for item in estimates) for part in ("low", "value", "high"))
        for place, name in enumerate(methods):
            axes.hlines(place, low[place], high[place], **_style(name))
            axes.plot(value[place], place, "o", color=_style(name)["color"])
        axes.axvline(value[methods.index(GRAD_CAM)], color="grey", linewidth=1, linestyle="--")
        axes.set_title(measure, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", alpha=0.3)
    _name_rows(row[0], methods)
    return figure


def curves(photographs: PhotographFigures) -> Figure:
    """Return the mean probability while the tile is put back and while it is taken away."""
    figure = new_figure(12, 5)
    row = np.atleast_1d(figure.subplots(1, 2, sharey=True))
    for number, (axes, title) in enumerate(zip(row, ("insertion", "deletion"), strict=True)):
        for name, both in photographs.curves.items():
            axes.plot(np.linspace(0, 1, both.shape[1]), both[number], label=name, **_style(name))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("part of the tile")
        axes.grid(alpha=0.3)
    row[0].set_ylabel("probability of the class")
    legend_below(figure, row[0])
    return figure


def randomised_weights(photographs: PhotographFigures) -> Figure:
    """Return each method's correlation with itself after the network's weights were randomised in part."""
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    methods = list(photographs.randomised)
    for number, part in enumerate(RANDOMISED):
        values = [photographs.randomised[name][part] for name in methods]
        axes.plot(values, range(len(methods)), "o", color=color_of(number), label=f"random: {part}")
    axes.axvline(1, color="grey", linewidth=1, linestyle="--")
    axes.set_xlabel("Spearman correlation with the map of the trained network")
    axes.grid(axis="x", alpha=0.3)
    _name_rows(axes, methods)
    legend_below(figure, axes)
    return figure


def localisation(slides: Sequence[Localisation]) -> Figure:
    """Return AUC within tiles, pointing game, share of heat and kept area by method, a dot for each slide and class."""
    measures = {"auc": "AUC within tiles", "pointing": "pointing game", "share": "share of heat", "kept": "kept area"}
    figure = new_figure(12, 4.5)
    row = np.atleast_1d(figure.subplots(1, len(measures), sharey=True))
    methods = list(dict.fromkeys(found.method for found in slides))
    pairs = list(dict.fromkeys((found.slide, found.class_name) for found in slides))
    for axes, (measure, title) in zip(row, measures.items(), strict=True):
        for number, pair in enumerate(pairs):
            here = [found for found in slides if (found.slide, found.class_name) == pair]
            values = numbers(getattr(found, measure) for found in here)
            axes.plot(values, range(len(here)), "o", color=color_of(number), alpha=0.7, label=", ".join(pair))
        axes.set_title(title, fontsize=9)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="x", alpha=0.3)
    row[0].axvline(0.5, color="grey", linewidth=1, linestyle="--")
    _name_rows(row[0], methods)
    legend_below(figure, row[0])
    return figure


def heat_kept(slides: Sequence[Localisation]) -> Figure:
    """Return what each DT keeps of Grad-CAM's heat outside and inside the class in mixed tiles, and what was asked.

    A hollow dot is plain Grad-CAM cut to the same area.
    """
    figure = new_figure(10, 6)
    axes = figure.subplots()
    axes.axhspan(LEAST_INSIDE, 1.02, xmax=MOST_OUTSIDE / 1.02, color="grey", alpha=0.15, linewidth=0)
    for number, name in enumerate(THRESHOLDS):
        here = [found for found in slides if found.method == name and found.mixed and found.cut]
        for heat, filled in (("mixed", True), ("cut", False)):
            outside, inside = (
                numbers(getattr(getattr(found, heat), place) for found in here) for place in ("outside", "inside")
            )
            color = color_of(number)
            label = name if filled else None
            axes.plot(outside, inside, "o", color=color, markerfacecolor=color if filled else "none", label=label)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("heat kept outside the class")
    axes.set_ylabel("heat kept inside the class")
    axes.grid(alpha=0.3)
    legend_below(figure, axes)
    return figure


def _style(method: str) -> dict[str, Any]:
    """Return the line of a method: DT by the slide dashed, what is no DT dark."""
    names = list(THRESHOLDS)
    if method not in names:
        others = {GRAD_CAM: ("black", "-"), "Grad-CAM++": ("0.35", "-."), "EigenCAM": ("0.35", ":")}
        color, line = others.get(method, ("0.7", "-"))
        return {"color": color, "linestyle": line, "linewidth": 2}
    number = names.index(method)
    return {"color": color_of(number % 4), "linestyle": "--" if number < 4 else "-", "linewidth": 1.5}


def _name_rows(axes: Axes, methods: Sequence[str]) -> None:
    axes.set_yticks(range(len(methods)), methods)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
