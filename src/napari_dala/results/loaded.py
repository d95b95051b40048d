"""Reading an analysis for the layers: whole, or what is new in it. It takes a while: not for the main thread."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.model.islands import most_strength
from napari_dala.results.analysis import Analysis, joined_cams
from napari_dala.results.opening import open_store, store_in
from napari_dala.results.report.pictures import DT_DEFAULT
from napari_dala.results.tile_results import LEFT_OUT
from napari_dala.slide.tiles import BLOCK

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from numpy.typing import NDArray

    from napari_dala.model.threshold import ThresholdedMap
    from napari_dala.results.store import AnalysisStore
    from napari_dala.results.tile_results import TileArrays


@dataclass
class LoadedAnalysis:
    """An analysis with its tiles' maps in memory.

    Attributes
    ----------
    analysis
        As far as it has come.
    cams
        (classes, rows * cells, columns * cells) float16, each tile's own raw Grad-CAM; NaN where there is none.
    """

    analysis: Analysis
    cams: NDArray[np.float16]
    _tiles: TileArrays  # which the analysis shows, read-only
    _first: tuple[ThresholdedMap, float] | None = None

    def raw_cam(self, class_index: int) -> NDArray[np.float32]:
        """Return a class' raw Grad-CAM over the whole grid, as `Analysis.cam` does, from memory."""
        return joined_cams(self.cams[class_index].astype(np.float32), self.analysis.grid)

    def grow(self, blocks: Iterable[StoredBlock]) -> None:
        """Take in what is new; the analysis sees it."""
        cells = self.analysis.grid.cells
        for block in blocks:
            self.cams[(slice(None), *_slices(block.position, BLOCK * cells))] = block.cams
            tiles = _slices(block.position, BLOCK)
            for name, values in vars(block.tiles).items():
                getattr(self._tiles, name)[(..., *tiles)] = values

    def mark(self, status: NDArray[np.uint8]) -> None:
        """Take in what has become of every tile, (rows, columns)."""
        self._tiles.status[...] = status
        self._tiles.probability[:, np.isin(status, LEFT_OUT)] = np.nan

    def prepare_first(self) -> None:
        """Compute what `take_first` gives; not in the main thread."""
        analysis = self.analysis
        measure: dict[str, Any] = {"cell_um": analysis.cell_um, "tile_cells": analysis.grid.cells}
        first = DT_DEFAULT(self.raw_cam(analysis.card.target_class), **measure)
        self._first = first, most_strength(first, DT_DEFAULT.min_area_um2, **measure)

    def take_first(self) -> tuple[ThresholdedMap, float]:
        """Return the target class' map as it is shown first, and the largest strength that keeps anything of it.

        It is kept no longer: 65 MB for 100,000 tiles.
        """
        if self._first is None:
            self.prepare_first()
        first, self._first = self._first, None
        assert first is not None
        return first


def make_ready() -> None:
    """Import what showing an analysis needs and napari does not have yet: a third of a second."""
    import_module("pandas")  # napari's Vectors layer, for the frame around a tile


def load(
    path: str | Path, bundle_hash: str | None = None, setting: str | None = None, *, name: str | None = None
) -> LoadedAnalysis:
    """Read an analysis from disk; a third of a second for 100,000 tiles, so not in the main thread.

    Parameters
    ----------
    path, bundle_hash, setting
        As for `open_store`; the path may be the folder of the store.
    name
        What the model is called now, in place of what it was called when it ran.

    Raises
    ------
    DalaError
        When there is none.
    """
    make_ready()
    store = open_store(store_in(Path(path)), bundle_hash, setting)
    tiles = store.read_tiles()
    analysis = Analysis(store, tiles)
    if name:
        analysis.card = analysis.card.model_copy(update={"name": name})
    loaded = LoadedAnalysis(analysis, store.read_cams(), tiles)
    loaded.prepare_first()
    return loaded


@dataclass(frozen=True, eq=False)
class StoredBlock:
    """What the store holds of one block of 4 x 4 tiles, at the grid's edge fewer.

    Attributes
    ----------
    position
        Row and column of the block.
    tiles
        As in `Analysis`.
    cams
        (classes, 4 * cells, 4 * cells) float16; NaN where a tile is not scored.
    """

    position: tuple[int, int]
    tiles: TileArrays
    cams: NDArray[np.float16]


def read_news(
    store: AnalysisStore, positions: Iterable[tuple[int, int]], marks: bool
) -> Generator[list[StoredBlock], None, NDArray[np.uint8] | None]:
    """Read blocks, then, with `marks`, what has become of every tile (see `AnalysisStore.status`), else None."""
    yield read_blocks(store, positions)
    return store.status if marks else None


def read_blocks(store: AnalysisStore, positions: Iterable[tuple[int, int]]) -> list[StoredBlock]:
    """Read blocks from disk; some milliseconds for each, so not in the main thread."""
    return [StoredBlock(position, store.read_tiles(position), store.read_cams(position)) for position in positions]


def _slices(block: tuple[int, int], side: int) -> tuple[slice, slice]:
    return slice(block[0] * side, (block[0] + 1) * side), slice(block[1] * side, (block[1] + 1) * side)
