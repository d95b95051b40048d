"""Our docks become tabs of one another, in the order of work, whoever opens them; keys work wherever the focus is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QLineEdit, QTabBar

from napari_dala.plugin.parts.tabs import TITLES
from napari_dala.plugin.viewer.session import session_of

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtGui import QAction
    from qtpy.QtWidgets import QMenu

    from napari_dala.plugin.warm_child import WarmChild

LEAST_WIDTH, LEAST_HEIGHT = 369, 600  # px


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
    steps: list[int] = []
    session_of(viewer).step_asked.connect(steps.append)
    field = QLineEdit()
    dock.layout().addWidget(field)
    dock.panel.setVisible(True)
    dock.panel.spots.setFocus()
    QApplication.processEvents()
    qtbot.keyClick(dock.panel.spots, "n")
    qtbot.keyClick(dock.panel.spots, "N", Qt.KeyboardModifier.ShiftModifier)
    assert steps == [1, -1]
    field.setFocus()
    qtbot.keyClick(field, "n")
    assert steps == [1, -1]
    assert field.text() == "n"
