"""From the Run button to the map, with the real child."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils import progress
from PIL import Image as Picture
from qtpy.QtCore import Qt
from qtpy.QtGui import QMovie
from qtpy.QtWidgets import QLabel, QToolButton

from napari_dala.plugin.analyze import run
from napari_dala.plugin.analyze.dock import SHAPE, VIEW
from napari_dala.plugin.parts.model_box import CardDialog
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import set_mpp, to_slide, to_world, view_of
from napari_dala.results.analysis import Analysis
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid
from napari_dala.workspace import slide_folder
from tests.plugin.buttons import press

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.plugin.analyze.dock import AnalyzeWidget

    Finished = Callable[[AnalyzeWidget], None]


def roles(viewer: Any) -> dict[str, Any]:
    return {layer.metadata["dala_role"]: layer for layer in viewer.layers if "dala_role" in layer.metadata}


def test_the_wheel_beside_the_progress_bar_stands_still(
    qtbot: Any, docks: Any, small_slide: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of its pictures Qt would compose the whole window anew, on the cores that analyse."""
    monkeypatch.setattr("napari_dala.plugin.analyze.run._TELL_S", 0.0)
    docks.viewer.open(small_slide, plugin="napari-dala")
    docks.analyze.model_box.choose_card("untrained")
    press(qtbot, docks.analyze.run_button)
    (run,) = session_of(docks.viewer).runs
    window = docks.viewer.window._qt_window
    (wheel,) = (label.movie() for label in window.findChildren(QLabel) if label.movie() is not None)
    states = []
    run.progressed.connect(lambda _: states.append((run._bar is not None, wheel.state())))
    finished(docks.analyze)
    assert (True, QMovie.MovieState.Paused) in states
    assert QMovie.MovieState.Running not in {state for _, state in states}


def test_the_card_of_the_chosen_model_can_be_read(qtbot: Any, docks: Any) -> None:
    box = docks.analyze.model_box
    assert box.currentText() == "breakhis-ucsb"
    button = next(one for one in docks.analyze.findChildren(QToolButton) if one.text() == "Card…")
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    card = box.findChild(CardDialog)
    assert card.isVisible()
    assert "Research use only" in card.text.toPlainText()
    assert "of 280 malignant photographs" in card.text.toPlainText()
    assert not card.raw.content.isVisible()
    qtbot.mouseClick(card.raw.button, Qt.MouseButton.LeftButton)
    assert "gmean" in card.raw.content.toPlainText()
    with qtbot.waitSignal(card.destroyed):
        qtbot.mouseClick(card.close_button, Qt.MouseButton.LeftButton)


