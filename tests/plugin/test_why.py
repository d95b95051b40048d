"""*Why* in the dock Explain: asked of the real child, once it is unfolded, for the tile that was clicked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_dala.model.trunks.names import CHANNELS
from napari_dala.plugin.viewer.plain_text import PlainLabel

if TYPE_CHECKING:
    from pathlib import Path

    from qtpy.QtWidgets import QLabel

PATIENCE_MS = 120_000


def rows(dock: Any) -> list[tuple[QLabel, str]]:
    grid = dock.why.rows
    return [
        (grid.itemAtPosition(row, 0).widget(), grid.itemAtPosition(row, 1).widget().text())
        for row in range(grid.rowCount())
        if grid.itemAtPosition(row, 0) is not None
    ]


def middle(dock: Any, row: int, column: int) -> tuple[float, float]:
    return dock._results.analysis.grid.middle(row, column)


def test_the_strongest_channels_of_the_clicked_tile(
    qtbot: Any, docks: Any, hand: Any, small_slide: Path, finished: Any
) -> None:
    dock = docks.explain
    docks.viewer.open(small_slide, plugin="napari-dala")
    qtbot.mouseClick(docks.analyze.run_button, Qt.MouseButton.LeftButton)
    finished(docks.analyze)
    assert dock.why.isHidden(), "no tile was clicked yet"
    tiles = np.argwhere(dock._results.analysis.analysed)
    hand.click(*middle(dock, *tiles[0]))
    assert not dock.why.isHidden()
    assert not rows(dock), "folded: nothing is asked"

    dock.come_forward()
    qtbot.mouseClick(dock.why.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dock.why.reasons is not None, timeout=PATIENCE_MS)
    assert dock.why.problem.text() == ""
    first = dock.why.reasons
    assert first.of == CHANNELS
    assert f"channels are {sum(one.share for one in first.channels):.0%} of all" in dock.why.said.text()
    shown = rows(dock)
    assert len(shown) == len(first.channels)
    for (picture, text), one in zip(shown, first.channels, strict=True):
        assert f"Channel {one.channel}: {one.contribution:+.3f}" in text
        assert f"gate × {one.gain:.2f}" in text
        assert 1 < one.gain < 2
        assert ("speaks for malignant" in text) == (one.contribution >= 0)
        assert not picture.pixmap().isNull()
    about = [label.text() for label in dock.why.content.findChildren(PlainLabel) if "no name" in label.text()]
    assert "not where the model looks" in about[0]

    dock.class_box.setCurrentIndex(0)
    qtbot.waitUntil(lambda: dock.why.reasons not in (None, first), timeout=PATIENCE_MS)
    assert "benign: logit" in dock.why.said.text()
    assert "benign" in rows(dock)[0][1]
    of_benign = dock.why.reasons
    hand.click(*middle(dock, *tiles[-1]))
    qtbot.waitUntil(lambda: dock.why.reasons not in (None, of_benign), timeout=PATIENCE_MS)


def test_a_model_that_is_gone_is_one_line(
    qtbot: Any, docks: Any, hand: Any, small_slide: Path, painted: Any, tmp_path: Path
) -> None:
    from napari_dala.results.loaded import load
    from napari_dala.slide import open_slide
    from napari_dala.slide.tiles import TileGrid

    docks.viewer.open(small_slide, plugin="napari-dala")
    painted(tmp_path, TileGrid.over(open_slide(small_slide), 224, 0.5))
    dock = docks.explain
    dock._session.show(docks.viewer.layers[0], load(tmp_path))
    dock.why.button.setChecked(True)
    hand.click(*middle(dock, 1, 1))
    qtbot.waitUntil(lambda: dock.why.problem.text() != "", timeout=PATIENCE_MS)
    assert "no longer here" in dock.why.problem.text()
    assert not rows(dock)


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALA_WORKSPACE", str(tmp_path / "workspace"))
