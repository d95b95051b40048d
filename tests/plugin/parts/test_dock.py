"""The docks as users open them: from the menus of a real window, by the demo, by code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as Picture
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QCursor, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractSlider,
    QApplication,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QMenu,
    QScrollArea,
    QScrollBar,
    QSlider,
    QSpinBox,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from napari_dala.jobs.state import Status
from napari_dala.plugin.demo import FIRST_DOCKS, open_demo
from napari_dala.plugin.parts.dock import TITLES, Dock
from napari_dala.plugin.parts.scrolling import scroll_to, scrolling_layout
from napari_dala.plugin.preferences import load_preferences, set_start_page
from napari_dala.plugin.viewer.session import session_of
from napari_dala.slide.teaching.slide import cached_teaching_slide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.viewer import Viewer

OTHER_MENUS = {
    "Analyze slide": "Classify",
    "Explain": "Visualize",
    "Review tiles": "Annotate",
    "Annotate & learn": "Annotate",
}
WORK = tuple(OTHER_MENUS)  # those of the Layers menu, too


def choose(viewer: Viewer, *path: str) -> None:
    """Choose an entry of the menu bar, by its words."""
    at: Any = viewer.window._qt_window.menuBar()
    for words in path:
        found = [one for one in at.actions() if _shown(one.text()) == words]
        assert found, (words, [one.text() for one in at.actions()])
        at = found[0].menu() or found[0]
        if isinstance(at, QMenu):
            at.aboutToShow.emit()
    at.trigger()


def _shown(text: str) -> str:
    return text.replace("&&", "\0").replace("&", "").replace("\0", "&")


def plugins_menu(viewer: Viewer, title: str) -> None:
    choose(viewer, "Plugins", "napari-dala", f"{title} (napari-dala)")


def layers_menu(viewer: Viewer, title: str) -> None:
    choose(viewer, "Layers", OTHER_MENUS[title], f"{title} (napari-dala)")


def code(viewer: Viewer, title: str) -> None:
    viewer.window.add_plugin_dock_widget("napari-dala", title)


def docks_of(viewer: Viewer) -> dict[str, Any]:
    return {dock.title: dock for dock in viewer.window._qt_window.findChildren(Dock)}


def tabs(viewer: Viewer) -> list[str]:
    """Return the words on the tabs of our docks."""
    bars = [one for one in viewer.window._qt_window.findChildren(QTabBar) if one.isVisible() and one.count()]
    (bar,) = bars
    return [bar.tabText(at).replace("&&", "&") for at in range(bar.count())]


def in_front(viewer: Viewer) -> list[str]:
    return [title for title, dock in docks_of(viewer).items() if not dock.visibleRegion().isEmpty()]


@pytest.fixture(autouse=True)
def _child(child: Any) -> None: ...


@pytest.mark.parametrize("open_dock", [plugins_menu, layers_menu, code])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 2, 0)])
def test_docks_are_tabs_in_the_order_of_work(
    viewer: Viewer, qtbot: Any, open_dock: Callable[[Viewer, str], None], order: tuple[int, ...]
) -> None:
    for at in order:
        open_dock(viewer, WORK[at])
        qtbot.wait(50)
        assert in_front(viewer) == [WORK[at]]
    assert tabs(viewer) == list(WORK)
    analyze, window = docks_of(viewer)["Analyze slide"], viewer.window._qt_window
    qtbot.waitUntil(lambda: analyze.height() > window.height() / 2)


def test_docks_opened_in_one_go_are_tabs(viewer: Viewer, qtbot: Any) -> None:
    for title in reversed(WORK):
        code(viewer, title)
    qtbot.wait(100)
    assert tabs(viewer) == list(WORK)
    assert in_front(viewer) == ["Analyze slide"]


def test_a_dock_behind_another_comes_forward_and_the_one_in_front_goes(viewer: Viewer, qtbot: Any) -> None:
    for title in WORK:
        plugins_menu(viewer, title)
        qtbot.wait(50)
    plugins_menu(viewer, "Analyze slide")
    qtbot.wait(100)
    assert in_front(viewer) == ["Analyze slide"]
    assert tabs(viewer) == list(WORK)
    plugins_menu(viewer, "Analyze slide")
    qtbot.wait(100)
    assert "Analyze slide" not in in_front(viewer)
    plugins_menu(viewer, "Analyze slide")
    qtbot.wait(100)
    assert in_front(viewer) == ["Analyze slide"]


def test_a_dock_that_was_closed_comes_back_to_its_place(viewer: Viewer, qtbot: Any) -> None:
    for title in WORK:
        code(viewer, title)
    qtbot.wait(100)
    docks_of(viewer)["Explain"].frame.destroyOnClose()
    qtbot.wait(100)
    plugins_menu(viewer, "Explain")
    qtbot.wait(100)
    assert tabs(viewer) == list(WORK)
    assert in_front(viewer) == ["Explain"]


def test_a_dock_stays_where_the_user_put_it(viewer: Viewer, qtbot: Any) -> None:
    code(viewer, "Analyze slide")
    code(viewer, "Explain")
    qtbot.wait(100)
    window, frame = viewer.window._qt_window, docks_of(viewer)["Explain"].frame
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, frame)
    code(viewer, "Annotate & learn")
    qtbot.wait(100)
    frame.hide()
    qtbot.wait(50)
    frame.show()
    qtbot.wait(50)
    assert window.dockWidgetArea(frame) == Qt.DockWidgetArea.LeftDockWidgetArea
    assert tabs(viewer) == ["Analyze slide", "Annotate & learn"]


def test_the_demo_shows_the_docks_and_the_page_start_here_until_it_is_not_wanted(
    viewer: Viewer, make_napari_viewer: Any, qtbot: Any, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.addfinalizer(lambda: set_start_page(True))
    monkeypatch.setattr("napari_dala.plugin.demo.napari.Viewer", lambda **options: make_napari_viewer(show=True))
    slide = cached_teaching_slide(1120)
    first = open_demo(slide)
    qtbot.wait(200)
    assert tabs(first) == list(FIRST_DOCKS)
    assert in_front(first) == ["Start here"]
    page = docks_of(first)["Start here"]
    assert [step.split(".")[1].split("<")[0].strip() for step in (one.text() for one in page.steps.values())] == [
        "Open a slide", "Run", "Explain", "Draw", "Learn",
    ]  # fmt: skip
    assert all(not one.pixmap().isNull() for one in page.findChildren(QLabel) if one.pixmap() and not one.text())
    page.open_dock("Explain")
    qtbot.wait(100)
    assert in_front(first) == ["Explain"]
    assert load_preferences().start_page
    page.come_forward()
    qtbot.mouseClick(page.again, Qt.MouseButton.LeftButton, pos=QPoint(10, page.again.height() // 2))
    assert not load_preferences().start_page
    qtbot.waitUntil(lambda: not docks_of(first)["Analyze slide"].is_running, timeout=120_000)
    again = open_demo(slide)
    qtbot.wait(200)
    assert tabs(again) == list(FIRST_DOCKS[1:])
    assert in_front(again) == ["Analyze slide"]
    plugins_menu(again, "Start here")
    qtbot.wait(100)
    assert in_front(again) == ["Start here"]
    qtbot.waitUntil(lambda: not docks_of(again)["Analyze slide"].is_running, timeout=120_000)
    explain = docks_of(again)["Explain"]
    qtbot.waitUntil(lambda: not explain.controls.isHidden())
    explain.come_forward()
    qtbot.wait(100)
    assert explain.legend.height() >= explain.legend.minimumSizeHint().height(), "what is below its bar is cut off"


# Nothing moves under the mouse


def middle(widget: QWidget) -> QPoint:
    return widget.mapToGlobal(widget.rect().center())


@pytest.fixture
def scrolled(qtbot: Any) -> Any:
    """A dock of 40 lines, 200 px high."""
    dock = QWidget()
    qtbot.addWidget(dock)
    dock.rows = QVBoxLayout()  # a layout within, as panels have
    scrolling_layout(dock).addLayout(dock.rows)
    dock.lines = [QLabel(f"line {number}") for number in range(40)]
    for line in dock.lines:
        dock.rows.addWidget(line)
    dock.resize(369, 200)
    QCursor.setPos(0, 900)
    dock.move(300, 100)
    dock.show()
    qtbot.waitExposed(dock)
    qtbot.wait(50)
    dock.bar = dock.findChild(QScrollArea).verticalScrollBar()
    return dock


def test_what_comes_above_does_not_move_what_is_under_the_mouse(qtbot: Any, scrolled: Any) -> None:
    scrolled.bar.setValue(100)
    line = next(one for one in scrolled.lines if one.visibleRegion().boundingRect().height() == one.height())
    QCursor.setPos(middle(line))
    qtbot.wait(50)
    before = middle(line)
    scrolled.rows.insertWidget(0, QLabel("\n".join("new")))
    qtbot.wait(50)
    assert middle(line) == before
    scrolled.lines[0].hide()
    qtbot.wait(50)
    assert middle(line) == before


def test_a_dock_scrolls_by_itself_only_once_the_mouse_is_elsewhere(qtbot: Any, scrolled: Any) -> None:
    QCursor.setPos(middle(scrolled))
    qtbot.wait(50)
    scroll_to(scrolled.lines[-1])
    qtbot.wait(200)
    assert scrolled.bar.value() == 0
    QCursor.setPos(0, 900)
    qtbot.waitUntil(lambda: scrolled.bar.value() > 0)


def turn_wheel(widget: QWidget, up: bool = False) -> bool:
    """Turn the mouse's wheel by a notch over a widget; return whether it does something of its own."""
    place, turned = QPointF(widget.rect().center()), QPoint(0, 120 if up else -120)
    buttons, held = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    on_screen = QPointF(widget.mapToGlobal(place.toPoint()))
    phase = Qt.ScrollPhase.NoScrollPhase
    event = QWheelEvent(place, on_screen, QPoint(), turned, buttons, held, phase, False)
    QApplication.sendEvent(widget, event)
    return event.isAccepted()  # if not, one of the user's goes on to the widget around it; one of ours does not


