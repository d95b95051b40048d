"""What the canvas shows of a result: lines as wide at every zoom and tissue between them; the window stays free."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication
from scipy.ndimage import binary_dilation

from napari_dala.plugin.viewer.result_layers import ResultLayers
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import to_world
from napari_dala.results.loaded import load
from napari_dala.results.opening import create_store
from napari_dala.results.tile_results import TileResults, TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari.viewer import Viewer

ZOOMS = pytest.mark.parametrize("zoom", [0.2, 1.0, 4.0], ids=["2x", "10x", "40x"])


@pytest.fixture
def shown(viewer: Viewer, small_slide: Path, painted: Any, tmp_path: Path, qtbot: Any) -> Any:
    """A slide all of whose tiles are unfamiliar, with evidence in the four cells around its middle tile's centre."""
    (layer,) = viewer.open(small_slide, plugin="napari-dala")
    old = painted(tmp_path, TileGrid.over(open_slide(small_slide), 224, 0.5))
    store = create_store(
        old.path, old.setting, slide=old.slide, bundle_hash="2" * 16, card=old.card, knows_unfamiliar=True
    )
    row, column = (each.ravel() for each in np.indices(store.grid.shape))
    probability = np.tile(np.float32([1, 0]), (len(row), 1))
    cams = np.zeros((len(row), 2, 7, 7), np.float32)
    cams[(row == 2) & (column == 2), 1, 3:5, 3:5] = 1
    store.write(
        TileResults(row, column, probability, cams, np.zeros((len(row), 2048)), None, np.full(len(row), 2.0)), []
    )
    results = session_of(viewer).show(layer, load(tmp_path))
    qtbot.waitUntil(lambda: len(results.present) == 4)
    return results


