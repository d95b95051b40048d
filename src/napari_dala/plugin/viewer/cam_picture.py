"""The Grad-CAM layer's picture, computed in a thread: what is in view first, then the whole."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]
from superqt.utils import create_worker

from napari_dala.model.islands import most_strength
from napari_dala.results.report.pictures import DT_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from napari_dala.model.threshold import DynamicThreshold, MapLevel, ThresholdedMap
    from napari_dala.results.loaded import LoadedAnalysis
    from napari_dala.slide.tiles import TileGrid

    Part = tuple[slice, slice]

_MOST = 0.5  # of a map, above which the whole is made at once
_REST = 9  # times as long as the last picture took, between two pictures of a map that grows: a tenth of a core


@dataclass(frozen=True)
class CamView:
    """Which Grad-CAM is shown, and how.

    Attributes
    ----------
    class_index
        The class whose evidence is shown.
    thresholded
        Only what the dynamic threshold keeps (DT Grad-CAM), else the whole map.
    rule
        The threshold, and the scope of the map's scale.
    """

    class_index: int
    thresholded: bool = True
    rule: DynamicThreshold = DT_DEFAULT

    def picture(self, thresholded: ThresholdedMap) -> NDArray[np.float32]:
        """Return what the layer shows of a map, 0 to 1."""
        return thresholded.map if self.thresholded else thresholded.scaled


class CamPainter(QObject):
    """Makes pictures one at a time; of those asked for meanwhile only the last.

    Parameters
    ----------
    loaded
        Holds the maps, and may grow.
    explanation
        Of the picture that is there.

    Attributes
    ----------
    explanation
        What was asked for last.
    """

    part_made = Signal(object, object, object)
    """(explanation, rows and columns of cells, their picture): what is in view."""
    made = Signal(object, object, float)
    """(explanation, the whole `ThresholdedMap`, the largest strength that keeps anything)."""

    def __init__(self, loaded: LoadedAnalysis, explanation: CamView) -> None:
        super().__init__()
        self.explanation = explanation
        self._loaded = loaded
        self._wanted: Part | None = None
        self._is_wanted = self._is_busy = False
        self._level: tuple[object, MapLevel] | None = None
        self._most: tuple[object, float] | None = None
        self._version = 0  # of the map
        self._begun = self._seconds = 0.0
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._begin)

    @property
    def is_busy(self) -> bool:
        """True until what was asked for is there."""
        return self._is_busy or self._is_wanted

    def ask(self, explanation: CamView, tiles: Part | None = None) -> None:
        """Make a picture now, of some rows and columns of tiles first."""
        self.explanation, self._wanted, self._is_wanted = explanation, tiles, True
        self._begin()

    def grow(self) -> None:
        """Make the picture of a map that has changed: soon, but not all the time."""
        self._version += 1
        self._is_wanted = True
        if not self._is_busy and not self._later.isActive():
            self._later.start(round(1000 * _REST * self._seconds))

    def _begin(self) -> None:
        if self._is_busy:
            return
        self._later.stop()
        tiles, self._wanted, self._is_wanted, self._is_busy = self._wanted, None, False, True
        self._begun = time.perf_counter()
        rule = self.explanation.rule
        about = (self._version, self.explanation.class_index, rule.method, rule.scope, rule.parameter)
        level = self._level[1] if self._level is not None and self._level[0] == about else None
        create_worker(
            _steps,
            self._loaded,
            self.explanation,
            tiles,
            (about, level),
            self._most,
            _connect={"yielded": self._on_part, "returned": self._on_made, "errored": self._on_failed},
        )

    def _on_part(self, made: tuple[CamView, Part, NDArray[np.float32]]) -> None:
        self.part_made.emit(*made)

    def _on_made(self, made: _Made) -> None:
        explanation, thresholded, self._level, self._most = made
        self._is_busy, self._seconds = False, time.perf_counter() - self._begun
        grown = self._is_wanted and self.explanation == explanation and self._wanted is None
        self.made.emit(explanation, thresholded, self._most[1])
        if grown:
            self._later.start(round(1000 * _REST * self._seconds))
        elif self._is_wanted:
            self._begin()

    def _on_failed(self, error: Exception) -> None:
        self._is_busy = False
        raise error


_Made: TypeAlias = "tuple[CamView, ThresholdedMap, tuple[object, MapLevel], tuple[object, float]]"


def _steps(
    loaded: LoadedAnalysis,
    explanation: CamView,
    tiles: Part | None,
    leveled: tuple[object, MapLevel | None],
    most: tuple[object, float] | None,
) -> Generator[tuple[CamView, Part, NDArray[np.float32]], None, _Made]:
    """Give the picture of some rows and columns of tiles; return the whole map, its level and its largest strength."""
    raw = loaded.raw_cam(explanation.class_index)
    rule, cells = explanation.rule, loaded.analysis.grid.cells
    about, level = leveled
    measure: dict[str, Any] = {"cell_um": loaded.analysis.cell_um, "tile_cells": cells}
    if tiles is not None:
        rows, columns = (slice(each.start * cells, each.stop * cells) for each in tiles)
        part = rows, columns
        if level is None and rule.scope == "tile":  # each tile's is its own
            here = rule.level(raw[part], cells)
        else:
            level = level or rule.level(raw, cells)
            here = level.of_tiles(*tiles)
        yield explanation, part, explanation.picture(rule.keep(raw[part], here, **measure))
    level = level or rule.level(raw, cells)
    thresholded = rule.keep(raw, level, **measure)
    of_islands = about, rule.min_area_um2
    if most is None or most[0] != of_islands:
        most = of_islands, most_strength(thresholded, rule.min_area_um2, **measure)
    return explanation, thresholded, (about, level), most


def tiles_in_view(grid: TileGrid, view: Sequence[float]) -> tuple[slice, slice] | None:
    """Return rows and columns of the tiles in a view and around it, so that its edge cuts no island in sight.

    None where that is most of the map: then the whole is there as soon.

    Parameters
    ----------
    view
        Left, top, right, bottom; level-0 px.
    """
    counts = tuple(-(-cells // grid.cells) for cells in grid.cam_shape)
    low, high = (np.divide(edge[::-1], grid.cell_frame[0]) // grid.cells for edge in (view[:2], view[2:]))
    rows, columns = (
        slice(max(0, int(first) - 1), max(1, min(count, int(last) + 2)))
        for first, last, count in zip(np.minimum(low, np.subtract(counts, 1)), high, counts, strict=True)
    )
    seen = (rows.stop - rows.start) * (columns.stop - columns.start)
    return (rows, columns) if seen < _MOST * math.prod(counts) else None
