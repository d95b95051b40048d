"""Brush, eraser and wand with a real mouse on a real window, and the keys that go with them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_dala.annotations.document import Annotation
from napari_dala.annotations.files import annotations_path, load_for
from napari_dala.annotations.labels import tiles_of
from napari_dala.plugin.annotate.brush import BRUSH, ERASER, MODE, WAND
from napari_dala.plugin.annotate.drawing import MOVE, POLYGON, SELECT
from napari_dala.plugin.annotate.keys import TOOL_KEYS
from napari_dala.plugin.viewer.slide_layers import to_slide, to_world

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.plugin.annotate.drawing import Drawing

ALT = Qt.KeyboardModifier.AltModifier


@pytest.fixture
def drawing(annotate: Any, viewer: Any, small_slide: Path) -> Drawing:
    """Of a slide on which nothing is drawn."""
    viewer.open(small_slide, plugin="napari-dala")
    return annotate.drawing


@pytest.fixture
def stroke(qtbot: Any, drawing: Drawing, hand: Any) -> Any:
    """Drag along places (x, y), level-0 px; `held` is held down."""

    def drag(*places: tuple[float, float], held: Any = Qt.KeyboardModifier.NoModifier) -> None:
        first, *rest = (hand.at(*place) for place in places)
        qtbot.mouseMove(hand.canvas, first)
        qtbot.mousePress(hand.canvas, Qt.MouseButton.LeftButton, held, first)
        for place in rest:
            qtbot.mouseMove(hand.canvas, place)
            QApplication.processEvents()
        qtbot.mouseRelease(hand.canvas, Qt.MouseButton.LeftButton, held, rest[-1] if rest else first)
        QApplication.processEvents()

    return drag


def radius(drawing: Drawing) -> float:
    """Of the tool in hand, level-0 px."""
    session = drawing.session
    return drawing.painter.brush.size / 2 / session.viewer.scene.camera.zoom / session.layer.scale[-1]


def circle(viewer: Any) -> Any:
    """What napari shows at the mouse."""
    return viewer.canvas.overlays._brush_circle


def test_paint_join_erase_and_split(qtbot: Any, drawing: Drawing, viewer: Any, hand: Any, stroke: Any) -> None:
    drawing.choose_tool(BRUSH)
    assert viewer.layers.selection.active is drawing.layer
    assert drawing.tool == BRUSH
    stroke((300, 300), (400, 300), (500, 300))
    (item,) = drawing.document.annotations
    r = radius(drawing)
    assert item.class_name == "benign"
    np.testing.assert_allclose(item.area.bounds, (300 - r, 300 - r, 500 + r, 300 + r), atol=0.15 * r)
    assert item.area.area == pytest.approx(200 * 2 * r + np.pi * r**2, rel=0.05)

    stroke((800, 300))
    assert len(drawing.document.annotations) == 2, "a click is a dab"
    stroke((480, 300), (600, 320), (820, 300))
    (joined,) = drawing.document.annotations
    assert joined.id == item.id
    assert drawing.layer.nshapes == 1

    hand.key("2")
    stroke((300, 700), (500, 700))
    assert [one.class_name for one in drawing.document.annotations] == ["benign", "malignant"]
    hand.key("1")
    stroke((650, 200), (650, 400), held=ALT)
    benign = drawing.document.annotations[0]
    assert len(shapely.get_parts(benign.area)) == 2, "it is split, and stays one region"
    assert drawing.layer.nshapes == 3

    drawing.choose_tool(ERASER)
    before = drawing.document
    stroke((400, 700))
    malignant = drawing.document.annotations[1]
    assert malignant.area.area < before.annotations[1].area.area, "no benign there, so what there is"
    assert drawing.document.annotations[0] is benign
    documents = [drawing.document]
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert drawing.document is before
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert drawing.document is documents[0]
    for _ in range(6):
        drawing.undo()
    assert drawing.document.annotations == ()
    assert drawing.layer.nshapes == 0


def test_painted_holes_are_saved_filled_and_exported(
    qtbot: Any, annotate: Any, drawing: Drawing, hand: Any, stroke: Any
) -> None:
    drawing.choose_tool(BRUSH)
    angle = np.linspace(0, 2 * np.pi, 24)
    stroke(*zip(500 + 150 * np.cos(angle), 500 + 150 * np.sin(angle), strict=True))
    (ring,) = drawing.document.annotations
    assert len(ring.geometry.interiors) == 1
    drawing.flush()
    (feature,) = json.loads(annotations_path(drawing.document.fingerprint).read_text())["features"]
    assert [len(part) > 3 for part in feature["geometry"]["coordinates"]] == [True, True], "an outline and a hole"
    (saved,) = load_for(drawing.document.fingerprint).annotations
    assert shapely.equals_exact(saved.geometry, ring.geometry, 0.01)
    qtbot.mouseClick(annotate.panel.fill_button, Qt.MouseButton.LeftButton)
    (whole,) = drawing.document.annotations
    assert len(whole.geometry.interiors) == 0
    assert whole.id == ring.id
    qtbot.mouseClick(annotate.panel.fill_button, Qt.MouseButton.LeftButton)
    assert drawing.document.annotations == (whole,)
    assert "No hole" in annotate.panel.told.text()


def test_the_circle_is_as_large_as_the_brush_at_every_zoom(
    qtbot: Any, annotate: Any, drawing: Drawing, viewer: Any, hand: Any, stroke: Any
) -> None:
    drawing.choose_tool(BRUSH)
    assert circle(viewer).visible
    assert not circle(viewer).box, "nothing hides the tissue in the middle"
    assert circle(viewer).size == 40
    viewer.scene.camera.zoom *= 3
    assert circle(viewer).size == 40
    hand.key("]")
    assert circle(viewer).size == 50
    hand.key("[")
    hand.key("[")
    assert circle(viewer).size == 32
    qtbot.keyClick(annotate.panel.undo_button, "[")
    assert circle(viewer).size < 32, "in the dock too"
    viewer.reset_view()
    for _ in range(30):
        hand.key("[")
    assert circle(viewer).size == 8
    for _ in range(30):
        hand.key("]")
    assert circle(viewer).size == 250
    drawing.choose_tool(WAND)
    assert circle(viewer).size == 120, "each tool has its own size"
    drawing.choose_tool(SELECT)
    assert not circle(viewer).visible
    drawing.choose_tool(BRUSH)
    assert circle(viewer).size == 250


def test_space_moves_the_view_and_the_brush_comes_back(qtbot: Any, drawing: Drawing, viewer: Any, hand: Any) -> None:
    drawing.choose_tool(BRUSH)
    qtbot.keyPress(hand.canvas, Qt.Key.Key_Space)
    assert drawing.tool == MOVE
    before = viewer.scene.camera.center
    hand.drag((400, 400), (450, 450), (500, 500))
    qtbot.keyRelease(hand.canvas, Qt.Key.Key_Space)
    assert viewer.scene.camera.center != before
    assert drawing.document.annotations == ()
    assert drawing.tool == BRUSH
    assert circle(viewer).size == 40
    hand.drag((400, 400), (450, 450))
    assert len(drawing.document.annotations) == 1


def test_tools_by_key_and_button(qtbot: Any, annotate: Any, drawing: Drawing, viewer: Any, hand: Any) -> None:
    drawing.choose_tool(SELECT)
    for key, tool in TOOL_KEYS.items():
        hand.key(key)
        assert drawing.tool == tool
        assert drawing.layer.mode == MODE
        assert annotate.panel.tools[tool].isChecked()
    qtbot.keyClick(annotate.panel.undo_button, "b")
    assert drawing.tool == BRUSH
    qtbot.keyClicks(annotate.panel.patient, "wb[")
    assert drawing.tool == BRUSH, "a text field takes what is typed"
    assert annotate.panel.patient.text() == "wb["


def test_the_wand_takes_what_looks_alike(qtbot: Any, annotate: Any, viewer: Any, hand: Any, tmp_path: Path) -> None:
    pixels = np.full((1000, 1200, 3), (235, 190, 215), np.uint8)
    rows, columns = np.ogrid[:1000, :1200]
    pixels[np.hypot(rows - 500, columns - 600) < 60] = (110, 60, 140)
    pixels[np.hypot(rows - 500, columns - 760) < 60] = (110, 60, 140)
    viewer.add_image(pixels, rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    drawing = annotate.drawing
    drawing.choose_tool(WAND)
    viewer.scene.camera.center = (0.0, *to_world(drawing.session.layer, 680, 500))
    viewer.scene.camera.zoom = 4  # two pixels of the screen to one of the slide
    drawing.painter.brush.resize(5)
    hand.click(600, 500)
    qtbot.waitUntil(lambda: len(drawing.document.annotations) == 1)
    disc = shapely.Point(600, 500).buffer(60)
    (item,) = drawing.document.annotations
    assert item.area.intersection(disc).area / item.area.union(disc).area > 0.85
    hand.drag((600, 500), (680, 500), (760, 500))
    qtbot.waitUntil(lambda: drawing.document.annotations[0].area.contains(shapely.Point(760, 500)))
    area = drawing.document.annotations[0].area
    assert area.contains(shapely.Point(600, 500))
    qtbot.mouseMove(hand.canvas, hand.at(600, 500))
    qtbot.mouseClick(hand.canvas, Qt.MouseButton.LeftButton, ALT, hand.at(600, 500))
    qtbot.waitUntil(lambda: drawing.document.annotations[0].area.area < area.area)
    assert not drawing.document.annotations[0].area.contains(shapely.Point(600, 500))


def test_backspace_takes_the_last_corner_back(qtbot: Any, drawing: Drawing, viewer: Any, hand: Any) -> None:
    def click(*place: float) -> None:
        """Once the mouse has come there: the last corner of a polygon follows it."""
        qtbot.mouseMove(hand.canvas, hand.at(*place))
        layer = drawing.session.layer
        qtbot.waitUntil(lambda: np.allclose(to_slide(layer, viewer.cursor.position), place, atol=5))
        hand.click(*place)

    drawing.choose_tool(POLYGON)
    for corner in ((200, 200), (500, 200), (900, 900)):
        click(*corner)
    hand.key(Qt.Key.Key_Backspace)
    click(500, 500)
    hand.key(Qt.Key.Key_Backspace)
    click(500, 500)
    click(200, 500)
    hand.key(Qt.Key.Key_Escape)
    (item,) = drawing.document.annotations
    corners = shapely.get_coordinates(item.geometry)[:-1]
    np.testing.assert_allclose(corners, ((200, 200), (500, 200), (500, 500), (200, 500)), atol=4)

    click(700, 700)
    click(800, 700)
    for _ in range(2):
        hand.key(Qt.Key.Key_Backspace)
    qtbot.waitUntil(lambda: drawing.layer.nshapes == 1)
    assert not drawing.layer._is_creating
    assert drawing.document.annotations == (item,), "and what was drawn before is still there"
    drawing.choose_tool(SELECT)
    hand.click(350, 350)
    hand.key(Qt.Key.Key_Backspace)
    assert drawing.document.annotations == ()


def test_t_labels_the_tile_under_the_mouse(qtbot: Any, annotate: Any, drawing: Drawing, viewer: Any, hand: Any) -> None:
    viewer.layers.selection.active = drawing.session.layer
    annotate.panel.undo_button.setFocus()
    for (x, y), key in (((300, 100), "1"), ((900, 500), "2"), ((300, 100), "2")):
        drawing.choose_digit(int(key))
        qtbot.mouseMove(hand.canvas, hand.at(x, y))
        QApplication.processEvents()
        qtbot.keyClick(viewer.window._qt_window, "t")
    grid = drawing.painter._grid()
    found = tiles_of(drawing.document, grid, ["benign", "malignant"])
    assert list(zip(found.row, found.column, strict=True)) == sorted([grid.at(300, 100), grid.at(900, 500)])
    assert found.label.tolist() == [1, 1], "labelled again it has the new class alone"
    assert len(drawing.document.annotations) == 2
    drawing.choose_tool(BRUSH)
    qtbot.mouseMove(hand.canvas, hand.at(300, 900))
    hand.key("t")
    assert len(drawing.document.annotations) == 3
    assert drawing.tool == BRUSH
    drawing.undo()
    assert len(drawing.document.annotations) == 2
    viewer.scene.camera.zoom /= 2
    qtbot.mouseMove(hand.canvas, hand.at(-100, 900))
    hand.key("t")
    assert len(drawing.document.annotations) == 2
    assert "tile" in annotate.panel.told.text()


def test_nothing_to_erase_is_said(qtbot: Any, annotate: Any, drawing: Drawing, stroke: Any) -> None:
    drawing.choose_tool(ERASER)
    before = drawing.document
    stroke((300, 300), (400, 300))
    assert drawing.document is before
    assert not drawing.can_undo
    assert "take away" in annotate.panel.told.text()


def test_a_turned_and_stretched_slide_is_painted_round_on_the_screen(
    drawing: Drawing, viewer: Any, stroke: Any
) -> None:
    layer = drawing.session.layer
    layer.rotate, layer.scale = 30, (layer.scale[0] * 2, layer.scale[1])
    viewer.reset_view()
    drawing.choose_tool(BRUSH)
    stroke((500, 500))
    (item,) = drawing.document.annotations
    left, top, right, bottom = item.area.bounds
    assert (right - left) / (bottom - top) == pytest.approx(2, rel=0.1)
    assert (left + right) / 2 == pytest.approx(500, abs=0.1 * (right - left))


def test_what_differs_alone_is_drawn_anew(qtbot: Any, drawing: Drawing, stroke: Any, monkeypatch: Any) -> None:
    boxes = tuple(Annotation.drawn(shapely.box(40 * n, 900, 40 * n + 20, 920), "malignant") for n in range(20))
    drawing.edit(replace(drawing.document, annotations=boxes))
    drawing.choose_tool(BRUSH)
    added, real = [], drawing.layer.add
    monkeypatch.setattr(drawing.layer, "add", lambda data, **how: added.extend(data) or real(data, **how))
    stroke((300, 300), (400, 300))
    stroke((400, 300), (500, 300))
    assert len(added) == 2
    assert drawing.layer.nshapes == 21
