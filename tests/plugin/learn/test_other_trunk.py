"""A model on a ViT goes through every dock: analysed, explained, reviewed, learned from and scored again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.model.card import read_card
from napari_dala.plugin.viewer.session import session_of
from tests.plugin.buttons import press
from tests.plugin.learn.waiting import LONG, until

if TYPE_CHECKING:
    from pathlib import Path


def test_every_dock_works_with_another_trunk(
    qtbot: Any, viewer: Any, child: Any, vit_school: Any, workspace: Path, finished: Any, explained: Any, hand: Any
) -> None:
    vit_school.move_in(workspace, analysed=False)
    docks = {
        name: viewer.window.add_plugin_dock_widget("napari-dala", name)[1]
        for name in ("Analyze slide", "Explain", "Annotate & learn", "Review tiles")
    }
    analyze, explain, annotate, review = docks.values()
    viewer.open(vit_school.slide, plugin="napari-dala")
    session = session_of(viewer)
    qtbot.waitUntil(lambda: annotate.drawing.document is not None, timeout=LONG)

    # Analyze: the store's cells are the ViT's patches, and the dock says that nothing can be relied on yet.
    analyze.model_box.setCurrentText("teacher")
    press(qtbot, analyze.run_button)
    finished(analyze)
    old = session.results
    assert old is not None
    grid = old.analysis.grid
    assert (grid.cell_px, grid.cells) == (16, 4)
    assert old.analysis.analysed.sum() > 100
    assert any("untrained" in warning for warning in old.analysis.warnings)

    # Explain: the map has four cells a tile, and a click on a tile shows its own.
    explain.show_box.setCurrentIndex(2)
    explained(old)
    assert old.cam.data.shape == grid.cam_shape
    assert np.nanmax(old.cam.data) > 0
    row, column = np.argwhere(old.analysis.analysed)[0]
    hand.click(*(float(at) for at in grid.middle(int(row), int(column))))
    assert explain._tile == (row, column)
    assert "malignant" in explain.probabilities.text()

    # Review: tiles are listed with their pictures.
    qtbot.waitUntil(lambda: len(review.model.tiles) > 0, timeout=LONG)
    tile = review.model.tile(0)
    review.parentWidget().raise_()
    qtbot.waitUntil(lambda: review.pictures._shown.get(tile) is not None, timeout=LONG)

    # Annotate & learn: the head learns, what is stored is scored again, and the preview follows.
    annotate.drawing.edit(replace(annotate.drawing.document, annotations=vit_school.marked))
    panel = annotate.learn
    learning = panel.learning
    assert panel.entry.name == "teacher"
    press(qtbot, panel.learn_button)
    until(qtbot, panel, lambda: learning.learned is not None)
    until(qtbot, panel, lambda: session.results is not old and learning.run is None)
    new = session.results
    assert new.analysis.grid == grid
    assert np.isfinite(new.probability.data).sum() == np.isfinite(old.probability.data).sum()
    assert np.nanmax(np.abs(new.probability.data - old.probability.data)) > 0.05
    assert not new.analysis.approximate.any()
    assert not any("untrained" in warning for warning in new.analysis.warnings)
    learned = read_card(learning.learned.bundle)
    assert (learned.architecture, learned.channels, learned.trained) == ("timm/vit_tiny_patch16_224", 192, True)

    panel.decision.name.setText("On a ViT")
    press(qtbot, panel.decision.accept_button)
    until(qtbot, panel, lambda: learning.learned is None)
    assert session.results is new
    assert analyze.model_box.currentText() == "On a ViT"
