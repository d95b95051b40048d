"""Drawing with a real mouse on a real window: what is drawn is what is saved, and comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from qtpy.QtCore import Qt

from napari_dala.annotations.document import Annotation, AnnotationDocument, class_of_digit, ellipse_polygon
from napari_dala.annotations.files import annotations_path, load_for, previous_of, save_for, write_annotations
from napari_dala.annotations.shapes import to_shapes
from napari_dala.annotations.slides import annotated_slides
from napari_dala.plugin.annotate import autosave
from napari_dala.plugin.annotate.autosave import Autosave
from napari_dala.plugin.annotate.brush import BRUSH
from napari_dala.plugin.annotate.drawing import CORNERS, ELLIPSE, LASSO, MOVE, POLYGON, RECTANGLE, SELECT, drawing_of
from napari_dala.plugin.annotate.history import History
from napari_dala.plugin.viewer.slide_layers import set_mpp
from napari_dala.results.loaded import load
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.plugin.annotate.drawing import Drawing

SQUARE = ((200, 200), (500, 200), (500, 500), (200, 500))


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    return shapely.box(left, top, right, bottom)


def with_hole() -> Annotation:
    ring = shapely.Polygon(
        [(600.1, 100.2), (1000.3, 100.7), (1000.9, 500.1), (600.4, 500.6)], [[(700, 200), (900, 200), (800, 400)]]
    )
    return Annotation.drawn(ring, "malignant")


@pytest.fixture
def drawing(annotate: Any, viewer: Any, small_slide: Path) -> Drawing:
    """Of a slide on which nothing is drawn."""
    viewer.open(small_slide, plugin="napari-dala")
    assert annotate.drawing.document.annotations == ()
    return annotate.drawing


def reach(drawing: Drawing) -> float:
    """How far the mouse may be off, level-0 px: one screen px."""
    camera = drawing.session.viewer.scene.camera
    return 1.5 / (camera.zoom * drawing.session.layer.scale[-1])


def shown(drawing: Drawing) -> dict[tuple[str, int], Any]:
    """What the layer shows."""
    table = drawing.layer.features
    assert len(table) == drawing.layer.nshapes
    keys = zip(table["annotation"], table["part"], strict=True)
    return dict(zip(keys, drawing.layer.data, strict=True))


def check_layer(drawing: Drawing) -> None:
    """The layer shows the document: vertices, classes and colours."""
    wanted = {(s.annotation, s.part): s for item in drawing.document.annotations for s in to_shapes(item)}
    there = shown(drawing)
    assert there.keys() == wanted.keys()
    for key, vertices in there.items():
        np.testing.assert_array_equal(vertices, wanted[key].vertices.astype(np.float32))
    for name, label, color in zip(
        drawing.layer.features["annotation"], drawing.layer.features["class"], drawing.layer.edge_color, strict=True
    ):
        item = next(item for item in drawing.document.annotations if item.id == name)
        assert label == (item.class_name or "")
        info = drawing.document.class_named(item.class_name)
        np.testing.assert_allclose(color[:3], np.array(info.color if info else (128,) * 3) / 255, atol=1e-6)


def test_draw_with_each_tool_save_and_read_back(qtbot: Any, drawing: Drawing, hand: Any) -> None:
    assert drawing.layer is None
    assert drawing.tool == MOVE
    drawing.choose_tool(POLYGON)
    hand.polygon(*SQUARE)
    hand.key("2")
    drawing.choose_tool(RECTANGLE)
    hand.drag((600, 200), (700, 300), (900, 400))
    hand.key("0")
    drawing.choose_tool(ELLIPSE)
    hand.drag((200, 600), (300, 700), (500, 800))
    hand.key("1")
    drawing.choose_tool(LASSO)
    angle = np.linspace(0, 2 * np.pi, 24)
    circle = [(750 + 150 * np.cos(a), 750 + 150 * np.sin(a)) for a in angle]
    hand.drag(*circle)

    polygon, rectangle, ellipse, lasso = drawing.document.annotations
    assert [item.class_name for item in (polygon, rectangle, ellipse, lasso)] == [
        "benign", "malignant", "Ignore", "benign"
    ]  # fmt: skip
    tolerance = reach(drawing)
    corners = shapely.get_coordinates(polygon.geometry)[:-1]
    np.testing.assert_allclose(corners, SQUARE, atol=tolerance)
    np.testing.assert_allclose(rectangle.geometry.bounds, (600, 200, 900, 400), atol=tolerance)
    np.testing.assert_allclose(ellipse.geometry.bounds, (200, 600, 500, 800), atol=tolerance)
    assert len(ellipse.geometry.exterior.coords) == 65
    assert shapely.equals_exact(ellipse.geometry, ellipse_polygon(ellipse.ellipse))
    assert lasso.geometry.hausdorff_distance(shapely.Polygon(circle)) < 10 * tolerance
    check_layer(drawing)
    assert drawing.layer.selected_data == set(), "what was just drawn does not take the next digit"

    drawing.flush()
    assert drawing.is_saved
    read = load_for(drawing.document.fingerprint)
    for saved, drawn in zip(read.annotations, drawing.document.annotations, strict=True):
        assert (saved.id, saved.class_name, saved.ellipse) == (drawn.id, drawn.class_name, drawn.ellipse)
        assert shapely.equals_exact(saved.geometry, drawn.geometry, 0.01)
    (slide,) = annotated_slides()
    assert slide.path == drawing.session.open_slide().path


def test_a_shape_with_too_few_points_leaves_nothing(qtbot: Any, drawing: Drawing, hand: Any) -> None:
    drawing.choose_tool(POLYGON)
    hand.polygon(*SQUARE)
    before = drawing.document
    for ending in (lambda: hand.key(Qt.Key.Key_Escape), lambda: drawing.choose_tool(SELECT)):
        drawing.choose_tool(POLYGON)
        hand.click(700, 700)
        ending()
        qtbot.waitUntil(lambda: drawing.layer.nshapes == 1)
        assert drawing.document is before
        check_layer(drawing)
    drawing.choose_tool(POLYGON)
    hand.click(700, 700)
    hand.click(800, 700)
    drawing.undo()
    assert drawing.document is before, "undo drops what is being drawn, nothing else"
    drawing.choose_tool(RECTANGLE)
    hand.drag((600, 200), (700, 300), (900, 400))
    assert len(drawing.document.annotations) == 2
    check_layer(drawing)

    triangle = Annotation.drawn(shapely.Polygon([(700, 600), (900, 600), (900, 900)]), "malignant")
    drawing.edit(replace(drawing.document, annotations=(triangle, *drawing.document.annotations)))
    drawing.choose_tool(SELECT)
    hand.click(850, 700)
    drawing.choose_tool("vertex_remove")
    hand.click(900, 900)
    assert triangle not in drawing.document.annotations
    assert len(drawing.document.annotations) == 2
    qtbot.wait(20)
    check_layer(drawing)


@pytest.mark.parametrize("tool", [RECTANGLE, ELLIPSE, LASSO])
def test_a_click_and_a_slip_of_the_mouse_draw_nothing_and_say_so(
    qtbot: Any, annotate: Any, drawing: Drawing, hand: Any, tool: str
) -> None:
    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    before = drawing.document
    drawing.choose_tool(tool)
    for moved in (0, 1, 3):
        side = moved * reach(drawing) / 1.5
        hand.drag((700, 700), (700 + side, 700 + side))
        qtbot.waitUntil(lambda: drawing.layer.nshapes == 1)
        assert drawing.document is before, moved
        check_layer(drawing)
        assert "Too small" in annotate.panel.told.text(), moved
        hand.drag(*[(700 + 100 * np.cos(a), 700 + 100 * np.sin(a)) for a in np.linspace(0, 1.9 * np.pi, 24)])
        assert len(drawing.document.annotations) == 2, moved
        assert annotate.panel.told.text() == ""
        drawing.undo()
        assert drawing.document is before, "the slip is no step"


def test_three_clicks_in_one_place_are_no_polygon(annotate: Any, drawing: Drawing, hand: Any) -> None:
    drawing.choose_tool(POLYGON)
    step = reach(drawing) / 1.5
    hand.polygon((700, 700), (700 + 2 * step, 700), (700 + 2 * step, 700 + 2 * step))
    assert drawing.document.annotations == ()
    assert drawing.layer.nshapes == 0
    assert "Too small" in annotate.panel.told.text()


def test_an_import_is_a_step_of_its_own(qtbot: Any, annotate: Any, drawing: Drawing, hand: Any, tmp_path: Path) -> None:
    squares = [Annotation.drawn(box(10 * n, 20, 10 * n + 8, 40), "benign") for n in range(100)]
    write_annotations(replace(drawing.document, annotations=tuple(squares)), tmp_path / "many.geojson")
    drawing.choose_tool(POLYGON)
    hand.click(600, 600)  # a stray corner, in progress when the regions come
    annotate.panel.import_from(tmp_path / "many.geojson")
    qtbot.waitUntil(lambda: len(drawing.document.annotations) == 100, timeout=20_000)
    drawing.choose_tool(RECTANGLE)
    hand.drag((600, 600), (700, 700), (900, 800))
    assert len(drawing.document.annotations) == 101
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert len(drawing.document.annotations) == 100
    qtbot.waitUntil(lambda: drawing.layer.nshapes == 100)
    check_layer(drawing)
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert drawing.document.annotations == ()
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert len(drawing.document.annotations) == 100
    qtbot.waitUntil(lambda: drawing.layer.nshapes == 100)
    check_layer(drawing)


def test_a_class_chosen_while_drawing(drawing: Drawing, hand: Any) -> None:
    drawing.choose_tool(POLYGON)
    hand.click(*SQUARE[0])
    hand.click(*SQUARE[1])
    hand.key("2")
    hand.click(*SQUARE[2])
    hand.key(Qt.Key.Key_Escape)
    assert [item.class_name for item in drawing.document.annotations] == ["malignant"]
    check_layer(drawing)


def test_the_keys_work_with_the_slide_or_its_map_selected(
    qtbot: Any, drawing: Drawing, hand: Any, painted: Any, tmp_path: Path
) -> None:
    session = drawing.session
    layers, slide_layer, classes = session.viewer.layers, session.layer, drawing.document.classes
    painted(tmp_path, TileGrid.over(session.open_slide(), 224, 0.5))
    results = session.show(slide_layer, load(tmp_path))
    qtbot.waitUntil(lambda: len(results.present) == 3)
    stranger = session.viewer.add_labels(np.zeros((9, 9), int))
    center = session.viewer.scene.camera.center
    for layer in (slide_layer, results.probability, results.classes):
        layers.selection.active = layer
        for digit, info in ((2, classes[1]), (1, classes[0]), (2, classes[1])):
            hand.key(str(digit))
            assert (drawing.class_name, layer.mode) == (info.name, "pan_zoom")
        hand.key("t")
        drawn = len(drawing.document.annotations)
        hand.key(Qt.Key.Key_Backspace)
        assert len(drawing.document.annotations) == drawn, "Backspace is the annotation layer's"
        hand.key("z", Qt.KeyboardModifier.ControlModifier)
        assert len(drawing.document.annotations) == max(0, drawn - 1)
        assert session.viewer.scene.camera.center == center
    layers.selection.active = stranger
    hand.key("2")
    assert stranger.mode == "paint", "a layer that is not ours keeps napari's keys"
    layers.selection.active = slide_layer
    hand.key("b")
    assert drawing.tool == BRUSH


def test_every_digit_with_a_shape_selected(qtbot: Any, drawing: Drawing, hand: Any) -> None:
    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    hand.drag((700, 200), (800, 300), (1000, 500))
    drawing.choose_tool(SELECT)
    classes = drawing.document.classes
    other = drawing.document.annotations[1]
    for digit in range(10):
        hand.click(350, 350)
        assert len(drawing.selected) == 1
        before = drawing.document.annotations[0].class_name
        hand.key(str(digit))
        wanted = class_of_digit(classes, digit)
        assert drawing.layer.nshapes == 2, f"digit {digit} deletes nothing"
        assert drawing.layer.mode == SELECT, f"digit {digit} changes no tool"
        assert drawing.document.annotations[0].class_name == (wanted.name if wanted else before)
        assert drawing.document.annotations[1] is other
        assert wanted is None or drawing.class_name == wanted.name
        check_layer(drawing)
    assert drawing.document.classes == classes
    hand.click(350, 350)
    hand.key(Qt.Key.Key_Delete)
    assert drawing.document.annotations == (other,)


def test_holes_survive_and_stay_closed(qtbot: Any, drawing: Drawing, hand: Any) -> None:
    ring, other = with_hole(), Annotation.drawn(box(200, 600, 400, 800), "benign")
    parts = shapely.MultiPolygon([box(600.25, 600, 700, 700), box(800, 800, 900, 900.75)])
    both = Annotation.drawn(parts, "benign")
    drawing.edit(replace(drawing.document, annotations=(ring, other, both)))
    drawing.choose_tool(SELECT)
    check_layer(drawing)
    hand.drag((300, 700), (320, 720), (350, 750))
    kept, moved, apart = drawing.document.annotations
    assert kept is ring
    assert apart is both
    np.testing.assert_allclose(moved.geometry.bounds, (250, 650, 450, 850), atol=2 * reach(drawing))

    # A corner where a bridge to the hole ends lies in the outline twice: both copies move, the hole is not opened.
    outline = to_shapes(ring)[0].vertices[:, ::-1]
    corner = next(tuple(point) for point in outline if (outline == point).all(1).sum() == 2)
    drawing.choose_tool(CORNERS)
    hand.click(650, 300)
    hand.drag(corner, (corner[0] - 10, corner[1] - 10), (corner[0] - 20, corner[1] - 20))
    kept = drawing.document.annotations[0]
    assert kept is not ring
    assert len(kept.geometry.interiors) == 1
    qtbot.wait(20)
    check_layer(drawing)

    hand.click(850, 850)
    drawing.delete_selected()
    assert drawing.document.annotations[2].geometry.equals(box(600.25, 600, 700, 700))
    qtbot.wait(20)
    check_layer(drawing)
    for _ in range(3):
        drawing.undo()
    assert drawing.document.annotations == (ring, other, both)
    check_layer(drawing)


def test_undo_and_redo(qtbot: Any, drawing: Drawing, hand: Any) -> None:
    documents = [drawing.document]

    def step() -> None:
        assert drawing.document is not documents[-1]
        documents.append(drawing.document)

    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    step()
    hand.drag((600, 200), (700, 300), (900, 500))
    step()
    drawing.choose_tool(SELECT)
    hand.drag((300, 300), (320, 320), (350, 350))
    step()
    hand.key("2")
    step()
    drawing.choose_tool(CORNERS)
    hand.click(750, 400)
    hand.drag((900, 500), (920, 520), (950, 550))
    step()
    drawing.choose_tool(SELECT)
    hand.click(700, 300)
    hand.key(Qt.Key.Key_Backspace)
    step()
    qtbot.keyClick(hand.canvas, "a")
    qtbot.keyClick(hand.canvas, "c", Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(hand.canvas, "v", Qt.KeyboardModifier.ControlModifier)
    step()
    assert len(drawing.document.annotations) == 2
    assert len({item.id for item in drawing.document.annotations}) == 2
    drawing.edit(drawing.document.renamed("benign", "fibroadenoma"))
    step()
    drawing.edit(drawing.document.joined(AnnotationDocument("", (), (with_hole(),))))
    step()
    control, shift = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
    for document in documents[-2::-1]:
        qtbot.keyClick(hand.canvas, "z", control)
        assert drawing.document is document
        check_layer(drawing)
    assert not drawing.can_undo
    for document in documents[1:]:
        qtbot.keyClick(hand.canvas, "z", control | shift)
        assert drawing.document is document
        check_layer(drawing)
    assert not drawing.can_redo
    drawing.flush()
    assert len(load_for(drawing.document.fingerprint).annotations) == 3


def test_a_hundred_steps_back() -> None:
    history = History(AnnotationDocument("0"))
    for number in range(1, 151):
        history.add(AnnotationDocument(str(number)))
    for _ in range(100):
        history.undo()
    assert history.now.fingerprint == "50"


def test_annotations_come_back_on_another_path(
    qtbot: Any, drawing: Drawing, viewer: Any, hand: Any, small_slide: Path, tmp_path: Path
) -> None:
    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    drawing.edit(replace(drawing.document, annotations=(*drawing.document.annotations, with_hole()), patient="P 7"))
    drawn = drawing.document
    viewer.layers.remove(viewer.layers[0])
    assert list(viewer.layers) == [], "the annotations leave with their slide"
    assert drawing.document is None
    qtbot.waitUntil(lambda: drawing.is_saved)
    copy = shutil.copy(small_slide, tmp_path / "renamed.tif")
    viewer.open(copy, plugin="napari-dala")
    qtbot.waitUntil(lambda: drawing.layer is not None)
    assert drawing.document.patient == "P 7"
    assert [item.id for item in drawing.document.annotations] == [item.id for item in drawn.annotations]
    for saved, before in zip(drawing.document.annotations, drawn.annotations, strict=True):
        assert shapely.equals_exact(saved.geometry, before.geometry, 0.01)
    check_layer(drawing)
    assert viewer.layers.selection.active is viewer.layers[0], "the slide stays selected"
    assert not drawing.can_undo
    (slide,) = annotated_slides()
    assert slide.path == copy

    viewer.layers.remove(drawing.layer)
    assert len(drawing.document.annotations) == 2, "a layer that is removed takes nothing with it"
    drawing.choose_tool(SELECT)
    check_layer(drawing)


def test_two_slides_keep_their_own(
    qtbot: Any, drawing: Drawing, viewer: Any, hand: Any, small_slide: Path, large_slide: Path
) -> None:
    first = drawing.session.layer
    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    small = drawing.document
    first_shapes = drawing.layer
    (second,) = viewer.open(large_slide, plugin="napari-dala")
    assert drawing.session.layer is second
    assert drawing.document.fingerprint == open_slide(large_slide).fingerprint
    assert drawing.document.annotations == ()
    drawing.choose_tool(ELLIPSE)
    hand.drag((200, 200), (300, 300), (600, 600))
    hand.drag((1200, 200), (1300, 300), (1600, 600))
    large = drawing.document
    assert len(large.annotations) == 2
    viewer.layers.selection.active = first_shapes
    assert drawing.session.layer is first, "an annotation layer stands for its slide"
    assert drawing.document is small
    assert drawing.layer is first_shapes
    drawing.undo()
    assert drawing.document.annotations == ()
    drawing.session.choose(second)
    assert drawing.document is large
    drawing.flush()
    assert len(load_for(large.fingerprint).annotations) == 2
    assert len(load_for(small.fingerprint).annotations) == 0


def test_the_layer_follows_its_slide(qtbot: Any, drawing: Drawing, viewer: Any, hand: Any) -> None:
    layer = drawing.session.layer
    layer.rotate, layer.translate = 30, (50, 80)
    viewer.reset_view()
    drawing.choose_tool(POLYGON)
    hand.polygon(*SQUARE)
    corners = shapely.get_coordinates(drawing.document.annotations[0].geometry)[:-1]
    np.testing.assert_allclose(corners, SQUARE, atol=reach(drawing))
    layer.scale = np.asarray(layer.scale) * 2
    at = drawing.layer.data_to_world(drawing.layer.data[0][0])
    np.testing.assert_allclose(at, layer.data_to_world(drawing.layer.data[0][0] - 0.5), atol=1e-3)
    assert drawing.layer.units == layer.units


def test_drawn_before_the_resolution_was_given(qtbot: Any, annotate: Any, viewer: Any, hand: Any) -> None:
    pixels = np.random.default_rng(0).integers(120, 250, (800, 900, 3)).astype(np.uint8)
    layer = viewer.add_image(pixels, rgb=True)
    drawing = annotate.drawing
    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    before = drawing.document
    set_mpp(viewer, layer, 0.25)
    assert drawing.document is before
    assert drawing.layer.units == layer.units
    np.testing.assert_allclose(drawing.layer.scale, layer.scale)
    drawing.flush()
    assert load_for(before.fingerprint).annotations[0].geometry.equals(before.annotations[0].geometry)


def test_saved_within_two_seconds_and_the_version_before_is_kept(qtbot: Any, drawing: Drawing, hand: Any) -> None:
    path = annotations_path(drawing.document.fingerprint)
    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    start = time.monotonic()
    qtbot.waitUntil(path.exists, timeout=5000)
    assert time.monotonic() - start < 2
    qtbot.waitUntil(lambda: drawing.is_saved)
    hand.drag((700, 200), (800, 300), (1000, 500))
    qtbot.waitUntil(lambda: len(json.loads(path.read_text())["features"]) == 2, timeout=2000)
    assert len(json.loads(previous_of(path).read_text())["features"]) == 1


def test_who_draws_without_a_pause_is_saved_too(qtbot: Any, small_slide: Path, workspace: Path) -> None:
    saving, slide = Autosave(), open_slide(small_slide)
    path = annotations_path(slide.fingerprint)
    document = AnnotationDocument(slide.fingerprint)
    start = time.monotonic()
    while not path.exists():
        document = replace(document, patient=f"after {time.monotonic() - start}")
        saving.later(document, slide, workspace)
        qtbot.wait(100)
        assert time.monotonic() - start < 4
    assert time.monotonic() - start < 2
    saving.flush()
    assert load_for(slide.fingerprint).patient == document.patient


def test_a_window_may_go_while_its_last_change_is_written(
    qtbot: Any, small_slide: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on, slide = threading.Event(), open_slide(small_slide)
    save = autosave.save_for
    monkeypatch.setattr(autosave, "save_for", lambda *arguments: go_on.wait(20) and save(*arguments))
    saving = Autosave()
    saving.later(AnnotationDocument(slide.fingerprint, patient="last"), slide, workspace)
    saving.begin()
    pool = saving._pool
    saving.deleteLater()
    with qtbot.waitSignal(saving.destroyed):
        pass
    go_on.set()
    pool.shutdown()  # with all that its thread does after writing
    assert load_for(slide.fingerprint).patient == "last"
    assert not caplog.records  # of a signal whose object is gone, which crashes where it goes in the very moment


def test_a_workspace_that_cannot_be_written_is_told_and_tried_again(
    qtbot: Any, annotate: Any, drawing: Drawing, hand: Any
) -> None:
    folder = annotations_path(drawing.document.fingerprint).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the folder should be")
    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    qtbot.waitUntil(lambda: annotate.panel.failure.isVisible())
    assert "cannot be saved" in annotate.panel.failure.text()
    assert "\n" not in annotate.panel.failure.text()
    assert not drawing.is_saved
    folder.unlink()
    hand.drag((700, 200), (800, 300), (1000, 500))
    qtbot.waitUntil(lambda: drawing.is_saved)
    assert not annotate.panel.failure.isVisible()
    assert len(load_for(drawing.document.fingerprint).annotations) == 2


def test_a_damaged_file_is_told_and_never_overwritten(
    qtbot: Any, annotate: Any, viewer: Any, hand: Any, small_slide: Path
) -> None:
    fingerprint = open_slide(small_slide).fingerprint
    path = save_for(AnnotationDocument(fingerprint, annotations=(with_hole(),)))
    damaged = path.read_bytes()[:100]
    path.write_bytes(damaged)
    viewer.open(small_slide, plugin="napari-dala")
    drawing, panel = annotate.drawing, annotate.panel
    qtbot.waitUntil(lambda: drawing.problem is not None)
    assert "annotations.geojson" in panel.problem.text()
    assert not panel.controls.isVisible()
    drawing.choose_tool(RECTANGLE)
    drawing.flush()
    assert drawing.layer is None
    assert path.read_bytes() == damaged
    qtbot.mouseClick(panel.aside_button, Qt.MouseButton.LeftButton)
    assert panel.controls.isVisible()
    drawing.choose_tool(RECTANGLE)
    hand.drag((200, 200), (300, 300), (500, 500))
    drawing.flush()
    assert len(load_for(fingerprint).annotations) == 1
    (aside,) = path.parent.glob("*damaged*")
    assert aside.read_bytes() == damaged


KILLED = """
import sys
from pathlib import Path
import shapely
from qtpy.QtCore import QCoreApplication
from napari_dala.plugin.annotate.autosave import Autosave
from napari_dala.slide import open_slide
from napari_dala.annotations.document import Annotation, AnnotationDocument

application = QCoreApplication([])
slide, save = open_slide(sys.argv[1]), Autosave()
document = AnnotationDocument(slide.fingerprint)
one = shapely.Point(500, 500).buffer(100, 64)
save.saved.connect(lambda: None)
while True:
    document = AnnotationDocument(slide.fingerprint, annotations=(*document.annotations, Annotation.drawn(one)))
    save.later(document, slide, Path(sys.argv[2]))
    save.begin()
    application.processEvents()
    print(len(document.annotations), flush=True)
"""


def test_killed_while_it_saves(small_slide: Path, workspace: Path) -> None:
    fingerprint = open_slide(small_slide).fingerprint
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(small_slide), str(workspace)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    with process:
        for _ in range(60):
            assert process.stdout.readline()
        process.kill()
    document = load_for(fingerprint)
    assert document is None or all(item.geometry.is_valid for item in document.annotations)
    leftovers = [path for path in annotations_path(fingerprint).parent.glob("*") if not path.name.startswith(".")]
    assert {path.name for path in leftovers} <= {"annotations.geojson", "annotations.previous.geojson", "slide.json"}


def test_one_drawing_for_a_session(drawing: Drawing) -> None:
    assert drawing_of(drawing.session) is drawing
