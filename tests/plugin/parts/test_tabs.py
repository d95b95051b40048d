"""Our docks become tabs of one another, in the order of work, whoever opens them; keys work wherever the focus is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QLineEdit, QTabBar

from napari_dala.plugin import demo
from napari_dala.plugin.analyze.dock import AnalyzeWidget
from napari_dala.plugin.parts.tabs import TITLES
from napari_dala.plugin.viewer.session import session_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer
    from qtpy.QtGui import QAction
    from qtpy.QtWidgets import QMenu

    from napari_dala.plugin.warm_child import WarmChild

LEAST_HEIGHT = 600  # px


def entry(menu: QMenu, text: str) -> QAction | None:
    for action in menu.actions():
        found = entry(inner, text) if (inner := action.menu()) else action if text in action.text() else None
        if found:
            return found
    return None


def tabs(window: Any) -> list[list[str]]:
    bars = [bar for bar in window.findChildren(QTabBar) if bar.isVisible()]
    return [[bar.tabText(index) for index in range(bar.count())] for bar in bars]


@pytest.mark.parametrize("order", [("learn", "Explain", "Analyze slide"), ("Analyze slide", "learn", "Explain")])
def test_docks_from_the_menu_are_tabs_in_the_order_of_work(
    viewer: Viewer, qtbot: Any, child: WarmChild, order: tuple[str, ...]
) -> None:
    window = viewer.window._qt_window
    window.resize(1280, 760)
    for text in order:
        action = entry(viewer.window.plugins_menu, text)
        assert action is not None
        action.trigger()
        qtbot.wait(100)
    qtbot.waitUntil(lambda: tabs(window) == [list(TITLES)])
    front = [dock for dock in window.findChildren(QDockWidget) if not dock.visibleRegion().isEmpty()]
    shown = [dock for dock in front if "napari-dala" in dock.objectName()]
    assert len(shown) == 1, "one is in front"
    assert order[-1] in shown[0].objectName()
    assert shown[0].height() > LEAST_HEIGHT, "with the whole height"


def test_a_dock_that_floats_stays_where_it_is(viewer: Viewer, qtbot: Any, child: WarmChild) -> None:
    first, _ = viewer.window.add_plugin_dock_widget("napari-dala", "Explain")
    qtbot.wait(100)
    first.setFloating(True)
    viewer.window.add_plugin_dock_widget("napari-dala", "Analyze slide")
    qtbot.wait(100)
    assert first.isFloating()
    assert tabs(viewer.window._qt_window) == []


def test_keys_work_from_a_list_but_not_from_a_text_field(viewer: Viewer, qtbot: Any, child: WarmChild) -> None:
    _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Analyze slide")
    window = viewer.window._qt_window
    qtbot.wait(100)
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    session = session_of(viewer)
    steps: list[int] = []
    session.step_asked.connect(steps.append)
    session.suggestion_asked.connect(lambda: steps.append(0))
    field = QLineEdit()
    dock.layout().addWidget(field)
    dock.panel.setVisible(True)
    dock.panel.spots.setFocus()
    QApplication.processEvents()
    qtbot.keyClick(dock.panel.spots, "n")
    qtbot.keyClick(dock.panel.spots, "N", Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(dock.panel.spots, "u")
    assert steps == [1, -1, 0]
    field.setFocus()
    qtbot.keyClicks(field, "nu")
    assert steps == [1, -1, 0]
    assert field.text() == "nu"


def test_digits_choose_the_class_from_anywhere_in_the_dock(
    viewer: Viewer, qtbot: Any, child: WarmChild, small_slide: Path
) -> None:
    viewer.open(small_slide, plugin="napari-dala")
    _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Annotate & learn")
    window = viewer.window._qt_window
    qtbot.waitUntil(lambda: dock.drawing.document is not None)
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    dock.panel.artefacts_button.setFocus()
    classes = [info.name for info in dock.drawing.document.classes]
    for digit in (2, 1):
        qtbot.keyClick(dock.panel.artefacts_button, str(digit))
        assert dock.drawing.class_name == classes[digit - 1]


def test_the_demo_shows_all_docks_and_analyses(
    viewer: Viewer, qtbot: Any, child: WarmChild, small_slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.napari, "Viewer", lambda title: viewer)
    demo.open_demo(small_slide)
    window = viewer.window._qt_window
    qtbot.waitUntil(lambda: tabs(window) == [list(TITLES)])
    analyze = next(one for one in window.findChildren(AnalyzeWidget))
    assert not analyze.visibleRegion().isEmpty(), "Analyze is in front"
    assert analyze.is_running
    qtbot.waitUntil(lambda: not analyze.is_running, timeout=120_000)
    assert analyze.error.text() == ""
    assert session_of(viewer).results is not None
