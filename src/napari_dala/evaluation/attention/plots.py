"""Plots of gates and of what channels add: numbers only, readable in black and white."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dala.evaluation.figures import legend_below, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from napari_dala.evaluation.attention.gates import BundleGates

_LINES = ("-", "--", ":", "-.")
_SHADES = ("black", "0.5")


def gates_by_class(bundles: Sequence[BundleGates], classes: Sequence[str]) -> Figure:
    """Return how the gates of all tiles are spread by class and, for two classes, channel by channel."""
    two = len(classes) == 2
    figure = new_figure(5.2 * (1 + two), 4.4)
    panels = np.atleast_1d(figure.subplots(1, 1 + two))
    bins = np.linspace(0, 1, 101)
    for number, name in enumerate(classes):
        parts = [bundle.gates[bundle.tile_labels == number] for bundle in bundles]
        counts = np.sum([np.histogram(part, bins)[0] for part in parts], axis=0)
        share = counts / max(1, counts.sum())
        panels[0].plot((bins[1:] + bins[:-1]) / 2, share, color="black", linestyle=_LINES[number % 4], label=name)
    panels[0].set_xlabel("gate a")
    panels[0].set_ylabel("part of all gates (bins of 0.01)")
    if two:
        for number, bundle in enumerate(bundles):
            panels[1].plot(*bundle.by_class, ".", markersize=2, color=_SHADES[number % 2])
        panels[1].axline((0.5, 0.5), slope=1, color="0.5", linewidth=1, linestyle="--")
        panels[1].set_xlabel(f"a channel's mean gate, {classes[0]}")
        panels[1].set_ylabel(f"a channel's mean gate, {classes[1]}")
        panels[1].set_aspect("equal", "datalim")
    legend_below(figure, panels[0])
    return figure


def added_by_channels(bundles: Sequence[BundleGates], target: int, classes: Sequence[str]) -> Figure:
    """Return which part of all that channels add to or take from the target's logit the largest of them make up."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    for number, bundle in enumerate(bundles):
        share = np.sort(bundle.shares[target])[::-1].cumsum()
        line, shade = _LINES[number % 4], _SHADES[number // 4 % 2]
        axes.plot(np.arange(1, len(share) + 1), share, color=shade, linestyle=line, label=f"bundle {number + 1}")
    axes.axhline(0.5, color="0.7", linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("channels, the largest first")
    axes.set_ylabel(f"part of what moves {classes[target]}'s logit")
    axes.grid(alpha=0.3)
    legend_below(figure, axes)
    return figure