def test_analyse_a_slide(qtbot: Any, docks: Any, small_slide: Path, finished: Finished) -> None:
    viewer, dock = docks.viewer, docks.analyze
    assert not dock.run_button.isEnabled()
    assert dock.model_box.currentText() == "breakhis-ucsb"
    assert dock.model_warning.text() == ""
    dock.model_box.choose_card("untrained")
    assert "untrained" in dock.model_warning.text().lower()
    looked: list[str] = []
    dock._child.told.connect(lambda number, name, _: looked.append(name) if number else None)
    viewer.open(small_slide, plugin="napari-dala")
    qtbot.waitUntil(lambda: looked == ["result"], timeout=120_000)  # before Run, so that Run need not wait for it
    press(qtbot, dock.run_button)
    assert dock.cancel_button.isEnabled()
    assert not dock.run_button.isEnabled()
    finished(dock)
    assert dock.error.text() == ""
    assert dock.run_button.isEnabled()
    assert "tiles/s" in dock.progress_text.text()
    assert "fp32" in dock.device.text() or "bf16" in dock.device.text()

    layers = roles(viewer)
    analysis = Analysis.open(slide_folder(open_slide(small_slide).fingerprint) / "analyses")
    summary = analysis.summary()
    assert summary.analysed > 10
    assert summary.todo == 0
    np.testing.assert_array_equal(layers["probability"].data, analysis.probability[1])
    shown = layers["probability"].metadata["dala_analysis"]
    np.testing.assert_array_equal(shown.status, analysis.status)  # the layers were there before the glass was known
    assert (shown.status == TileStatus.BACKGROUND).any()
    np.testing.assert_array_equal(layers["class"].data, analysis.class_map())
    shown = np.isfinite(analysis.cam(1))
    assert (np.asarray(layers["cam"].data)[~shown] == 0).all()
    assert layers["cam"].data.max() > 0.9
    assert f"{summary.analysed} tissue tiles" in dock.panel.counts.text()
    texts = [dock.panel.table.itemAt(i).widget().text() for i in range(dock.panel.table.count())]
    assert f"{summary.area_mm2['malignant']:.2f} mm²" in texts
    assert "untrained" in dock.panel.warning.text()

    # Threshold, summary and spots follow the slider, without the child.
    asked = dock._child._child._ids
    dock.panel.threshold.setValue(0.0)
    assert (np.asarray(layers["class"].data)[analysis.analysed] == 2).all()
    assert "100%" in [dock.panel.table.itemAt(i).widget().text() for i in range(dock.panel.table.count())]
    spots = analysis.spots(0.0)
    qtbot.waitUntil(lambda: dock.panel.spots.count() == len(spots), timeout=5000)
    assert dock._child._child._ids is asked

    # Spots move the camera, round and round.
    layer = docks.analyze._session.layer
    for step in range(len(spots) + 1):
        press(qtbot, dock.panel.next_button)
        spot = spots[step % len(spots)]
        np.testing.assert_allclose(viewer.scene.camera.center[-2:], to_world(layer, spot.x, spot.y))
    press(qtbot, dock.panel.previous_button)
    spot = spots[-1]
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], to_world(layer, spot.x, spot.y))
    dock.panel.threshold.setValue(1.0)
    qtbot.waitUntil(lambda: dock.panel.spots.count() == 0, timeout=5000)

    # Hovering says class and probability, whichever layer is selected.
    viewer.mouse_over_canvas = True
    for active in (layer, layers["cam"], viewer.add_shapes()):
        viewer.layers.selection.active = active
        viewer.cursor.position = to_world(layer, spot.x, spot.y)
        viewer.update_status_from_cursor()
        value = analysis.probability[1, spot.row, spot.column]
        assert f"malignant {value:.0%}" in viewer.status["coordinates"]
    viewer.cursor.position = (-1000, -1000)
    viewer.update_status_from_cursor()
    assert "malignant" not in viewer.status["coordinates"]

    # One key hides the overlays and brings them back as they were.
    layers["cam"].visible = False
    for expected in (False, True):
        qtbot.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key.Key_H)
        assert [layers[role].visible for role in ("probability", "class", "cam")] == [expected, False, False]


def test_cancel_and_go_on(qtbot: Any, docks: Any, large_slide: Path, small_slide: Path, finished: Finished) -> None:
    dock = docks.analyze
    docks.viewer.open(large_slide, plugin="napari-dala")
    press(qtbot, dock.run_button)
    qtbot.waitUntil(lambda: " of " in dock.progress_text.text(), timeout=120_000)
    press(qtbot, dock.cancel_button)
    finished(dock)
    assert re.fullmatch(r"Stopped after \d+ of \d+ tiles\. Run goes on from here\.", dock.progress_text.text())
    assert dock.panel.counts.text().startswith("So far, ")
    assert dock.error.text() == ""
    done = dock._session.results.analysis.summary().analysed
    assert 0 < dock._session.results.analysis.summary().todo
    before = dock._session.results.analysis.probability.copy()

    dock.extent_box.setCurrentText(VIEW)  # a corner, to be quick
    docks.viewer.scene.camera.zoom *= 6
    press(qtbot, dock.run_button)
    finished(dock)
    after = dock._session.results.analysis.probability
    assert np.isfinite(after[0]).sum() >= done
    np.testing.assert_array_equal(after[:, np.isfinite(before[0])], before[:, np.isfinite(before[0])])

    assert dock.progress_text.isVisibleTo(dock)
    docks.viewer.open(small_slide, plugin="napari-dala")
    assert not dock.progress_text.isVisibleTo(dock), "counts and speed of one slide are not another's"