def canvas(viewer: Viewer, results: ResultLayers, zoom: float) -> Any:
    """What is seen of the middle of the tile in the middle, (h, w, 3)."""
    viewer.scene.camera.center = (0, *to_world(results.slide_layer, 2.5 * 224, 2.5 * 224))
    viewer.scene.camera.zoom = zoom
    QApplication.processEvents()
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    middle = [side // 2 for side in picture.shape[:2]]
    half = min(150, int(250 * zoom))  # the slide ends 280 um from there
    return picture[middle[0] - half : middle[0] + half, middle[1] - half : middle[1] + half]


@ZOOMS
def test_hatching_is_thin_at_every_zoom_and_leaves_the_tissue(viewer: Viewer, shown: Any, zoom: float) -> None:
    shown.probability.visible = False
    hatched = canvas(viewer, shown, zoom)
    shown.unfamiliar.visible = False
    changed = np.abs(hatched - canvas(viewer, shown, zoom)).max(-1) > 8
    assert 0.05 < changed.mean() < 0.35, "no lines, or hardly any tissue between them"
    for line in changed:
        edges = np.flatnonzero(np.diff(np.r_[0, line, 0]))
        runs = edges[1::2] - edges[::2]
        assert runs.max(initial=0) <= 6, "a line is wider than a few pixels"
    runs_per_row = [np.count_nonzero(np.diff(line.astype(int)) == 1) for line in changed]
    assert np.mean(runs_per_row) * 30 > len(changed), "lines are too far apart to be seen"


def test_ink_that_is_found_later_is_drawn_like_the_other_layers(viewer: Viewer, shown: Any) -> None:
    parts = len(shown._parts)
    assert shown.left_out is None
    status = shown.analysis.status.copy()
    status[2, 2] = TileStatus.INK
    shown.mark(status)
    assert len(shown._parts) == parts + 1 == len(shown.present)
    before = canvas(viewer, shown, 1.0)
    shown.left_out.visible = True
    changed = np.abs(canvas(viewer, shown, 1.0) - before).max(-1) > 8
    assert 0.05 < changed.mean() < 0.5, "its tile, and no more"
    shown.remove()


@ZOOMS
def test_what_is_kept_has_an_outline_as_wide_at_every_zoom(
    viewer: Viewer, shown: Any, explained: Any, zoom: float
) -> None:
    shown.unfamiliar.visible = False
    before = canvas(viewer, shown, zoom)
    shown.cam.visible = True
    after = canvas(viewer, shown, zoom)
    dark = (after.max(-1) < 60) & (np.abs(after - before).max(-1) > 20)
    assert dark.any(), "no outline"
    side = 2 * 32 * 0.5 * zoom  # px of the four cells
    length = dark.sum() / 2  # two px wide
    assert 3 * side < length < 4 * 1.7 * side + 8
    cores = dark & ~binary_dilation(~dark, iterations=3)
    assert not cores.any(), "the outline is a patch"
    light = (after.min(-1) > 200) & (np.abs(after - before).max(-1) > 20)
    assert (light.sum() > 0.2 * dark.sum()) == (zoom >= 1), "a rim, where cells are wide enough for it"

    shown.explain(type(shown.explanation)(1, thresholded=False))
    explained(shown)
    whole = canvas(viewer, shown, zoom)
    assert not ((whole.max(-1) < 60) & (np.abs(whole - before).max(-1) > 20)).any(), "the whole map has no outline"


def test_a_result_can_come_while_the_view_is_in_3d(
    viewer: Viewer, small_slide: Path, painted: Any, tmp_path: Path, qtbot: Any
) -> None:
    (layer,) = viewer.open(small_slide, plugin="napari-dala")
    painted(tmp_path, TileGrid.over(open_slide(small_slide), 224, 0.5))
    viewer.dims.ndisplay = 3
    results = session_of(viewer).show(layer, load(tmp_path))
    qtbot.waitUntil(lambda: len(results.present) == 3)
    results.probability.refresh()
    viewer.dims.ndisplay = 2
    results.probability.refresh()


def test_h_hides_all_and_shows_one_map_again(viewer: Viewer, shown: Any, hand: Any) -> None:
    for layer in shown.all:
        layer.visible = False
    session_of(viewer).toggle_overlays()
    assert {layer.metadata["dala_role"] for layer in shown.all if layer.visible} == {"probability", "unfamiliar"}


def test_nothing_is_drawn_beyond_the_picture(viewer: Viewer, painted: Any, tmp_path: Path, qtbot: Any) -> None:
    slide = open_slide(np.full((460, 700, 3), 200, np.uint8), mpp=0.5)  # the last row of tiles stands for 12 px
    layer = viewer.add_image(
        slide.read(0, 0, 700, 460), rgb=True, scale=slide.mpp, units=("um", "um"), metadata={"dala_slide": slide}
    )
    store = painted(tmp_path, TileGrid.over(slide, 224, 0.5))
    store._arrays["probability"][:] = 0.99
    store._arrays["cam"][1, :, 14:] = 1
    results = session_of(viewer).show(layer, load(tmp_path))
    qtbot.waitUntil(lambda: len(results.present) == 3 and viewer.canvas.overlays.scale_bar.visible)
    viewer.scene.camera.center = (0, *to_world(layer, 350, 230))
    viewer.scene.camera.zoom = 1.2  # screen px a um: 0.6 a pixel of the picture

    def seen() -> Any:
        QApplication.processEvents()
        return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)

    for shown in (results.probability, results.classes, results.cam):
        for each in results.all:
            each.visible = each is shown
        shown.opacity = 1
        there = seen()
        shown.visible = False
        changed = np.argwhere(np.abs(there - seen()).max(-1) > 8)
        middle = np.divide(there.shape[:2], 2)
        assert (np.abs(changed - middle).max(0) <= np.array([230, 350]) * 0.6 + 2).all()
        assert (changed.max(0) - middle >= np.array([230, 350]) * 0.6 - 3).all(), "the last tiles are missing"


@pytest.mark.timed
def test_laying_a_result_never_holds_the_window_for_0_3_s(
    viewer: Viewer, small_slide: Path, painted: Any, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (layer,) = viewer.open(small_slide, plugin="napari-dala")
    painted(tmp_path, TileGrid.over(open_slide(small_slide), 224, 0.5))
    loaded = load(tmp_path)
    held: list[float] = []
    insert = ResultLayers._insert

    def timed(results: ResultLayers, new: Any) -> None:
        before = time.thread_time()
        insert(results, new)
        held.append(time.thread_time() - before)

    monkeypatch.setattr(ResultLayers, "_insert", timed)
    before = time.thread_time()
    results = session_of(viewer).show(layer, loaded)
    assert time.thread_time() - before < 0.3
    assert results.present == [results.probability], "the others come between two events"
    qtbot.waitUntil(lambda: len(results.present) == 3)
    assert list(viewer.layers) == [layer, results.probability, results.classes, results.cam]
    assert viewer.layers.selection == {layer}
    assert max(held) < 0.3
