"""The dock "Annotate & learn": what is offered when, the tool buttons, patient, import and export."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument, ellipse_polygon
from napari_dala.annotations.files import read_annotations, write_annotations
from napari_dala.plugin.annotate.brush import MODE, PAINTING
from napari_dala.plugin.annotate.drawing import LASSO, MOVE, RECTANGLE, SELECT
from napari_dala.plugin.viewer.slide_layers import shows_slide
from tests.plugin.buttons import press

if TYPE_CHECKING:
    from pathlib import Path

CORNERS = ((100, 100), (300, 100), (300, 200), (100, 200))


@pytest.fixture
def dock(annotate: Any, viewer: Any, small_slide: Path) -> Any:
    viewer.open(small_slide, plugin="napari-dala")
    return annotate


def test_nothing_to_draw_on(annotate: Any, viewer: Any, small_slide: Path) -> None:
    panel = annotate.panel
    assert "Open a slide" in panel.nothing.text()
    assert not panel.controls.isVisible()
    viewer.open(small_slide, plugin="napari-dala")
    assert panel.controls.isVisible()
    assert not panel.nothing.isVisible()
    assert panel.patient.placeholderText() == f"this slide ({annotate.drawing.document.fingerprint[:8]})"
    assert "0 regions" in panel.state.text()
    viewer.layers.clear()
    assert not panel.controls.isVisible()


def test_tools_and_modes_agree(qtbot: Any, dock: Any, viewer: Any, hand: Any) -> None:
    panel, drawing = dock.panel, dock.drawing

    def pressed() -> list[str]:
        return [tool for tool, button in panel.tools.items() if button.isChecked()]

    assert pressed() == [MOVE]
    for tool in panel.tools:
        press(qtbot, panel.tools[tool])
        assert drawing.tool == tool
        assert drawing.layer.mode == (MODE if tool in PAINTING else tool)
        assert panel.hint.text()
        assert pressed() == [tool]
        assert viewer.layers.selection.active is drawing.layer
    drawing.layer.mode = LASSO
    assert pressed() == [LASSO], "napari's own buttons and keys count too"
    (slide,) = [layer for layer in viewer.layers if shows_slide(layer)]
    viewer.layers.selection.active = slide
    assert pressed() == [MOVE], "another layer is in hand"
    press(qtbot, panel.tools[RECTANGLE])
    hand.drag((200, 200), (300, 300), (500, 500))
    assert "1 region" in panel.state.text()
    qtbot.waitUntil(lambda: "saved" in panel.state.text())

    assert not panel.redo_button.isEnabled()
    press(qtbot, panel.undo_button)
    assert drawing.document.annotations == ()
    assert not panel.undo_button.isEnabled()
    press(qtbot, panel.redo_button)
    press(qtbot, panel.tools[SELECT])
    hand.click(350, 350)
    press(qtbot, panel.delete_button)
    assert drawing.document.annotations == ()
    qtbot.keyClick(panel.undo_button, "z", Qt.KeyboardModifier.ControlModifier)
    assert len(drawing.document.annotations) == 1, "Ctrl+Z works in the dock too"


def test_patient(qtbot: Any, dock: Any) -> None:
    panel, drawing = dock.panel, dock.drawing
    panel.patient.setFocus()
    qtbot.keyClicks(panel.patient, "  14-22549 ")
    qtbot.keyClick(panel.patient, Qt.Key.Key_Return)
    assert drawing.document.patient == "14-22549"
    panel.patient.clear()
    qtbot.keyClick(panel.patient, Qt.Key.Key_Return)
    assert drawing.document.patient is None
    drawing.undo()
    assert drawing.document.patient == "14-22549"


def test_import_and_export(qtbot: Any, dock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panel, drawing = dock.panel, dock.drawing
    ring = shapely.Polygon(
        [(600.1, 100.2), (1000.3, 100.7), (1000.9, 500.1), (600.4, 500.6)], [[(700, 200), (900, 200), (800, 400)]]
    )
    stroma = AnnotationClass("Stroma", (9, 90, 200))
    found = AnnotationDocument(
        "of another slide",
        (stroma, AnnotationClass("Malignant", (1, 1, 1))),
        (
            Annotation.drawn(shapely.MultiPolygon([ring, shapely.box(200, 600, 400.25, 800)]), "Stroma"),
            Annotation.drawn(ellipse_polygon(CORNERS), "Malignant", ellipse=CORNERS),
        ),
    )
    drawing.edit(replace(drawing.document, annotations=(Annotation.drawn(shapely.box(5, 5, 300, 300), "benign"),)))
    path = tmp_path / "from elsewhere.geojson"
    write_annotations(found, path)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))  # modal dialogs
    press(qtbot, panel.import_button)
    qtbot.waitUntil(lambda: len(drawing.document.annotations) == 3)
    assert "another slide" in panel.told.text()
    assert [info.name for info in drawing.document.classes] == ["benign", "malignant", "Ignore", "Stroma"]
    assert [item.class_name for item in drawing.document.annotations] == ["benign", "Stroma", "malignant"]
    assert drawing.layer.nshapes == 4
    press(qtbot, panel.import_button)
    qtbot.waitUntil(lambda: len(drawing.document.annotations) == 5)
    assert len({item.id for item in drawing.document.annotations}) == 5, "imported twice they are others"
    drawing.undo()
    assert len(drawing.document.annotations) == 3

    out = tmp_path / "out.geojson"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(out), ""))
    press(qtbot, panel.export_button)
    qtbot.waitUntil(lambda: "written" in panel.told.text())
    written = read_annotations(out)
    assert written.classes == drawing.document.classes
    for one, other in zip(written.annotations, drawing.document.annotations, strict=True):
        assert one.class_name == other.class_name
        assert shapely.equals_exact(one.geometry, other.geometry, 0.01)
    assert len(written.annotations[2].geometry.exterior.coords) == 65

    assert panel.left_out.isHidden()
    content = json.loads(path.read_text())
    content["features"][1]["geometry"]["coordinates"] = [[[0, 0], [9, 9]]]
    path.write_text(json.dumps(content))
    press(qtbot, panel.import_button)
    qtbot.waitUntil(lambda: panel.left_out.isVisible())
    assert "1 of 2 features cannot be read as regions: feature 2 (" in panel.left_out.text()

    path.write_text("{")
    press(qtbot, panel.import_button)
    qtbot.waitUntil(lambda: panel.failure.isVisible())
    assert "from elsewhere.geojson" in panel.failure.text()
    assert len(drawing.document.annotations) == 4


def test_ink_becomes_regions_to_ignore(qtbot: Any, annotate: Any, viewer: Any, tmp_path: Path) -> None:
    picture = np.full((1024, 1024, 3), 244, np.uint8)
    picture[300:360, 100:900] = (60, 80, 200)
    path = tmp_path / "pen.tiff"
    resolution = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, picture, tile=(256, 256), photometric="rgb", **resolution)
    viewer.open(path, plugin="napari-dala")
    press(qtbot, annotate.panel.artefacts_button)
    qtbot.waitUntil(lambda: bool(annotate.drawing.document.annotations))
    document = annotate.drawing.document
    assert [item.class_name for item in document.annotations] == ["Ink*"]
    assert document.class_named("Ink*").ignore
    assert annotate.panel.told.text() == "1 region of ink or blur, to ignore."
    press(qtbot, annotate.panel.artefacts_button)
    qtbot.waitUntil(lambda: annotate.drawing.document is not document)
    assert len(annotate.drawing.document.annotations) == 1, "again is instead, not besides"
    press(qtbot, annotate.panel.undo_button)
    press(qtbot, annotate.panel.undo_button)
    assert annotate.drawing.document.annotations == ()
