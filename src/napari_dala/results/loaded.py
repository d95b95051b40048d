"""Reading an analysis for the layers: whole, or what is new in it. It takes a while: not for the main thread."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.results.analysis import Analysis, overlay_mean
from napari_dala.results.report.pictures import DT_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.model.threshold import ThresholdedMap
    from napari_dala.results.store import AnalysisStore


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
    _first: ThresholdedMap | None = None

    def raw_cam(self, class_index: int) -> NDArray[np.float32]:
        """Return a class' raw Grad-CAM over the whole grid, as `Analysis.cam` does, from memory."""
        cams: NDArray[np.float32] = self.cams[class_index].astype(np.float32)
        grid = self.analysis.grid
        if grid.stride_cells == grid.cells:
            return cams
        rows, columns = grid.shape
        return overlay_mean(cams.reshape(rows, grid.cells, columns, grid.cells), grid.stride_cells)

    def prepare_first(self) -> None:
        """Compute what `take_first` gives; not in the main thread."""
        analysis = self.analysis
        self._first = DT_DEFAULT(
            self.raw_cam(analysis.card.target_class), cell_um=analysis.cell_um, tile_cells=analysis.grid.cells
        )

    def take_first(self) -> ThresholdedMap:
        """Return the target class' map as it is shown first, and keep it no longer: 65 MB for 100,000 tiles."""
        if self._first is None:
            self.prepare_first()
        first, self._first = self._first, None
        assert first is not None
        return first


def make_ready() -> None:
    """Import what showing an analysis needs and napari does not have yet: a third of a second."""
    import_module("pandas")  # napari's Labels layer


def load(path: str | Path, bundle_hash: str | None = None) -> LoadedAnalysis:
    """Read an analysis from disk, as `Analysis.open`; a third of a second for 100,000 tiles, so not in the main thread.

    Raises
    ------
    DalaError
        When there is none.
    """
    make_ready()
    analysis = Analysis.open(path, bundle_hash)
    cams = analysis.store.read("cam")
    rows, columns = analysis.grid.shape
    cells = analysis.grid.cells
    tiles = cams.reshape(len(cams), rows, cells, columns, cells).swapaxes(2, 3)
    tiles[:, ~analysis.analysed] = np.nan  # a tile counts once its mark is written
    loaded = LoadedAnalysis(analysis, cams)
    loaded.prepare_first()
    return loaded


@dataclass(frozen=True)
class Block:
    """What the store holds of one block of 4 x 4 tiles; NaN where a tile is not scored.

    Attributes
    ----------
    position
        Row and column of the block.
    status, approximate, unfamiliar
        (4, 4), at the grid's edge fewer; as in `Analysis`.
    probability
        (classes, 4, 4) float32.
    cams
        (classes, 4 * cells, 4 * cells) float16.
    """

    position: tuple[int, int]
    status: NDArray[np.uint8]
    approximate: NDArray[np.bool_]
    unfamiliar: NDArray[np.bool_]
    probability: NDArray[np.float32]
    cams: NDArray[np.float16]


def read_news(
    store: AnalysisStore, positions: Iterable[tuple[int, int]], marks: bool
) -> Generator[list[Block], None, NDArray[np.uint8] | None]:
    """Read blocks, then, with `marks`, what has become of every tile (see `AnalysisStore.status`), else None."""
    yield read_blocks(store, positions)
    return store.status if marks else None


def read_blocks(store: AnalysisStore, positions: Iterable[tuple[int, int]]) -> list[Block]:
    """Read blocks from disk; some milliseconds for each, so not in the main thread."""
    blocks = []
    for position in positions:
        scored, exact = (store.read(name, position).astype(bool) for name in ("scored", "exact"))
        cells = store.grid.cells
        probability = np.where(scored, store.read("probability", position), np.nan)
        cams = np.where(scored.repeat(cells, 0).repeat(cells, 1), store.read("cam", position), np.nan)
        status, unfamiliar = store.read("status", position), scored & store.unfamiliar(position)
        blocks.append(Block(position, status, scored & ~exact, unfamiliar, probability, cams))
    return blocks
