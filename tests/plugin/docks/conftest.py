from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QObject

from napari_dala.analysis.store import Setting, TileStatus, create_store
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.plugin.warm_child import warm_child
from napari_dala.slide.teaching import teaching_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari.viewer import Viewer

    from napari_dala.analysis.store import AnalysisStore
    from napari_dala.model.card import ModelCard
    from napari_dala.plugin.analyze import AnalyzeWidget
    from napari_dala.plugin.explain import ExplainWidget
    from napari_dala.plugin.warm_child import WarmChild
    from napari_dala.slide.tiles import TileGrid

PATIENCE_MS = 120_000  # for a child on a busy machine
TRAINED_CARD = UNTRAINED_CARD.model_copy(update={"trained": True, "name": "painted"})


@pytest.fixture(scope="session")
def child(qapp: Any) -> Iterator[WarmChild]:
    """One real child for all tests: each start costs seconds."""
    holder = QObject()
    warm_child().hold(holder)
    yield warm_child()
    warm_child().close()


@pytest.fixture(scope="session")
def small_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn slide of 25 tiles."""
    return teaching_slide(tmp_path_factory.mktemp("slides") / "small.tif", 1120).path


@pytest.fixture(scope="session")
def large_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn slide of 196 tiles, 16 blocks."""
    return teaching_slide(tmp_path_factory.mktemp("slides") / "large.tif", 3136).path


@dataclass
class Docks:
    """Both docks of a window, opened as from napari's menu."""

    viewer: Viewer
    analyze: AnalyzeWidget
    explain: ExplainWidget


@pytest.fixture
def docks(viewer: Viewer, child: WarmChild) -> Docks:
    _, analyze = viewer.window.add_plugin_dock_widget("napari-dala", "Analyze slide")
    _, explain = viewer.window.add_plugin_dock_widget("napari-dala", "Explain", tabify=True)
    return Docks(viewer, analyze, explain)


@pytest.fixture
def finished(qtbot: Any) -> Callable[[AnalyzeWidget], None]:
    """Wait until an analysis has ended."""
    return lambda dock: qtbot.waitUntil(lambda: not dock.is_running, timeout=PATIENCE_MS)


@pytest.fixture
def painted() -> Callable[..., AnalysisStore]:
    """Write an analysis whose far corner alone is malignant: its last tile, and that tile's last CAM cell."""

    def paint(
        path: Path, grid: TileGrid, card: ModelCard = TRAINED_CARD, fingerprint: str = "painted"
    ) -> AnalysisStore:
        store = create_store(
            path / "analysis.zarr",
            Setting(fingerprint, grid, "trunk", "fp32"),
            slide={"mpp_source": "file"},
            bundle_hash="0" * 16,
            card=card.model_dump(mode="json"),
        )
        rows, columns = grid.shape
        probability = np.full((2, rows, columns), 0.1, np.float32)
        probability[1, -1, -1] = 0.9
        probability[0] = 1 - probability[1]
        cam = np.zeros((2, rows * grid.cells, columns * grid.cells), np.float16)
        cam[1, -1, -1] = 5
        for name, value in (("probability", probability), ("cam", cam), ("scored", 1), ("status", TileStatus.DONE)):
            store._arrays[name][:] = value
        return store

    return paint