VALUES = {QComboBox: "currentIndex", QAbstractSlider: "value", QSpinBox: "value", QDoubleSpinBox: "value"}


def test_the_wheel_scrolls_a_dock_and_changes_nothing_in_it(viewer: Viewer, qtbot: Any, small_slide: Path) -> None:
    """As where a box comes under the mouse on the way down."""
    viewer.open(small_slide, plugin="napari-dala")
    for title in TITLES:
        code(viewer, title)
    qtbot.wait(200)
    QCursor.setPos(middle(docks_of(viewer)["Start here"]))
    qtbot.wait(50)
    kinds = set()
    for dock in docks_of(viewer).values():
        dock.come_forward()  # under a mouse that rests, as from a link of *Start here*
        qtbot.wait(50)
        held = [(one, value) for kind, value in VALUES.items() for one in dock.findChildren(kind)]
        values = {one: getattr(one, value) for one, value in held if not isinstance(one, QScrollBar)}
        before = {one: value() for one, value in values.items()}
        for one in values:
            one.setFocus()
            for up in (False, True, True):
                assert not turn_wheel(one, up)
        assert {one: value() for one, value in values.items()} == before
        kinds |= set(map(type, values))
    assert kinds >= {QComboBox, QDoubleSpinBox, QSlider}


def test_what_comes_later_is_left_alone_too(qtbot: Any, scrolled: Any) -> None:
    box = QComboBox()
    box.addItems(["one", "two", "three"])
    scrolled.rows.insertWidget(5, box)
    qtbot.wait(50)
    assert not turn_wheel(box)
    assert box.currentIndex() == 0
    area = scrolled.findChild(QScrollArea)
    turn_wheel(area.viewport())  # where a user's turn over the box, or over a line, comes to
    assert scrolled.bar.value() > 0


