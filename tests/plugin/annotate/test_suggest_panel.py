"""“Next to label” goes from one unsure tile to the next, and leaves layers and annotations as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from napari.layers import Shapes, Vectors
from qtpy.QtCore import Qt

from napari_dala.annotations.document import Annotation
from napari_dala.plugin.annotate.drawing import POLYGON, drawing_of
from napari_dala.plugin.annotate.suggest_panel import SuggestPanel
from napari_dala.plugin.bench.callback_times import CallbackTimes
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import to_slide
from napari_dala.results.loaded import load
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari.viewer import Viewer

TILE = 224
UNSURE = ((2, 3), (10, 11), (12, 1))  # the most unsure first


@pytest.fixture
def panel(viewer: Viewer, large_slide: Path, qtbot: Any) -> Iterator[SuggestPanel]:
    """A window with a slide of 28 x 28 tiles, nothing analysed."""
    viewer.open(large_slide, plugin="napari-dala")
    session = session_of(viewer)
    drawing = drawing_of(session)
    qtbot.waitUntil(lambda: drawing.document is not None)
    panel = SuggestPanel(session, drawing)
    viewer.window.add_dock_widget(panel)
    yield panel
    drawing.flush()


def analyse(panel: SuggestPanel, painted: Any, folder: Path, *unsure: tuple[int, int], name: str = "painted") -> None:
    """Show results that are sure of all but some tiles; those are ever surer."""
    session = panel._session
    assert session.open_slide() is not None
    assert session.layer is not None
    store = painted(folder, TileGrid.over(session.open_slide(), TILE, 0.5), fingerprint=name)
    malignant = np.full(store.grid.shape, 0.99, np.float32)
    for number, tile in enumerate(unsure):
        malignant[tile] = 0.51 + 0.02 * number
    store._arrays["probability"][:] = np.stack((1 - malignant, malignant))
    session.show(session.layer, load(folder))


@pytest.fixture
def shown(panel: SuggestPanel, painted: Any, qtbot: Any, tmp_path: Path) -> SuggestPanel:
    analyse(panel, painted, tmp_path, *UNSURE)
    results = panel._session.results
    assert results is not None
    qtbot.waitUntil(lambda: results.present == list(results.all))  # they come one after another
    return panel


def step(panel: SuggestPanel, qtbot: Any) -> tuple[int, int]:
    """Press the button, and say which tile is in the middle of the view then."""
    before = panel.text.text()
    panel.button.click()
    qtbot.waitUntil(lambda: panel.text.text() != before and not panel._is_searching, timeout=20_000)
    return looked_at(panel)


def looked_at(panel: SuggestPanel) -> tuple[int, int]:
    session = panel._session
    assert session.layer is not None
    x, y = to_slide(session.layer, session.viewer.scene.camera.center[-2:])
    return int(y // TILE), int(x // TILE)


def mark(panel: SuggestPanel) -> Vectors | None:
    return next((layer for layer in panel._session.viewer.layers if isinstance(layer, Vectors)), None)


def test_there_is_nothing_to_suggest_before_an_analysis(panel: SuggestPanel, painted: Any, tmp_path: Path) -> None:
    assert not panel.button.isEnabled()
    assert "Analyse the slide first" in panel.text.text()
    panel.step()
    assert mark(panel) is None
    analyse(panel, painted, tmp_path, *UNSURE)
    assert panel.button.isEnabled()
    assert panel.text.text() == ""
    panel._session.viewer.layers.clear()
    assert not panel.button.isEnabled()


def test_it_goes_to_what_the_model_is_least_sure_of(shown: SuggestPanel, qtbot: Any) -> None:
    assert step(shown, qtbot) == UNSURE[0]
    assert shown.text.text().startswith("1 of ")
    assert shown.text.text().endswith(": malignant 51%")
    assert step(shown, qtbot) == UNSURE[1]
    assert shown.text.text().startswith("2 of ")
    assert step(shown, qtbot) == UNSURE[2]


def test_the_key_steps_too(shown: SuggestPanel, qtbot: Any) -> None:
    viewer = shown._session.viewer
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.keyClick(canvas, Qt.Key.Key_U)
    qtbot.waitUntil(lambda: shown.text.text().startswith("1 of "), timeout=20_000)
    shown._drawing.choose_tool(POLYGON)  # napari's own keys for shapes come first
    qtbot.keyClick(canvas, Qt.Key.Key_U)
    qtbot.waitUntil(lambda: shown.text.text().startswith("2 of "), timeout=20_000)
    assert shown._drawing.tool == POLYGON


def test_a_frame_lies_around_the_tile_and_changes_nothing_else(shown: SuggestPanel, qtbot: Any) -> None:
    viewer, drawing = shown._session.viewer, shown._drawing
    drawing.choose_tool(POLYGON)
    annotations, document = drawing.layer, drawing.document
    assert isinstance(annotations, Shapes)
    tile = step(shown, qtbot)
    frame = mark(shown)
    assert frame is not None
    corners = [to_slide(shown._session.layer, frame.data_to_world(start)) for start in frame.data[:, 0]]
    left, top = tile[1] * TILE, tile[0] * TILE
    np.testing.assert_allclose(np.min(corners, axis=0), (left, top), atol=1e-3)
    np.testing.assert_allclose(np.max(corners, axis=0), (left + TILE, top + TILE), atol=1e-3)
    assert viewer.layers.selection.active is annotations
    assert drawing.tool == POLYGON
    assert drawing.document is document
    count = len(viewer.layers)
    next_tile = step(shown, qtbot)
    assert len(viewer.layers) == count
    assert mark(shown) is frame
    x, y = to_slide(shown._session.layer, frame.data_to_world(frame.data[0, 0]))
    assert (round(y) // TILE, round(x) // TILE) == next_tile
    viewer.layers.remove(frame)
    step(shown, qtbot)
    assert mark(shown) is not None, "a frame that the user removed comes again with the next tile"
    viewer.layers.selection.active = mark(shown)
    assert shown._session.results is not None, "the frame stands for its slide"


def test_what_is_labelled_is_left_out_from_then_on(shown: SuggestPanel, qtbot: Any) -> None:
    assert step(shown, qtbot) == UNSURE[0]
    document = shown._drawing.document
    assert document is not None
    row, column = UNSURE[1]
    corner = (column * TILE, row * TILE)
    region = Annotation.drawn(shapely.box(*corner, corner[0] + TILE, corner[1] + TILE), "malignant")
    shown._drawing.edit(replace(document, annotations=(region,)))
    assert step(shown, qtbot) == UNSURE[2]
    assert shown.text.text().startswith("2 of "), "the round goes on"


def test_it_goes_round_and_leaves_no_tile_for_long(shown: SuggestPanel, qtbot: Any) -> None:
    first = [step(shown, qtbot)]
    last = shown.text.text().partition(":")[0].split(" of ")[1]
    while not shown.text.text().startswith(f"{last} of "):
        first.append(step(shown, qtbot))
    assert len(set(first)) == len(first) == int(last)
    pairs = [(a, b) for a in first for b in first if a < b]
    assert min(max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in pairs) > 2
    again = step(shown, qtbot)
    assert shown.text.text().startswith("1 of ")
    assert again == UNSURE[0] or all(max(abs(again[0] - a[0]), abs(again[1] - a[1])) > 2 for a in first)


def test_everything_labelled_leaves_nothing(shown: SuggestPanel, qtbot: Any) -> None:
    step(shown, qtbot)
    document = shown._drawing.document
    assert document is not None
    whole = Annotation.drawn(shapely.box(0, 0, 28 * TILE, 28 * TILE), "benign")
    shown._drawing.edit(replace(document, annotations=(whole,)))
    step(shown, qtbot)
    assert shown.text.text() == "Every analysed tile is labelled."
    assert mark(shown) is None


def test_the_frame_goes_with_its_slide(shown: SuggestPanel, qtbot: Any) -> None:
    step(shown, qtbot)
    viewer, slide_layer = shown._session.viewer, shown._session.layer
    assert mark(shown) is not None
    viewer.layers.remove(slide_layer)
    assert mark(shown) is None
    assert not shown.button.isEnabled()


def test_the_frame_lies_right_on_a_slide_that_is_turned_and_moved(shown: SuggestPanel, qtbot: Any) -> None:
    slide_layer = shown._session.layer
    assert slide_layer is not None
    step(shown, qtbot)
    slide_layer.rotate, slide_layer.translate, slide_layer.scale = 30, (700, -50), (0.7, 0.7)
    row, column = step(shown, qtbot)
    frame = mark(shown)
    assert frame is not None
    corners = [to_slide(slide_layer, frame.data_to_world(start)) for start in frame.data[:, 0]]
    np.testing.assert_allclose(np.min(corners, axis=0), (column * TILE, row * TILE), atol=1e-2)


def test_another_models_results_begin_anew(shown: SuggestPanel, qtbot: Any, painted: Any, tmp_path: Path) -> None:
    assert step(shown, qtbot) == UNSURE[0]
    analyse(shown, painted, tmp_path / "other", UNSURE[0], name="of another model")
    assert mark(shown) is None
    assert shown.text.text() == ""
    assert step(shown, qtbot) == UNSURE[0], "seen, but not with these probabilities"
    assert shown.text.text().startswith("1 of ")


@pytest.mark.timed
def test_the_window_never_waits_for_suggestions(
    viewer: Viewer, large_slide: Path, qtbot: Any, painted: Any, tmp_path: Path
) -> None:
    with CallbackTimes() as times:
        viewer.open(large_slide, plugin="napari-dala")
        session = session_of(viewer)
        panel = SuggestPanel(session, drawing_of(session))
        viewer.window.add_dock_widget(panel)
        qtbot.waitUntil(lambda: panel._drawing.document is not None)
        analyse(panel, painted, tmp_path, *UNSURE)
        for _ in range(3):
            step(panel, qtbot)
            panel._drawing.changed.emit(panel._drawing.document)
    found = times.calls["SuggestPanel._on_found"]
    assert len(found) == 3
    found.pop(0)  # napari itself takes 50 to 100 ms to add the frame's layer, once
    slowest = {name: max(call.own_s for call in calls) for name, calls in times.calls.items() if "SuggestPanel" in name}
    assert max(slowest.values()) < 0.05, slowest