def test_what_is_in_view_comes_first_and_panning_changes_the_order(
    qtbot: Any, docks: Any, large_slide: Path, finished: Finished
) -> None:
    viewer, dock = docks.viewer, docks.analyze
    viewer.open(large_slide, plugin="napari-dala")
    layer = viewer.layers[0]
    dock.model_box.choose_card("untrained")  # tiles of 224 px at 0.5 um/px
    grid = TileGrid.over(open_slide(large_slide), 224, 0.5)
    left, top = grid.origins()

    def look_at(x: float, y: float) -> np.ndarray:
        viewer.scene.camera.center = (0, *to_world(layer, x, y))
        view = view_of(viewer, layer)
        inside_x = (left + grid.tile_size[0] > view[0]) & (left < view[2])
        inside_y = (top + grid.tile_size[1] > view[1]) & (top < view[3])
        return np.asarray(inside_y[:, None] & inside_x[None])

    def done() -> np.ndarray:
        return np.asarray(dock._session.results.analysis.analysed)

    block = 4 * 224
    viewer.scene.camera.zoom = max(viewer.canvas.size) / (2 * 224 * layer.scale[0])  # two tiles across
    first_view = look_at(1.5 * block, 1.5 * block)
    press(qtbot, dock.run_button)
    qtbot.waitUntil(lambda: dock._session.results is not None and done().any(), timeout=120_000)
    first_done = done()
    assert first_done[first_view].all()
    second_view = look_at(5.5 * block, 5.5 * block)  # of 7 x 7 blocks
    todo = np.asarray(dock._session.results.analysis.status) == TileStatus.TODO
    assert (second_view & todo).any()
    qtbot.waitUntil(lambda: bool(done()[second_view & todo].all()), timeout=120_000)
    assert dock._session.results.analysis.summary().todo > 30, "others are still to do"
    # New are the view's block of 4 x 4 tiles and those that were being read, were in the network or came while the
    # window told the child that the camera had moved, and until it looked again, a second: not all that lie between.
    new_blocks = {(row // 4, column // 4) for row, column in np.argwhere(done() & ~first_done)}
    assert (5, 5) in new_blocks
    assert len(new_blocks) <= 20
    press(qtbot, dock.cancel_button)
    finished(dock)


def test_a_picture_without_file_or_resolution(qtbot: Any, docks: Any, small_slide: Path, finished: Finished) -> None:
    viewer, dock = docks.viewer, docks.analyze
    pixels = open_slide(small_slide).read(200, 200, 500, 460)
    layer = viewer.add_image(pixels, rgb=True, name="field")
    dock.model_box.choose_card("untrained")  # tiles of 224 px at 0.5 um/px
    shapes = viewer.add_shapes([[[230, 0], [230, 200], [459, 200], [459, 0]]], shape_type="polygon")
    viewer.layers.selection.active = layer
    assert not dock.run_button.isEnabled()
    assert "micrometres per pixel" in dock.ask_mpp.text()
    qtbot.keyClicks(dock.mpp_box, "0.5")
    dock.mpp_box.setValue(0.5)
    dock.extent_box.setCurrentText(SHAPE)
    press(qtbot, dock.run_button)
    assert "No shape is selected" in dock.error.text()
    shapes.selected_data = {0}
    press(qtbot, dock.run_button)
    finished(dock)
    assert dock.error.text() == ""
    assert layer.scale.tolist() == [0.5, 0.5]
    assert {str(unit) for other in viewer.layers for unit in other.units} == {"micrometer"}
    corner = shapes.data_to_world(shapes.data[0][1])
    assert to_slide(layer, corner) == pytest.approx((200.5, 230.5))
    assert not dock.ask_mpp.text()
    probability = roles(viewer)["probability"].data
    assert np.isfinite(probability).tolist() == [[False] * 3, [True, False, False], [True, False, False]]
    written = list(slide_folder(layer.metadata["dala_slide"].fingerprint).glob("pixels.tif"))
    np.testing.assert_array_equal(open_slide(written[0]).read(0, 0, 500, 460), pixels)


def test_the_resolution_of_one_slide_is_not_taken_for_that_of_another(docks: Any, small_slide: Path) -> None:
    viewer, session = docks.viewer, docks.analyze._session
    pixels = open_slide(small_slide).read(200, 200, 500, 460)
    first = viewer.add_image(pixels, rgb=True, name="first")
    second = viewer.add_image(pixels[:300], rgb=True, name="second")
    session.set_resolution(first, 0.5)
    session.choose(first)
    assert session.open_slide().mpp == (0.5, 0.5)
    session.choose(second)
    assert session.open_slide().mpp is None
    assert docks.analyze.ask_mpp.text()
    set_mpp(viewer, second, 0.25)
    assert session.open_slide().mpp == (0.25, 0.25)
    assert (first.scale.tolist(), second.scale.tolist()) == ([0.5, 0.5], [0.25, 0.25])
    second.scale = (2, 2)
    assert session.open_slide().mpp == (0.25, 0.25), "what was given stays"


def test_a_photograph_that_napari_opened(qtbot: Any, docks: Any, tmp_path: Path, small_slide: Path) -> None:
    path = tmp_path / "field.png"
    Picture.fromarray(open_slide(small_slide).read(0, 0, 300, 260)).save(path)
    docks.viewer.open(path, plugin="napari")
    slide = docks.analyze._session.open_slide()
    assert slide.path == path
    docks.viewer.layers[0].scale, docks.viewer.layers[0].units = (250, 250), ("nm", "nm")
    assert docks.analyze._session.open_slide().mpp == pytest.approx((0.25, 0.25))


def test_the_last_result_is_offered(qtbot: Any, docks: Any, small_slide: Path, painted: Any) -> None:
    slide = open_slide(small_slide)
    painted(slide_folder(slide.fingerprint) / "analyses", TileGrid.over(slide, 224, 0.5), fingerprint=slide.fingerprint)
    dock = docks.analyze
    assert not dock.offer.text()
    docks.viewer.open(small_slide, plugin="napari-dala")
    assert "“breakhis-ucsb” has not run on this slide yet; “painted” has." in dock.offer.text()
    press(qtbot, dock.offer_button)
    qtbot.waitUntil(lambda: dock._session.results is not None, timeout=20_000)
    assert not dock.offer.text()
    assert dock.panel.spots.count() == 1
    assert dock.panel.spots.item(0).text().split()[1] == "90%"
    docks.viewer.layers.remove(docks.viewer.layers[0])
    assert len(docks.viewer.layers) == 0, "results go with their slide"
    assert not dock.run_button.isEnabled()


def test_docks_follow_the_selected_slide(qtbot: Any, docks: Any, small_slide: Path, large_slide: Path) -> None:
    dock = docks.analyze
    docks.viewer.open(small_slide, plugin="napari-dala")
    docks.viewer.open(large_slide, plugin="napari-dala")
    small, large = docks.viewer.layers
    assert dock.layer_box.currentText() == "large"
    docks.viewer.layers.selection.active = small
    assert dock.layer_box.currentText() == "small"
    dock.layer_box.setCurrentIndex(dock.layer_box.findText("large"))
    dock.layer_box.activated.emit(dock.layer_box.currentIndex())
    assert docks.viewer.layers.selection.active is large
    docks.viewer.add_shapes()
    assert dock.layer_box.currentText() == "large"


def test_errors_are_one_line_in_the_dock(qtbot: Any, docks: Any, small_slide: Path, finished: Finished) -> None:
    dock = docks.analyze
    docks.viewer.add_image(np.zeros((50, 60, 3), np.float32), rgb=True, name="floats")
    assert "8-bit RGB" in dock.error.text()
    assert not dock.run_button.isEnabled()
    docks.viewer.open(small_slide, plugin="napari-dala")
    assert dock.error.text() == ""
    docks.viewer.layers[-1].metadata["dala_slide"].path = small_slide.with_name("moved away.tif")
    press(qtbot, dock.run_button)
    finished(dock)
    assert "moved away.tif" in dock.error.text()
    assert "\n" not in dock.error.text()
    assert dock.run_button.isEnabled()


def test_a_run_that_ends_while_its_bar_is_made_leaves_none(
    qtbot: Any, docks: Any, small_slide: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = run.cancelable_progress, []

    def ended_meanwhile(**how: Any) -> Any:
        made.append(make(**how))
        docks.analyze._run._finish("finished", "")
        return made[0]

    monkeypatch.setattr(run, "cancelable_progress", ended_meanwhile)
    docks.viewer.open(small_slide, plugin="napari-dala")
    press(qtbot, docks.analyze.run_button)
    finished(docks.analyze)
    assert len(made) == 1
    assert made[0] not in progress._all_instances
