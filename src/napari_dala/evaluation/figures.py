"""Figures of numbers, drawn without pyplot and its state, each written as PNG and SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_dala.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def write_figures(drawn: Mapping[str, Figure], out: Path) -> list[Path]:
    """Write figures as NAME.png and NAME.svg into a folder; return the files."""
    paths = []
    for name, figure in drawn.items():
        for kind in ("png", "svg"):
            path = out / f"{name}.{kind}"
            with replacing(path) as temporary:
                figure.savefig(temporary, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            paths.append(path)
    return paths


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_grid(count: int, side: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` square axes in rows of five at most."""
    columns = min(count, 5)
    rows = -(-count // columns)
    figure = new_figure(columns * side, rows * side)
    every = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for axes in every[count:]:
        axes.remove()
    return figure, every[:count]


def legend_below(figure: Figure, axes: Axes) -> None:
    """Put the legend of some axes under the figure."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=8)


def color_of(number: int) -> Any:
    """Return the colour of the network or method with this number."""
    return colormaps["tab10"](number % 10)


def numbers(values: Iterable[float | None]) -> NDArray[np.float64]:
    """Return values as an array, NaN for None."""
    return np.array([np.nan if value is None else value for value in values], np.float64)
