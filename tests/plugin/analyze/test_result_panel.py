"""The panel of results: the band of doubt, in the window's every place alike."""

from __future__ import annotations

import json
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QLabel

from napari_dala.results.opening import open_store
from napari_dala.results.thresholds import THRESHOLDS_FILE, KeptThreshold, stored_point

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.results.analysis import Analysis


def texts(panel: Any) -> list[str]:
    return [panel.table.itemAt(i).widget().text() for i in range(panel.table.count())]


def test_a_row_more_or_less_leaves_the_others_alone(qtbot: Any, graded: Any) -> None:
    panel = graded.analyze.panel
    before = [panel.table.itemAt(i).widget() for i in range(panel.table.count())]
    for doubt in (0.2, 0.3, 0):
        panel.doubt.setValue(doubt)
        cells = [panel.table.itemAt(i).widget() for i in range(panel.table.count())]
        assert cells[: len(before)] == before
        QApplication.processEvents()
        places = [one.geometry() for one in panel.findChildren(QLabel) if one.isVisible() and one.parent() is panel]
        assert not any(one.intersects(other) for one, other in combinations(places, 2)), "nothing lies over another"
    assert cells == before


def pull(qtbot: Any, slider: Any, share: float) -> None:
    """Drag a slider's handle with the mouse to a part of its length."""
    bar = slider._slider
    middle, width = bar.height() // 2, bar.width()
    start = QPoint(round(4 + (width - 8) * (bar.value() - bar.minimum()) / (bar.maximum() - bar.minimum())), middle)
    qtbot.mousePress(bar, Qt.MouseButton.LeftButton, pos=start)
    for x in np.linspace(start.x(), 4 + (width - 8) * share, 5):
        qtbot.mouseMove(bar, QPoint(round(x), middle))
    qtbot.mouseRelease(bar, Qt.MouseButton.LeftButton, pos=QPoint(round(4 + (width - 8) * share), middle))


def test_tiles_in_the_band_of_doubt_are_not_judged_anywhere(qtbot: Any, graded: Any, tmp_path: Path) -> None:
    dock = graded.analyze
    panel, results = dock.panel, dock._session.results
    assert panel.doubt.value() == 0
    assert "not judged" not in texts(panel)
    pull(qtbot, panel.doubt, 0.2)
    doubt = panel.doubt.value()
    assert 0.05 < doubt < 0.15
    within = np.abs(results.analysis.probability[1] - 0.5) < doubt - 0.005
    assert within.any()
    assert (np.asarray(results.classes.data)[within] == 0).all()
    summary = results.analysis.summary()
    assert summary.in_doubt >= within.sum()
    assert f"{summary.in_doubt} tiles" in texts(panel)
    assert f"not judged: {summary.in_doubt} in doubt" in panel.counts.text()
    qtbot.waitUntil(lambda: panel.spots.count() == len(results.analysis.spots()), timeout=5000)
    assert all(spot.probability >= 0.5 + doubt - 0.005 for spot in panel._spots)
    graded.viewer.layers.selection = {results.probability}
    graded.viewer.layers.save(tmp_path / "regions.geojson", selected=True)
    features = json.loads((tmp_path / "regions.geojson").read_text())["features"]
    assert sum(one["properties"]["measurements"]["Tiles"] for one in features) == 25 - summary.in_doubt

    # It is kept with slide and model, and is there when the result is shown again.
    store = results.analysis.store
    kept = KeptThreshold(threshold=0.5, doubt=round(doubt, 4))
    qtbot.waitUntil(lambda: stored_point(open_store(store.path)) == kept, timeout=5000)
    dock._session.put_away(dock._session.layer)
    dock._show_state()
    qtbot.mouseClick(dock.offer_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dock._session.results is not None, timeout=20_000)
    assert panel.doubt.value() == kept.doubt
    assert dock._session.results.analysis.summary().in_doubt == summary.in_doubt


def test_the_band_stays_when_the_threshold_moves(qtbot: Any, graded: Any) -> None:
    panel, analysis = graded.analyze.panel, graded.analyze._session.results.analysis
    panel.doubt.setValue(0.1)
    panel.threshold.setValue(0.8)
    assert (analysis.threshold, analysis.doubt) == (0.8, 0.1)
    called = analysis.class_map()[analysis.probability[1] >= np.float32(0.7)]
    assert called.tolist() == [0, 0, 0, 0, 0, 2, 2]


def test_a_threshold_of_before_comes_back_without_a_band(qtbot: Any, graded: Any) -> None:
    session = graded.analyze._session
    store = session.results.analysis.store
    session.put_away(session.layer)
    (store.path.parent / THRESHOLDS_FILE).write_text(json.dumps({store.bundle_hash: 0.62}))
    graded.analyze._show_state()
    qtbot.mouseClick(graded.analyze.offer_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: session.results is not None, timeout=20_000)
    analysis: Analysis = session.results.analysis
    assert (analysis.threshold, analysis.doubt) == (0.62, 0.0)


def test_the_frame_goes_with_the_last_spot(qtbot: Any, graded: Any) -> None:
    panel, layers = graded.analyze.panel, graded.viewer.layers
    panel.spots.setCurrentRow(0)
    assert "Spot" in layers
    panel.threshold.setValue(1)
    qtbot.waitUntil(lambda: panel.spots.count() == 0, timeout=5000)
    assert "Spot" not in layers
