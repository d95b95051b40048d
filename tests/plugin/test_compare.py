"""Two results of one slide in the real window: behind a curtain, from one difference to the next, in figures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from qtpy.QtWidgets import QApplication

from napari_dala.annotations.document import Annotation
from napari_dala.plugin.viewer.slide_layers import to_world
from tests.plugin.buttons import press
from tests.plugin.results_made import has_run

if TYPE_CHECKING:
    from pathlib import Path

    from napari.viewer import Viewer


@pytest.fixture
def compared(viewer: Viewer, child: Any, qtbot: Any, small_slide: Path) -> Any:
    """The dock with a comparison of a model that found two tiles and one that found one of them and another."""
    has_run("a", "a" * 64, small_slide, 0.1, tiles={(0, 0): 0.95, (3, 3): 0.85})
    has_run("b", "b" * 64, small_slide, 0.1, tiles={(0, 0): 0.95, (3, 0): 0.85})
    viewer.open(small_slide, plugin="napari-dala")
    _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Compare")
    qtbot.waitUntil(lambda: dock.first.count() == 2)
    assert [box.currentText() for box in (dock.first, dock.second)] == ["a", "b"]
    press(qtbot, dock.compare_button)
    qtbot.waitUntil(lambda: dock.found.isVisible())
    return dock


def painted(viewer: Viewer) -> np.ndarray:
    QApplication.processEvents()
    return np.asarray(viewer.screenshot(flash=False, canvas_only=True))[..., :3].astype(int)


def at(viewer: Viewer, world: tuple[float, float]) -> tuple[int, int]:
    camera = viewer.scene.camera
    y, x = np.subtract(world, camera.center[-2:]) * camera.zoom + np.asarray(viewer.canvas.size) / 2
    return round(float(y)), round(float(x))


def test_it_says_how_far_they_agree_and_jumps_to_where_not(viewer: Viewer, qtbot: Any, compared: Any) -> None:
    results = compared._session.results
    grid = results.analysis.grid
    tiles = grid.shape[0] * grid.shape[1]
    assert "2 tiles" in compared.agreement.text()
    assert f"Cohen's kappa is {(2 * (tiles - 2) / tiles - 1):.2f}"[:18] in compared.agreement.text()
    places = []
    for _ in range(3):
        qtbot.keyClick(viewer.window._qt_viewer.canvas.native, "j")
        places.append(viewer.scene.camera.center[-2:])
    middles = [to_world(results.slide_layer, *grid.middle(row, column)) for row, column in ((3, 3), (3, 0))]
    found = [middles.index(next(one for one in middles if np.allclose(one, place, atol=1))) for place in places]
    assert sorted(found[:2]) == [0, 1]
    assert found[2] == found[0], "and round again"


def test_left_of_the_curtain_is_the_first_and_right_of_it_the_second(viewer: Viewer, qtbot: Any, compared: Any) -> None:
    viewer.reset_view()
    results, grid = compared._session.results, compared._session.results.analysis.grid
    compared._shown.difference.visible = False
    spots = [at(viewer, to_world(results.slide_layer, *grid.middle(3, column))) for column in (0, 3)]
    seen = []
    for part in (0, 50, 100):
        compared.curtain.setValue(part)
        qtbot.wait(100)
        picture = painted(viewer)
        seen.append([picture[spot] for spot in spots])
    results.probability.visible = compared._shown.second.visible = False
    bare = [painted(viewer)[spot] for spot in spots]
    covered = [[np.abs(color - tissue).max() > 20 for color, tissue in zip(row, bare, strict=True)] for row in seen]
    # The second found (3, 0), the first (3, 3): with the curtain in the middle neither is seen.
    assert covered == [[True, False], [False, False], [False, True]]


def test_drawn_regions_tell_which_is_right(qtbot: Any, compared: Any, small_slide: Path) -> None:
    assert "Draw regions" in compared.against.text()
    drawing = compared._drawing
    side = compared._session.results.analysis.grid.tile_size[0]
    boxes = ((0, 3, "malignant"), (3, 3, "benign"), (0, 0, "malignant"))
    regions = tuple(
        Annotation.drawn(shapely.box(x * side, y * side, x * side + side, y * side + side), name)
        for x, y, name in boxes
    )
    drawing.edit(replace(drawing.document, annotations=regions))
    press(qtbot, compared.compare_button)
    qtbot.waitUntil(lambda: "in your regions" in compared.against.text())
    first, second = compared.against.text().splitlines()
    assert "First finds 0 of 1 benign tile and 1 of 2 malignant tiles" in first
    assert "Second finds 1 of 1 benign tile and 2 of 2 malignant tiles" in second


def test_it_ends_with_its_result_and_leaves_nothing(viewer: Viewer, qtbot: Any, compared: Any) -> None:
    names = {layer.name.split(" · ")[0] for layer in viewer.layers}
    assert "Disagreement" in names
    press(qtbot, compared.close_button)
    assert not compared.found.isVisible()
    assert "Disagreement" not in {layer.name.split(" · ")[0] for layer in viewer.layers}
    press(qtbot, compared.compare_button)
    qtbot.waitUntil(lambda: compared.found.isVisible())
    viewer.layers.remove(compared._session.layer)
    qtbot.waitUntil(lambda: len(viewer.layers) == 0)
    assert not compared.found.isVisible()


def test_what_is_chosen_stays_when_another_result_comes(qtbot: Any, compared: Any, small_slide: Path) -> None:
    compared.first.setCurrentIndex(1)
    compared.second.setCurrentIndex(0)
    has_run("c", "c" * 64, small_slide, 0.1)
    compared._session.results_changed.emit()
    qtbot.waitUntil(lambda: compared.first.count() == 3)
    assert [box.currentText() for box in (compared.first, compared.second)] == ["b", "a"]


def test_one_result_is_not_enough(viewer: Viewer, child: Any, qtbot: Any, small_slide: Path) -> None:
    has_run("a", "a" * 64, small_slide, 0.1)
    viewer.open(small_slide, plugin="napari-dala")
    _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Compare")
    qtbot.wait(50)
    assert "analyse it with two models" in dock.nothing.text()
    assert not dock.compare_button.isEnabled()
