"""Keys work wherever the focus is, but in text fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLineEdit

from napari_dala.plugin.viewer.session import session_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer

    from napari_dala.plugin.warm_child import WarmChild


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