def test_a_run_moves_nothing_in_the_dock(viewer: Viewer, qtbot: Any, small_slide: Path) -> None:
    viewer.open(small_slide, plugin="napari-dala")
    code(viewer, "Analyze slide")
    qtbot.wait(200)
    dock = docks_of(viewer)["Analyze slide"]
    dock.model_box.choose_card("untrained")
    qtbot.wait(50)
    places = [[middle(one) for one in (dock.run_button, dock.cancel_button, dock.device)]]
    dock.run()
    for state in ("running", "stopping", "stopped"):
        if state == "stopping":
            dock.cancel()
        if state == "stopped":
            qtbot.waitUntil(lambda: not dock.is_running, timeout=120_000)
        QApplication.processEvents()
        qtbot.wait(20)
        places.append([middle(one) for one in (dock.run_button, dock.cancel_button, dock.device)])
    assert places == [places[0]] * 4
    assert " left" not in dock.progress_text.text()


def test_accept_never_comes_where_cancel_was(viewer: Viewer, qtbot: Any, small_slide: Path) -> None:
    viewer.open(small_slide, plugin="napari-dala")
    code(viewer, "Annotate & learn")
    dock = docks_of(viewer)["Annotate & learn"]
    qtbot.waitUntil(lambda: dock.panel.controls.isVisible())
    learn = dock.learn
    learn.learning.status = Status.RUNNING
    learn.learning.changed.emit()
    content = learn.window()
    cancel = learn.job.cancel_button
    qtbot.waitUntil(cancel.isVisible)
    qtbot.wait(500)  # all is laid out
    at = cancel.mapTo(content, QPoint(0, 0))
    learn.learning.status = Status.DONE
    learn.learning.changed.emit()
    learn.decision.setVisible(True)
    qtbot.wait(100)
    assert not cancel.isVisible()
    assert abs(cancel.mapTo(content, QPoint(0, 0)).y() - at.y()) <= 1
    accept = learn.decision.accept_button
    assert accept.mapTo(content, QPoint(0, 0)).y() >= at.y() + cancel.height()


