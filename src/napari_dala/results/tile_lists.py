"""Lists of tiles to look through: the strongest, the least sure, those that labels or another model contradict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.results.suggest import entropy_of
from napari_dala.results.tile_results import NOT_JUDGED
from napari_dala.words import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.model.card import ModelCard
    from napari_dala.results.analysis import Analysis
    from napari_dala.slide.tiles import TileGrid

UNFAMILIAR = "unfamiliar"
GREY = (128, 128, 128)
"""Colour of tiles that are not judged."""


class ListKind(Enum):
    """What a list holds, and in which order."""

    STRONGEST = "familiar tiles, the most probable of a class first"
    LEAST_SURE = "familiar tiles, those first whose probabilities say least"
    UNFAMILIAR = "tiles unlike those that the model learned from, the strangest first"
    CALLED = "tiles that are called a class, the most probable first"
    CONTRADICTED = "labelled tiles that the model calls another class, the one it is surest of first"
    DISAGREED = "tiles that another model calls another class, the furthest apart first"


@dataclass(frozen=True)
class TileList:
    """A list that can be asked for.

    Attributes
    ----------
    title
        As users read it.
    kind
        What it holds.
    class_index
        The class that it is about, or None.
    """

    title: str
    kind: ListKind
    class_index: int | None = None


def lists_of(analysis: Analysis) -> list[TileList]:
    """Return the lists that can be asked of results; the target class comes before the others."""
    names, target = analysis.card.class_names, analysis.card.target_class
    order = [target, *(index for index in range(len(names)) if index != target)]
    return [
        *(TileList(f"Strongest: {names[index]}", ListKind.STRONGEST, index) for index in order),
        TileList("Least sure", ListKind.LEAST_SURE),
        *([TileList("Unfamiliar", ListKind.UNFAMILIAR)] if analysis.knows_unfamiliar else []),
        *(TileList(f"All called {names[index]}", ListKind.CALLED, index) for index in order),
        TileList("Your label and the model differ", ListKind.CONTRADICTED),
        TileList("Two models differ", ListKind.DISAGREED),
    ]


@dataclass(frozen=True, eq=False)
class Opinion:
    """What a model says of tiles.

    Attributes
    ----------
    model
        Its name.
    class_names
        Names of the classes.
    probability
        (classes, rows, columns) float32; NaN where a tile was not analysed.
    called
        (rows, columns), 0 where a tile is not judged, else 1 + the index of its class.
    """

    model: str
    class_names: tuple[str, ...]
    probability: NDArray[np.float32]
    called: NDArray[np.integer]

    def says(self, row: int, column: int, class_index: int | None = None) -> str:
        """Return a class and its probability, as "benign 88 %": the one asked for, the one called, or the likeliest."""
        shares = self.probability[:, row, column]
        called = int(self.called[row, column]) - 1
        if class_index is None:
            class_index = called if called >= 0 else int(np.nan_to_num(shares).argmax())
        return f"{self.class_names[class_index]} {percent(float(shares[class_index]))}"


@dataclass(frozen=True)
class Verdict:
    """What is said of one tile, and how it is marked.

    Attributes
    ----------
    text
        Class and probability.
    color
        Of the class that it is called; grey where it is not judged.
    mark
        Why it is not judged, in a word or two, or empty.
    """

    text: str
    color: tuple[int, int, int]
    mark: str = ""


def verdict_on(analysis: Analysis, opinion: Opinion, row: int, column: int, class_index: int | None = None) -> Verdict:
    """Return what is said of a tile; `class_index` as for `Opinion.says`."""
    called = int(opinion.called[row, column])
    mark = "" if called else UNFAMILIAR if analysis.unfamiliar[row, column] else NOT_JUDGED
    color = analysis.card.classes[called - 1].color if called else GREY
    return Verdict(opinion.says(row, column, class_index), color, mark)


def opinion_elsewhere(grid: TileGrid, card: ModelCard, other: Analysis, called: NDArray[np.integer]) -> Opinion:
    """Return what another model says of a model's tiles; where its own lie otherwise, of the one around their middle.

    Parameters
    ----------
    grid, card
        Of the model whose tiles they are. Its classes come first, then those that the other alone has.
    other
        The other model's results on the same slide.
    called
        The other's own tiles, see `Analysis.class_map`.
    """
    columns, rows = (
        np.clip(np.searchsorted(there, (here[1:] + here[:-1]) / 2, "right") - 1, 0, len(there) - 2)
        for here, there in zip(grid.edges(), other.grid.edges(), strict=True)
    )
    names = (*card.class_names, *(name for name in other.card.class_names if name not in card.class_names))
    index = np.array([names.index(name) for name in other.card.class_names])
    probability = np.zeros((len(names), *grid.shape), np.float32)
    probability[index] = other.probability[:, rows[:, None], columns]
    return Opinion(other.card.name, names, probability, np.append(0, index + 1)[called[rows[:, None], columns]])


def list_tiles(
    kind: ListKind,
    analysis: Analysis,
    called: NDArray[np.integer],
    *,
    class_index: int | None = None,
    labels: NDArray[np.integer] | None = None,
    other: Opinion | None = None,
) -> NDArray[np.intp]:
    """Return the (row, column) of the tiles in a list, in its order, (n, 2); what is equal comes by row, then column.

    Parameters
    ----------
    analysis
        May still be growing.
    called
        See `Opinion.called`.
    class_index
        The class that `STRONGEST` and `CALLED` are about; the model's target class by default.
    labels
        (rows, columns), the index of a tile's class, -1 where it has no label; classes beyond the model's contradict
        nothing. `CONTRADICTED` is empty without.
    other
        What another model says; `DISAGREED` is empty without.
    """
    probability, classes = analysis.probability, len(analysis.card.classes)
    of_class = probability[analysis.card.target_class if class_index is None else class_index]
    familiar = analysis.analysed & ~analysis.unfamiliar
    there, rank = np.zeros(called.shape, np.bool_), of_class
    if kind is ListKind.STRONGEST:
        there = familiar
    elif kind is ListKind.LEAST_SURE:
        there, rank = familiar, entropy_of(probability)
    elif kind is ListKind.UNFAMILIAR and analysis.knows_unfamiliar:
        there, rank = analysis.unfamiliar, analysis.store.read("unfamiliarity")
    elif kind is ListKind.CALLED:
        there = called == 1 + (analysis.card.target_class if class_index is None else class_index)
    elif kind is ListKind.CONTRADICTED and labels is not None:
        there = (called > 0) & (labels >= 0) & (labels < classes) & (labels != called.astype(np.intp) - 1)
        rank = -np.take_along_axis(probability, np.clip(labels, 0, classes - 1)[None], 0)[0]
    elif kind is ListKind.DISAGREED and other is not None:
        there = (called > 0) & (other.called > 0) & (other.called != called)
        apart = other.probability.copy()
        apart[:classes] -= probability
        rank = np.abs(apart).sum(axis=0)
    tiles = np.argwhere(there)
    order = np.argsort(-rank[there].astype(np.float64), kind="stable")
    return tiles[order]
