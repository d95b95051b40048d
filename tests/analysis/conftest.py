from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_dala.analysis.result import Analysis
from napari_dala.analysis.store import Setting, TileResults, TileStatus, create_store
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.slide.tiles import BLOCK, TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.model.card import ModelCard
    from napari_dala.slide import Slide

    PaintAnalysis = Callable[..., Analysis]

SMALL_TILES = UNTRAINED_CARD.model_copy(update={"tile_px": 64, "trained": True, "name": "painted"})


@pytest.fixture
def small_tiles() -> ModelCard:
    """A card with tiles of 64 px (2 x 2 CAM cells) at 0.5 um/px."""
    return SMALL_TILES


@pytest.fixture
def paint_analysis(tmp_path: Path) -> PaintAnalysis:
    """Make an analysis without a network: `paint(slide, malignant)`, malignant(grid) giving (rows, columns)."""

    def paint(
        slide: Slide,
        malignant: Callable[[TileGrid], Any] | float,
        *,
        card: ModelCard = SMALL_TILES,
        overlap: float = 0.0,
        unreadable: tuple[tuple[int, int], ...] = (),
        todo: tuple[tuple[int, int], ...] = (),
        background: tuple[tuple[int, int], ...] = (),
    ) -> Analysis:
        grid = TileGrid.over(slide, card.tile_px, card.mpp, overlap)
        store = create_store(
            tmp_path / "analysis.zarr",
            Setting(slide.fingerprint, grid, "0" * 12, "fp32"),
            slide=slide.properties,
            bundle_hash="abcdef0123456789",
            card=card.model_dump(mode="json"),
            restart=True,
        )
        probability = np.broadcast_to(malignant(grid) if callable(malignant) else malignant, grid.shape)
        tissue = np.ones(grid.shape, bool)
        for tile in background:
            tissue[tile] = False
        store.mark_background(tissue)
        for block in np.ndindex(grid.blocks()):
            first = np.array(block) * BLOCK
            part = store.read("status", block) == TileStatus.TODO
            tiles = [tuple(int(i) for i in first + at) for at in np.argwhere(part)]
            done = [tile for tile in tiles if tile not in unreadable and tile not in todo]
            row, column = np.array(done, np.intp).reshape(-1, 2).T
            p = np.array([probability[tile] for tile in done], np.float32)
            both = np.stack((1 - p, p), 1)
            peak = np.linspace(0, 1, grid.cells, dtype=np.float32)
            cam = both[:, :, None, None] * peak[:, None] * peak * 5
            results = TileResults(row, column, both, cam, np.zeros((len(done), 2048), np.float16))
            store.write(block, results, [tile for tile in tiles if tile in unreadable])
        return Analysis(store)

    return paint
