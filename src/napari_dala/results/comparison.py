"""Two results on one slide, of two models or before and after: where they agree, where not, and how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.errors import DalaError
from napari_dala.results.analysis import Spot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.results.analysis import Analysis
    from napari_dala.slide.tiles import TileGrid


@dataclass(frozen=True, eq=False)
class ResultPair:
    """What two results say of the tiles of the first one's grid.

    Attributes
    ----------
    grid
        Of the first.
    target
        The class in question.
    probability
        (2, rows, columns) of that class; NaN where a result does not judge the tile.
    called
        (2, rows, columns) bool, whether the tile counts as of that class.
    area
        (rows, columns) of what a tile stands for, level-0 px squared.
    """

    grid: TileGrid
    target: str
    probability: NDArray[np.float32]
    called: NDArray[np.bool_]
    area: NDArray[np.float64]

    @property
    def both(self) -> NDArray[np.bool_]:
        """Tiles that both judge, (rows, columns)."""
        return np.asarray(np.isfinite(self.probability).all(axis=0))

    @property
    def differs(self) -> NDArray[np.bool_]:
        """Tiles that one calls of the class in question and the other does not, (rows, columns)."""
        return np.asarray(self.both & (self.called[0] != self.called[1]))

    @property
    def agreement(self) -> float:
        """Part of the area that both judge on which they agree; NaN where there is none."""
        area = self.area[self.both]
        return float(1 - self.area[self.differs].sum() / area.sum()) if area.sum() else float("nan")

    @property
    def kappa(self) -> float:
        """Cohen's kappa (1960) over the tiles that both judge; NaN where each calls all of them the same.

        Observed agreement over what chance would give: (p_o - p_e) / (1 - p_e).
        """
        first, second = self.called[:, self.both]
        if not len(first):
            return float("nan")
        observed = float((first == second).mean())
        chance = float(first.mean() * second.mean() + (~first).mean() * (~second).mean())
        return (observed - chance) / (1 - chance) if chance < 1 else float("nan")

    def disagreements(self, most: int = 50) -> list[Spot]:
        """Return the tiles that differ, those first whose probabilities are farthest apart, none beside another.

        A spot's probability is the first result's.
        """
        apart = np.where(self.differs, np.abs(self.probability[0] - self.probability[1]), -1.0)
        near = max(1, round(self.grid.cells / self.grid.stride_cells))
        spots: list[Spot] = []
        for flat in np.argsort(-apart, axis=None, kind="stable"):
            row, column = (int(index) for index in np.unravel_index(flat, apart.shape))
            if apart[row, column] < 0 or len(spots) == most:
                break
            if all(max(abs(row - spot.row), abs(column - spot.column)) > near for spot in spots):
                x, y = self.grid.middle(row, column)
                spots.append(Spot(row, column, x, y, float(self.probability[0, row, column])))
        return spots


def compare(first: Analysis, second: Analysis) -> ResultPair:
    """Compare two results of one slide tile by tile, each at its own operating threshold and band of doubt.

    Where their tiles are not the same, a tile of the first is compared with that tile of the second in whose place its
    middle lies.

    Raises
    ------
    DalaError
        When the results are of different slides, or their models look for different classes.
    """
    names = [one.card.class_names[one.card.target_class] for one in (first, second)]
    if names[0] != names[1]:
        raise DalaError(f"“{names[0]}” and “{names[1]}” cannot be compared: the models look for different classes")
    if first.store.setting.fingerprint != second.store.setting.fingerprint:
        raise DalaError("the two results are of different slides, and cannot be compared")
    rows, columns = _places(first.grid, second.grid)
    called, probability = [], []
    for one in (first, second):
        target = one.card.target_class
        of_tile = np.where(one.judged, one.probability[target], np.nan).astype(np.float32)
        is_target = one.class_map() == target + 1
        if one is second:
            of_tile, is_target = of_tile[np.ix_(rows, columns)], is_target[np.ix_(rows, columns)]
        probability.append(of_tile)
        called.append(is_target)
    return ResultPair(first.grid, names[0], np.stack(probability), np.stack(called), first.grid.areas())


def _places(grid: TileGrid, other: TileGrid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and columns of another grid in whose places the middles of a grid's tiles lie."""
    left, top, width, height = grid.places()
    found = []
    for middles, step, side, count in zip(
        (top + height / 2, left + width / 2), other.stride[::-1], other.tile_size[::-1], other.shape, strict=True
    ):
        found.append(np.clip(np.round((middles - side / 2) / step), 0, count - 1).astype(np.intp))
    return found[0], found[1]
