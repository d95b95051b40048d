"""The Explain dock changes the map without the model, and says what the model found in a tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from scipy.ndimage import gaussian_filter

from napari_dala.plugin.viewer.slide_layers import to_world
from napari_dala.results.loaded import load
from napari_dala.results.report.ramps import EOSIN
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shown(docks: Any, small_slide: Path, painted: Any, tmp_path: Path) -> Any:
    """A slide with results of random smooth maps."""
    docks.viewer.open(small_slide, plugin="napari-dala")
    slide = open_slide(small_slide)
    store = painted(tmp_path, TileGrid.over(slide, 224, 0.5))
    cam = np.random.default_rng(0).normal(size=store._arrays["cam"].shape)
    store._arrays["cam"][:] = gaussian_filter(cam, (0, 1.5, 1.5)) * 10
    docks.results = docks.explain._session.show(docks.viewer.layers[0], load(tmp_path))
    return docks


def kept(docks: Any) -> int:
    return int((np.asarray(docks.results.cam.data) > 0).sum())


def test_nothing_to_explain_yet(docks: Any) -> None:
    assert "analyse the slide first" in docks.explain.nothing.text()
    assert not docks.explain.controls.isVisible()


def test_each_control_changes_the_map(shown: Any, explained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dock = shown.explain
    monkeypatch.setattr(dock._session.__class__, "show", None)  # nothing is computed or loaded again
    assert not shown.results.cam.visible, "one map at a time"
    dock.show_box.setCurrentIndex(1)
    explained(shown.results)
    assert shown.results.cam.visible
    start = kept(shown)
    assert f"kept {shown.results.thresholded.kept_fraction:.0%}" in dock.cut.text()
    assert f"T = {shown.results.thresholded.threshold:.2f}" in dock.cut.text()
    dock.strength.setValue(1.6)
    explained(shown.results)
    assert 0 < kept(shown) < start
    assert f"kept {shown.results.thresholded.kept_fraction:.0%}" in dock.cut.text()
    dock.strength.setValue(1)
    explained(shown.results)
    dock.min_area.setValue(10_000)
    explained(shown.results)
    assert kept(shown) < start
    dock.min_area.setValue(400)
    explained(shown.results)
    assert kept(shown) == start
    otsu = shown.results.thresholded.threshold
    dock.method_box.setCurrentIndex(dock.method_box.findData("percentile"))
    explained(shown.results)
    assert shown.results.thresholded.threshold != otsu
    dock.scope_box.setCurrentIndex(dock.scope_box.findData("tile"))
    explained(shown.results)
    assert np.shape(shown.results.thresholded.threshold) == (5, 5)
    dock.show_box.setCurrentIndex(2)
    explained(shown.results)
    assert shown.results.cam.name.split(" · ")[0] == "Grad-CAM: malignant"
    np.testing.assert_array_equal(shown.results.cam.data, shown.results.thresholded.scaled)
    before = np.asarray(shown.results.cam.data).copy()
    dock.class_box.setCurrentIndex(0)
    explained(shown.results)
    assert shown.results.cam.name.split(" · ")[0] == "Grad-CAM: benign"
    assert not np.array_equal(shown.results.cam.data, before)


def test_choosing_a_class_shows_its_map_over_its_probability_and_the_legend_has_the_colours(
    shown: Any, explained: Any
) -> None:
    dock, results = shown.explain, shown.results
    plain = dock.legend._pixels.copy()
    dock.class_box.setCurrentIndex(0)
    explained(results)
    assert results.cam.visible
    assert dock.show_box.currentIndex() == 1
    assert [layer.name.split(" · ")[0] for layer in (results.cam, results.probability)] == [
        "DT Grad-CAM: benign",
        "Benign probability",
    ]
    assert results.probability.data[0, 0] == pytest.approx(0.9)
    assert not np.array_equal(dock.legend._pixels, plain), "the legend is of another map"
    assert shown.analyze.panel.legend._title == "Probability of benign"
    strongest = results.cam.colormap.map(1.0)[0]
    alpha = strongest[3] * results.cam.opacity
    np.testing.assert_allclose(dock.legend._pixels[0, -1], 255 * (strongest[:3] * alpha + EOSIN * (1 - alpha)), atol=1)
    results.cam.opacity = 0.2
    assert np.abs(dock.legend._pixels[0, -1] - 255 * EOSIN).max() < 60, "it does not follow the layer"

    results.cam.visible = False  # by its eye in the layer list
    assert dock.show_box.currentIndex() == 0
    assert "how probable benign is" in dock.cut.text()


def test_the_strength_ends_where_nothing_is_left_and_its_factor_is_said(shown: Any, explained: Any) -> None:
    dock, results = shown.explain, shown.results
    dock.show_box.setCurrentIndex(1)
    explained(results)
    most = dock.strength.maximum()
    dock.strength.setValue(most)
    explained(results)
    assert kept(shown) > 0
    assert f"x {most:.2f} = " in dock.cut.text()
    dock.strength.setValue(most + 1)
    assert dock.strength.value() == most
    dock.method_box.setCurrentIndex(dock.method_box.findData("max_fraction"))
    explained(results)
    assert dock.strength.maximum() == 2, "half of the maximum, twice, is the maximum"
    assert dock.strength.value() <= 2
    assert kept(shown) > 0
    dock.min_area.setValue(1e6)
    explained(results)
    assert not kept(shown)
    assert not dock.strength.isEnabled()
    assert "nothing kept" in dock.cut.text()


def click(qtbot: Any, viewer: Any, world: tuple[float, float], *, drag: int = 0) -> None:
    """Press and release the mouse over a world position, as the user does."""
    canvas = viewer.window._qt_viewer.canvas
    camera = viewer.scene.camera
    offset = (np.subtract(world, camera.center[-2:]) * camera.zoom) + np.asarray(viewer.canvas.size) / 2
    at = QPoint(round(offset[1]), round(offset[0]))
    qtbot.mouseMove(canvas.native, at)
    qtbot.mousePress(canvas.native, Qt.MouseButton.LeftButton, pos=at)
    if drag:
        for step in (drag // 2, drag):
            qtbot.mouseMove(canvas.native, at + QPoint(step, 0))
    qtbot.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=at + QPoint(drag, 0))


def test_a_click_explains_the_tile(qtbot: Any, shown: Any, explained: Any) -> None:
    dock, viewer = shown.explain, shown.viewer
    assert "Click the tissue" in dock.probabilities.text()
    layer = viewer.layers[0]
    dock.show_box.setCurrentIndex(2)
    explained(shown.results)
    x, y = 4 * 224 + 112, 4 * 224 + 100
    click(qtbot, viewer, to_world(layer, x, y))
    assert dock._tile == (4, 4)
    assert "malignant 90.0%" in dock.probabilities.text()
    assert "row 5, column 5" in dock.probabilities.text()
    assert "0.50, 0.50 mm" in dock.probabilities.text()
    picture = dock.picture.pixmap().toImage()
    assert picture.width() > 2 * picture.height()
    dock.class_box.setCurrentIndex(0)
    explained(shown.results)
    assert dock.picture.pixmap().toImage() != picture, "the small map follows the controls"

    click(qtbot, viewer, to_world(layer, 112, 112))
    assert dock._tile == (0, 0)
    click(qtbot, viewer, to_world(layer, x, y), drag=40)
    assert dock._tile == (0, 0), "a drag pans the view"
    shapes = viewer.add_shapes()
    shapes.mode = "add_rectangle"
    click(qtbot, viewer, to_world(layer, x, y))
    assert dock._tile == (0, 0), "while drawing a click draws"
    shapes.mode = "pan_zoom"
    click(qtbot, viewer, to_world(layer, -100, -100))
    assert dock._tile == (0, 0)


def test_where_nothing_is_kept_it_says_so_beside_one_picture(qtbot: Any, shown: Any, explained: Any) -> None:
    dock, viewer, layer = shown.explain, shown.viewer, shown.viewer.layers[0]
    dock.min_area.setValue(1e6)
    explained(shown.results)
    click(qtbot, viewer, to_world(layer, 112, 112))
    picture = dock.picture.pixmap()
    assert picture.width() == picture.height()
    assert "Nothing in this tile stands out" in dock.probabilities.text()
    dock.min_area.setValue(0)
    explained(shown.results)
    assert "Nothing in this tile stands out" not in dock.probabilities.text()


def test_the_tile_in_hand_is_framed_as_thick_at_every_zoom(qtbot: Any, shown: Any) -> None:
    viewer, layer = shown.viewer, shown.viewer.layers[0]
    click(qtbot, viewer, to_world(layer, 4 * 224 + 112, 4 * 224 + 100))
    shown.analyze.panel.next_button.click()
    frames = {layer.name: layer for layer in viewer.layers if layer.name in ("Explained tile", "Spot")}
    assert len(frames) == 2
    assert viewer.layers.selection.active is layer
    for frame in frames.values():
        corners = np.asarray(frame.data)[:, 0]
        sides = [frame.data_to_world(corner) for corner in corners]
        np.testing.assert_allclose(sides[0], to_world(layer, 4 * 224, 4 * 224))
        np.testing.assert_allclose(sides[2], to_world(layer, 5 * 224, 5 * 224))
        for zoom in (0.2, 1.0, 4.0):
            viewer.scene.camera.zoom = zoom
            assert 2 <= frame.edge_width * frame.scale[-1] * zoom <= 3
    viewer.layers.remove(layer)
    assert not [other for other in frames.values() if other in viewer.layers], "frames outlive their slide"
