from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def graded(qtbot: Any, docks: Any, small_slide: Path, painted: Any) -> Any:
    """The docks, with a result of 25 tiles shown whose probability of malignant goes from 0 to 0.96."""
    slide = open_slide(small_slide)
    grid = TileGrid.over(slide, 224, 0.5)
    store = painted(slide_folder(slide.fingerprint) / "analyses", grid, fingerprint=slide.fingerprint)
    malignant = np.arange(25, dtype=np.float32).reshape(grid.shape) / 25
    store._arrays["probability"][:] = np.stack((1 - malignant, malignant))
    docks.viewer.open(small_slide, plugin="napari-dala")
    qtbot.mouseClick(docks.analyze.offer_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: is_laid(docks.analyze._session.results), timeout=20_000)
    return docks


def is_laid(results: Any) -> bool:
    """Whether all layers of results are in the viewer; they enter one in each turn of the event loop."""
    return results is not None and len(results.present) == len(results.all)