# The scale bar


def test_a_scale_bar_comes_with_the_first_slide_in_micrometres(viewer: Viewer, qtbot: Any, small_slide: Path) -> None:
    bar = viewer.canvas.overlays.scale_bar
    assert not bar.visible
    viewer.open(small_slide, plugin="napari-dala")
    qtbot.waitUntil(lambda: bar.visible)
    bar.visible = False
    viewer.open(small_slide, plugin="napari-dala")
    qtbot.wait(500)
    assert not bar.visible
    assert session_of(viewer).slide_layers


def test_a_picture_of_unknown_resolution_has_no_scale_bar(
    viewer: Viewer, qtbot: Any, small_slide: Path, tmp_path: Path
) -> None:
    bar = viewer.canvas.overlays.scale_bar
    (slide_layer,) = viewer.open(small_slide, plugin="napari-dala")
    qtbot.waitUntil(lambda: bar.visible)
    Picture.fromarray(np.full((300, 400, 3), 200, np.uint8)).save(tmp_path / "unknown.png")
    session_of(viewer)
    (picture,) = viewer.open(tmp_path / "unknown.png")
    viewer.layers.selection.active = picture
    assert not bar.visible
    viewer.layers.selection.active = slide_layer
    assert bar.visible
    viewer.layers.selection.active = picture
    session_of(viewer).set_resolution(picture, 0.5)
    assert bar.visible, "now there is something to measure"
    QTest.qWait(10)
