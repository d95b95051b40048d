"""The dock Slides in a real window: a folder is dropped, slides are walked, analysed, ticked, written on, exported."""

from __future__ import annotations

import csv
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shapely
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QLineEdit

from napari_dala.annotations.document import Annotation
from napari_dala.annotations.files import load_for
from napari_dala.annotations.slides import listed_slides
from napari_dala.model.catalog import TEACHING
from napari_dala.plugin.viewer.session import session_of
from napari_dala.slide.teaching.slide import teaching_slide

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_dala.plugin.slides.dock import SlidesWidget
    from napari_dala.plugin.warm_child import WarmChild

LONG = 240_000  # the child has the lowest priority, and shares the cores
CTRL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three drawn slides of 9 tiles."""
    folder = tmp_path_factory.mktemp("three")
    for seed in (1, 2, 10):
        teaching_slide(folder / f"S{seed}.tif", 672, seed)
    return folder


@pytest.fixture
def folder(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "folder"))


@pytest.fixture
def slides(viewer: Viewer, child: WarmChild, qtbot: Any) -> SlidesWidget:
    """The dock, opened as from napari's menu."""
    _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Slides")
    dock.model_box.choose_card(TEACHING)
    qtbot.wait(100)
    window = viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    return dock


def drop_on(dock: SlidesWidget, *paths: Path) -> None:
    """Drop files on the table, as the desktop does."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    how = Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entered = QDragEnterEvent(QPoint(20, 20), *how)
    QApplication.sendEvent(dock, entered)
    assert entered.isAccepted()
    QApplication.sendEvent(dock, QDropEvent(QPointF(20, 20), *how, QEvent.Type.Drop))


@pytest.fixture
def filled(slides: SlidesWidget, folder: Path, qtbot: Any) -> SlidesWidget:
    drop_on(slides, folder)
    qtbot.waitUntil(lambda: slides.told.text() == "3 slides added.", timeout=LONG)
    return slides


def shown(dock: SlidesWidget, title: str) -> list[str]:
    """Return a column as it is shown, from top to bottom."""
    column = next(at for at, one in enumerate(dock.model.columns) if one.title == title)
    return [dock.order.index(row, column).data() for row in range(dock.order.rowCount())]


def cell(dock: SlidesWidget, row: int, title: str) -> QPoint:
    """Return the middle of a cell, brought into sight."""
    column = next(at for at, one in enumerate(dock.model.columns) if one.title == title)
    index = dock.order.index(row, column)
    dock.table.scrollTo(index)
    return dock.table.visualRect(index).center()


def type_into(qtbot: Any, dock: SlidesWidget, row: int, title: str, text: str) -> None:
    """Double-click a cell and type, as the user does."""
    at, viewport = cell(dock, row, title), dock.table.viewport()
    qtbot.mouseClick(viewport, Qt.MouseButton.LeftButton, pos=at)
    qtbot.mouseDClick(viewport, Qt.MouseButton.LeftButton, pos=at)
    field = QApplication.focusWidget()
    assert isinstance(field, QLineEdit)
    qtbot.keyClicks(field, text)
    dock.model.put(dock.order.row_at(row))  # as a queue does, again and again
    qtbot.keyClick(field, Qt.Key.Key_Return)
    QApplication.processEvents()


def open_name(viewer: Viewer) -> str | None:
    slide = session_of(viewer).open_slide()
    return slide.path.stem if slide else None


def walk_to(viewer: Viewer, qtbot: Any, dock: SlidesWidget, key: Qt.Key, name: str) -> None:
    qtbot.keyClick(dock.table, key, CTRL)
    qtbot.waitUntil(lambda: open_name(viewer) == name, timeout=LONG)


def analysed(dock: SlidesWidget, qtbot: Any) -> None:
    qtbot.mouseClick(dock.runs.run_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dock.queue.is_running, timeout=LONG)
    qtbot.waitUntil(lambda: shown(dock, "Status") == ["done"] * 3, timeout=LONG)


def test_a_dropped_folder_is_a_list_with_pictures(slides: SlidesWidget, folder: Path, qtbot: Any) -> None:
    assert slides.empty.isVisible()
    (folder / "broken.svs").write_bytes(b"no slide")
    drop_on(slides, folder)
    qtbot.waitUntil(lambda: slides.told.text().startswith("3 slides added. Cannot be read: broken"), timeout=LONG)
    assert not slides.empty.isVisible()
    assert shown(slides, "Slide") == ["S1", "S2", "S10"], "as people count"
    assert shown(slides, "Status") == ["not analysed"] * 3
    icon = slides.order.index(0, 0).data(Qt.ItemDataRole.DecorationRole)
    assert not icon.isNull()
    assert slides.total.text() == "3 slides · 0 done"


def test_sort_and_search(filled: SlidesWidget, qtbot: Any) -> None:
    header = filled.table.horizontalHeader()
    at = QPoint(header.sectionViewportPosition(0) + 20, header.height() // 2)
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert shown(filled, "Slide") == ["S10", "S2", "S1"]
    qtbot.keyClicks(filled.search, "not s1")
    assert shown(filled, "Slide") == ["S10", "S1"]
    assert filled.total.text() == "3 slides · 0 done · 2 shown"
    filled.search.clear()
    assert len(shown(filled, "Slide")) == 3


def test_all_are_analysed_without_being_opened(filled: SlidesWidget, viewer: Viewer, qtbot: Any) -> None:
    seen: set[str] = set()
    filled.queue.changed.connect(lambda: seen.update(shown(filled, "Status")))
    analysed(filled, qtbot)
    assert not viewer.layers
    assert "waiting" in seen
    assert any(state.startswith("running") for state in seen)
    assert filled.runs.text.text() == "3 slides of 3 analysed."
    assert filled.total.text() == "3 slides · 3 done"
    shares = [shown(filled, name) for name in ("malignant", "benign")]
    assert all(text for column in shares for text in column)
    qtbot.mouseClick(filled.runs.run_button, Qt.MouseButton.LeftButton)
    assert filled.told.text() == f"“{TEACHING}” has nothing left to do here."
    filled.model_box.choose_card("untrained")
    qtbot.waitUntil(lambda: shown(filled, "Status") == ["other model"] * 3, timeout=LONG)
    assert set(shown(filled, "malignant")) == {""}


def test_a_queue_is_stopped_and_goes_on(filled: SlidesWidget, qtbot: Any) -> None:
    qtbot.mouseClick(filled.runs.run_button, Qt.MouseButton.LeftButton)
    assert not filled.runs.run_button.isEnabled()
    qtbot.mouseClick(filled.runs.cancel_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not filled.queue.is_running, timeout=LONG)
    assert filled.runs.text.text() == "Stopped: 0 slides of 3 analysed. It goes on from here."
    assert "waiting" not in shown(filled, "Status")
    analysed(filled, qtbot)


def test_only_those_selected_are_analysed_and_who_cannot_be_is_named(
    filled: SlidesWidget, folder: Path, qtbot: Any
) -> None:
    (folder / "S2.tif").unlink()
    filled.reader.read_all(filled.entry)
    qtbot.waitUntil(lambda: "missing" in filled.total.text(), timeout=LONG)
    filled.table.selectRow(0)
    qtbot.mouseClick(
        filled.table.viewport(),
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.ControlModifier,
        cell(filled, 1, "Status"),
    )
    assert filled.runs.run_button.text() == "▶  Analyze 2 slides"
    qtbot.mouseClick(filled.runs.run_button, Qt.MouseButton.LeftButton)
    assert filled.error.text() == "1 slide left out: its file is missing"
    qtbot.waitUntil(lambda: not filled.queue.is_running, timeout=LONG)
    qtbot.waitUntil(
        lambda: shown(filled, "Status") == ["done", "not analysed, file missing", "not analysed"], timeout=LONG
    )


def test_one_slide_that_fails_does_not_stop_the_others(filled: SlidesWidget, folder: Path, qtbot: Any) -> None:
    (folder / "S1.tif").write_bytes(b"II*\0 no longer a slide")
    qtbot.mouseClick(filled.runs.run_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not filled.queue.is_running, timeout=LONG)
    assert filled.runs.text.text() == "2 slides of 3 analysed."
    assert filled.error.text().startswith("S1.tif: ")
    qtbot.waitUntil(lambda: shown(filled, "Status") == ["failed", "done", "done"], timeout=LONG)


def test_keys_walk_the_list_and_each_slide_comes_back_as_it_was_left(
    filled: SlidesWidget, viewer: Viewer, qtbot: Any
) -> None:
    analysed(filled, qtbot)
    session, drawing = session_of(viewer), filled.walk.drawing
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, "S1")
    qtbot.waitUntil(lambda: drawing.document is not None and len(session.results.present) > 2, timeout=LONG)
    square = Annotation.drawn(shapely.box(10, 10, 200, 200), "malignant")
    drawing.edit(replace(drawing.document, annotations=(square,)))
    assert shown(filled, "Regions")[0] == "1", "before it is saved"
    session.results.cam.visible, session.results.probability.opacity = True, 0.33
    session.set_threshold(0.8)
    viewer.scene.camera.zoom, viewer.scene.camera.center = 7.5, (0, 40, 30)
    before = viewer.scene.camera.center
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, "S2")
    assert [one.name for one in session.slide_layers] == ["S2"], "the next takes the place of the one in hand"
    assert not [layer.name for layer in viewer.layers if "S1" in layer.name]
    assert session.results is not None
    assert session.results.cam.visible, "looked at as the one before"
    assert viewer.scene.camera.zoom != 7.5
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Left, "S1")
    qtbot.waitUntil(lambda: drawing.document is not None and drawing.layer is not None, timeout=LONG)
    assert [one.geometry for one in drawing.document.annotations] == [square.geometry]
    assert (session.results.cam.visible, session.results.probability.opacity) == (True, 0.33)
    assert session.results.threshold == 0.8
    assert viewer.scene.camera.zoom == 7.5
    assert viewer.scene.camera.center == pytest.approx(before)
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, "S2")
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, "S10")
    qtbot.keyClick(filled.table, Qt.Key.Key_Right, CTRL)
    qtbot.wait(100)
    assert open_name(viewer) == "S10", "the last one"
    qtbot.mouseClick(filled.previous_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: open_name(viewer) == "S2", timeout=LONG)


@pytest.mark.timed
def test_the_next_slide_is_there_with_its_map_in_under_a_second(
    filled: SlidesWidget, viewer: Viewer, qtbot: Any
) -> None:
    analysed(filled, qtbot)
    session, seconds = session_of(viewer), []
    for name in ("S1", "S2", "S10"):
        start = time.perf_counter()
        walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, name)
        qtbot.waitUntil(lambda: session.results is not None, timeout=LONG)
        seconds.append(time.perf_counter() - start)
        qtbot.wait(300)
    assert sorted(seconds)[1] < 1, seconds


def test_a_double_click_opens_and_two_at_once_open_the_last(filled: SlidesWidget, viewer: Viewer, qtbot: Any) -> None:
    at, viewport = cell(filled, 2, "Slide"), filled.table.viewport()
    qtbot.mouseClick(viewport, Qt.MouseButton.LeftButton, pos=at)
    qtbot.mouseDClick(viewport, Qt.MouseButton.LeftButton, pos=at)
    qtbot.waitUntil(lambda: open_name(viewer) == "S10", timeout=LONG)
    qtbot.keyClick(filled.table, Qt.Key.Key_Left, CTRL)
    qtbot.keyClick(filled.table, Qt.Key.Key_Left, CTRL)
    qtbot.waitUntil(lambda: open_name(viewer) == "S1", timeout=LONG)
    assert [one.name for one in session_of(viewer).slide_layers] == ["S1"]


def test_patient_remark_and_resolution_are_typed_into_the_table(
    filled: SlidesWidget, viewer: Viewer, qtbot: Any
) -> None:
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, "S1")
    qtbot.waitUntil(lambda: filled.walk.drawing.document is not None, timeout=LONG)
    type_into(qtbot, filled, 0, "Patient", "P 1")
    assert filled.walk.drawing.document.patient == "P 1", "an open slide's is in the window"
    type_into(qtbot, filled, 1, "Patient", "P 2")
    type_into(qtbot, filled, 1, "Remark", "look again")
    type_into(qtbot, filled, 1, "µm/px", "0,25")
    type_into(qtbot, filled, 0, "µm/px", "0.3")
    qtbot.waitUntil(lambda: shown(filled, "µm/px") == ["0.3", "0.25", "0.5"], timeout=LONG)
    assert session_of(viewer).open_slide().mpp == (0.3, 0.3)
    qtbot.waitUntil(lambda: shown(filled, "Patient") == ["P 1", "P 2", ""], timeout=LONG)
    qtbot.waitUntil(lambda: shown(filled, "Remark")[1] == "look again", timeout=LONG)
    filled.walk.drawing.flush()
    first, second = (next(one for one in listed_slides() if one.name == name) for name in ("S1", "S2"))
    assert (load_for(first.fingerprint).patient, load_for(second.fingerprint).patient) == ("P 1", "P 2")
    assert first.given_mpp == (0.3, 0.3)
    type_into(qtbot, filled, 1, "µm/px", "250")
    assert "0.02 to 20" in filled.error.text()
    assert shown(filled, "µm/px")[1] == "0.25"
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, "S2")
    assert session_of(viewer).open_slide().mpp == (0.25, 0.25), "it opens as the user said"


def test_a_missing_slide_says_so_and_is_found_where_it_is_now(
    filled: SlidesWidget, viewer: Viewer, folder: Path, tmp_path: Path, qtbot: Any
) -> None:
    (tmp_path / "archive").mkdir()
    (folder / "S2.tif").rename(tmp_path / "archive" / "renamed.tif")
    filled.reader.read_all(filled.entry)
    qtbot.waitUntil(lambda: filled.total.text() == "3 slides · 0 done · 1 missing", timeout=LONG)
    assert "file missing" in shown(filled, "Status")[1]
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, "S1")
    walk_to(viewer, qtbot, filled, Qt.Key.Key_Right, "S10")  # which passes over it
    filled.open(filled.order.row_at(1))
    qtbot.waitUntil(lambda: "no longer where it was" in filled.error.text(), timeout=LONG)
    assert open_name(viewer) == "S10"
    filled.find_missing([tmp_path / "archive"])
    qtbot.waitUntil(lambda: filled.told.text() == "1 found again.", timeout=LONG)
    assert shown(filled, "Slide") == ["renamed", "S1", "S10"]


def test_a_missing_slide_that_is_opened_elsewhere_is_known_there(
    filled: SlidesWidget, viewer: Viewer, folder: Path, tmp_path: Path, qtbot: Any
) -> None:
    (folder / "S2.tif").rename(tmp_path / "S2 moved.tif")
    filled.reader.read_all(filled.entry)
    qtbot.waitUntil(lambda: "1 missing" in filled.total.text(), timeout=LONG)
    viewer.open(tmp_path / "S2 moved.tif", plugin="napari-dala")
    qtbot.waitUntil(lambda: shown(filled, "Slide") == ["S1", "S2 moved", "S10"], timeout=LONG)
    assert filled.total.text() == "3 slides · 0 done"


def test_ticks_are_what_learn_learns_from(filled: SlidesWidget, viewer: Viewer, qtbot: Any) -> None:
    type_into(qtbot, filled, 2, "Patient", "P")  # so that there is something of it beside its file
    qtbot.waitUntil(lambda: shown(filled, "Patient")[2] == "P", timeout=LONG)
    _, annotate = viewer.window.add_plugin_dock_widget("napari-dala", "Annotate & learn")
    viewer.window._qt_window.activateWindow()
    learned = annotate.learn.slides
    qtbot.waitUntil(lambda: learned.count() == 1, timeout=LONG)
    assert annotate.learn.chosen == []
    box = filled.table.visualRect(filled.order.index(2, 0)).topLeft() + QPoint(10, 22)
    filled.come_forward()
    qtbot.wait(100)
    qtbot.mouseClick(filled.table.viewport(), Qt.MouseButton.LeftButton, pos=box)
    assert [one.name for one in annotate.learn.chosen] == ["S10"]
    learned.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert filled.order.index(2, 0).data(Qt.ItemDataRole.CheckStateRole) == Qt.CheckState.Unchecked


def test_the_table_is_exported_as_it_is_shown(filled: SlidesWidget, tmp_path: Path, qtbot: Any) -> None:
    analysed(filled, qtbot)
    qtbot.keyClicks(filled.search, "s1")
    filled.export(tmp_path / "out" / "slides.csv")
    qtbot.waitUntil(lambda: filled.told.text() == "Written: slides.csv and slides-regions.csv.", timeout=LONG)
    with (tmp_path / "out" / "slides.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["slide"], row["status"], row["model"]) for row in rows] == [
        ("S1", "done", TEACHING), ("S10", "done", TEACHING),
    ]  # fmt: skip
    assert (tmp_path / "out" / "slides-regions.csv").read_text().count("found") > 1


def test_a_slide_that_is_opened_otherwise_comes_into_the_list_and_can_be_taken_off(
    slides: SlidesWidget, viewer: Viewer, folder: Path, qtbot: Any
) -> None:
    viewer.open(folder / "S1.tif", plugin="napari-dala")
    qtbot.waitUntil(lambda: shown(slides, "Slide") == ["S1"], timeout=LONG)
    slides.take_off(slides.order.row_at(0))
    qtbot.waitUntil(lambda: slides.order.rowCount() == 0, timeout=LONG)
    assert open_name(viewer) == "S1"
    slides.add([folder / "S1.tif"])
    qtbot.waitUntil(lambda: shown(slides, "Slide") == ["S1"], timeout=LONG)


def test_long_names_have_the_room_that_a_wide_dock_leaves(
    slides: SlidesWidget, folder: Path, viewer: Viewer, qtbot: Any
) -> None:
    first = sorted(folder.iterdir())[0]
    first.rename(first.with_stem("H23-004711_A1_HE_breast-core-left"))
    slides.add([folder])
    qtbot.waitUntil(lambda: slides.model.rowCount() > 1, timeout=20_000)
    qtbot.waitUntil(lambda: slides.table.columnWidth(0) > 126)
    shown = sum(map(slides.table.columnWidth, range(3)))
    assert shown <= slides.table.viewport().width() + 1, "status and the first share are in sight"
