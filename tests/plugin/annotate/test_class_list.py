"""The class list: names, colours, ticks and the row to draw with, the same in the list and on the slide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QApplication, QColorDialog, QLineEdit

from napari_dala.annotations.document import Annotation, AnnotationClass, class_of_digit, digits_of
from napari_dala.annotations.files import load_for
from napari_dala.model.card import UNTRAINED_CARD, ClassInfo
from napari_dala.plugin.annotate.class_list import COLOR, IGNORED, KEY, NAME
from napari_dala.plugin.annotate.drawing import SELECT
from napari_dala.results.loaded import load
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.plugin.annotate.class_list import ClassList


@pytest.fixture
def classes(annotate: Any, viewer: Any, small_slide: Path) -> ClassList:
    """The list of a slide with one benign region."""
    viewer.open(small_slide, plugin="napari-dala")
    drawing = annotate.drawing
    region = Annotation.drawn(shapely.box(200, 200, 500, 500), "benign")
    drawing.edit(replace(drawing.document, annotations=(region,)))
    return annotate.panel.class_list


def names(classes: ClassList) -> list[str]:
    return [classes.table.item(row, NAME).text() for row in range(classes.table.rowCount())]


def click(qtbot: Any, classes: ClassList, row: int, column: int) -> None:
    place = classes.table.visualItemRect(classes.table.item(row, column)).center()
    qtbot.mouseClick(classes.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    QApplication.processEvents()


def test_digits() -> None:
    twelve = tuple(AnnotationClass(str(number), (0, 0, 0), ignore=number == 3) for number in range(1, 13))
    assert [class_of_digit(twelve, digit).name for digit in (1, 9, 0)] == ["1", "9", "10"]
    four = twelve[:4]
    assert class_of_digit(four, 0).name == "3", "0 is the class to ignore where there is no tenth"
    assert class_of_digit(four, 5) is None
    assert class_of_digit(twelve[:2], 0) is None
    assert digits_of(four, four[2]) == [3, 0]
    assert digits_of(twelve, twelve[10]) == []


def test_the_models_classes_and_one_to_ignore(classes: ClassList) -> None:
    assert names(classes) == ["benign", "malignant", "Ignore"]
    assert [classes.table.item(row, KEY).text() for row in range(3)] == ["1", "2", "3/0"]
    ticks = [classes.table.item(row, IGNORED).checkState() == Qt.CheckState.Checked for row in range(3)]
    assert ticks == [False, False, True]
    colors = [info.color for info in classes._drawing.document.classes[:2]]
    assert colors == [entry.color for entry in UNTRAINED_CARD.classes]


def test_the_classes_of_results(annotate: Any, viewer: Any, small_slide: Path, painted: Any, tmp_path: Path) -> None:
    viewer.open(small_slide, plugin="napari-dala")
    grid = TileGrid.over(open_slide(small_slide), 224, 0.5)
    infos = (ClassInfo(name="papilloma", color=(1, 2, 3)), ClassInfo(name="phyllodes", color=(4, 5, 6)))
    painted(tmp_path, grid, UNTRAINED_CARD.model_copy(update={"classes": infos}))
    session = annotate.drawing.session
    session.show(session.layer, load(tmp_path))
    assert names(annotate.panel.class_list) == ["papilloma", "phyllodes", "Ignore"]
    assert not annotate.drawing.can_undo
    assert load_for(annotate.drawing.document.fingerprint) is None, "what nobody drew is not saved"


def test_the_row_the_digits_and_the_layer_agree(qtbot: Any, classes: ClassList, hand: Any) -> None:
    drawing = classes._drawing
    drawing.choose_tool(SELECT)
    assert classes.chosen.name == drawing.class_name == "benign"
    hand.key("2")
    assert classes.chosen.name == "malignant"
    assert drawing.layer.feature_defaults["class"][0] == "malignant"
    click(qtbot, classes, 2, NAME)
    assert drawing.class_name == "Ignore"
    assert drawing.layer.feature_defaults["class"][0] == "Ignore"
    np.testing.assert_allclose(drawing.layer._current_edge_color[0, :3], np.array([70, 70, 70]) / 255, atol=1e-6)
    assert drawing.document.annotations[0].class_name == "benign", "nothing is selected"
    hand.click(350, 350)
    click(qtbot, classes, 2, NAME)
    assert drawing.document.annotations[0].class_name == "Ignore"
    drawing.undo()
    assert drawing.document.annotations[0].class_name == "benign"


def test_rename(qtbot: Any, classes: ClassList) -> None:
    drawing = classes._drawing
    drawing.choose_tool(SELECT)
    item = classes.table.item(0, NAME)
    place = classes.table.visualItemRect(item).center()
    qtbot.mouseClick(classes.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(classes.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    (editor,) = classes.table.findChildren(QLineEdit)
    editor.selectAll()
    qtbot.keyClicks(editor, "normal duct")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: names(classes)[0] != "benign")
    assert names(classes) == ["normal duct", "malignant", "Ignore"]
    assert drawing.document.annotations[0].class_name == "normal duct"
    assert list(drawing.layer.features["class"]) == ["normal duct"]
    assert drawing.class_name == "normal duct"
    classes.table.item(0, NAME).setText("MALIGNANT")
    assert names(classes) == ["normal duct", "malignant", "Ignore"]
    assert "already" in classes.problem.text()
    classes.table.item(0, NAME).setText("  ")
    assert names(classes)[0] == "normal duct"
    drawing.undo()
    assert names(classes)[0] == "benign"
    assert drawing.document.annotations[0].class_name == "benign"
    drawing.flush()
    assert load_for(drawing.document.fingerprint).classes == drawing.document.classes


def test_add_and_remove(qtbot: Any, classes: ClassList) -> None:
    drawing = classes._drawing
    qtbot.mouseClick(classes.add_button, Qt.MouseButton.LeftButton)
    assert names(classes) == ["benign", "malignant", "Class 4", "Ignore"]
    assert drawing.class_name == "Class 4"
    assert drawing.document.classes[2].color not in [info.color for info in drawing.document.classes[:2]]
    assert classes.table.item(3, KEY).text() == "4/0"
    (editor,) = classes.table.findChildren(QLineEdit)
    editor.selectAll()
    qtbot.keyClicks(editor, "stroma")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: names(classes)[2] == "stroma")
    assert drawing.class_name == "stroma"
    click(qtbot, classes, 0, NAME)
    assert not classes.remove_button.isEnabled(), "it is used"
    click(qtbot, classes, 2, NAME)
    qtbot.mouseClick(classes.remove_button, Qt.MouseButton.LeftButton)
    assert names(classes) == ["benign", "malignant", "Ignore"]
    drawing.undo()
    assert names(classes)[2] == "stroma"


def test_colour_and_ignore(qtbot: Any, classes: ClassList, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = classes._drawing
    drawing.choose_tool(SELECT)
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor(10, 200, 30))  # a modal dialog
    click(qtbot, classes, 0, COLOR)
    assert drawing.document.classes[0].color == (10, 200, 30)
    np.testing.assert_allclose(drawing.layer.edge_color[0, :3], np.array([10, 200, 30]) / 255, atol=1e-6)
    assert drawing.layer.face_color[0, 3] < 0.5, "the tissue shows through"
    classes.table.item(1, IGNORED).setCheckState(Qt.CheckState.Checked)
    assert drawing.document.classes[1].ignore
    assert classes.table.item(1, KEY).text() == "2/0"
    drawing.undo()
    drawing.undo()
    assert not drawing.document.classes[1].ignore
    assert drawing.document.classes[0].color == UNTRAINED_CARD.classes[0].color
