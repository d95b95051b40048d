"""New results beside the old: hidden and kept, looked at in turn, then one of the two goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_dala.model.threshold import DynamicThreshold
from napari_dala.plugin.viewer.cam_picture import CamView
from napari_dala.plugin.viewer.overlays import PREVIEW
from napari_dala.plugin.viewer.session import Session
from napari_dala.results.loaded import load, read_blocks
from napari_dala.results.opening import for_bundle
from napari_dala.results.tile_results import RescoredTiles, TileResults
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.results.loaded import LoadedAnalysis

GRID = TileGrid((2000, 1500), 224, (1.0, 1.0), 7)
WHOSE = " · slide · painted"
NAMES = [f"{what}{WHOSE}" for what in ("Malignant probability", "Predicted class", "DT Grad-CAM: malignant")]


class Desk:
    """A viewer with a slide, and analyses to lay over it."""

    def __init__(self, folder: Path, painted: Any) -> None:
        self._folder, self._painted = folder, painted
        self.viewer = ViewerModel()
        width, height = GRID.slide_size
        self.slide = self.viewer.add_layer(Image(np.zeros((height, width, 3), np.uint8), rgb=True, name="slide"))
        self.session = Session(self.viewer)

    def analysis(self, malignant: float) -> LoadedAnalysis:
        """An analysis in which every tile has this probability."""
        store = self._painted(self._folder / str(malignant), GRID)
        store._arrays["probability"][1] = malignant
        store._arrays["probability"][0] = 1 - malignant
        return load(store.path)

    @property
    def visible(self) -> dict[str, bool]:
        return {layer.name: layer.visible for layer in self.viewer.layers if layer is not self.slide}

    def hover(self) -> str:
        return self.session.results.describe(self.slide.data_to_world((300, 300)))


@pytest.fixture
def desk(tmp_path: Path, painted: Any) -> Desk:
    return Desk(tmp_path, painted)


def shown(results: Any) -> list[np.ndarray]:
    return [np.array(layer.data) for layer in results.all]


def test_drop_restores_everything(desk: Desk) -> None:
    session, layer = desk.session, desk.slide
    old = session.show(layer, desk.analysis(0.2))
    session.explain(CamView(1, True, DynamicThreshold(min_area_um2=0)))
    old.cam.visible, old.classes.visible = False, True
    before, visible = shown(old), desk.visible
    new = session.show(layer, desk.analysis(0.8), preview=True)
    assert session.results is new is session.results_of(layer)
    assert desk.visible == {
        **dict.fromkeys(NAMES, False),
        f"{NAMES[0]}{PREVIEW}": True,
        f"{NAMES[1]}{PREVIEW}": True,
        f"{NAMES[2]}{PREVIEW}": False,
    }
    assert "malignant 80%" in desk.hover()
    assert new.explanation == old.explanation

    # Sliders, the H key and the selection are the preview's.
    session.set_threshold(0.9)
    session.explain(CamView(0, thresholded=False))
    assert new.cam.visible
    new.cam.visible = False
    assert (new.threshold, old.threshold) == (0.9, 0.5)
    for expected in (False, True):
        session.toggle_overlays()
        assert [one.visible for one in new.all] == [False, expected, expected]
        assert not any(one.visible for one in old.all)
    for one in (*old.all, *new.all):
        desk.viewer.layers.selection.active = one
        assert session.layer is layer

    session.drop_preview(layer)
    assert session.results is old
    assert desk.visible == visible
    for left, right in zip(before, shown(old), strict=True):
        np.testing.assert_array_equal(left, right)
    assert "malignant 20%" in desk.hover()
    session.drop_preview(layer)
    session.keep_preview(layer)
    assert session.results is old, "without a preview there is nothing to keep or drop"


def test_keep_removes_the_old(desk: Desk) -> None:
    session, layer = desk.session, desk.slide
    session.show(layer, desk.analysis(0.2))
    new = session.show(layer, desk.analysis(0.8), preview=True)
    session.keep_preview(layer)
    assert session.results is new
    assert desk.visible == {NAMES[0]: True, NAMES[1]: False, NAMES[2]: False}
    session.explain(CamView(0))
    assert new.cam.name == f"DT Grad-CAM: benign{WHOSE}"
    session.drop_preview(layer)
    assert session.results is new


def test_a_preview_where_there_was_nothing(desk: Desk) -> None:
    session, layer = desk.session, desk.slide
    session.show(layer, desk.analysis(0.8), preview=True)
    session.show_before(layer, True)
    assert desk.visible[f"{NAMES[0]}{PREVIEW}"], "there is nothing else to look at"
    session.drop_preview(layer)
    assert session.results is None
    assert desk.visible == {}
    new = session.show(layer, desk.analysis(0.8), preview=True)
    session.keep_preview(layer)
    assert session.results is new
    assert list(desk.visible) == NAMES


def test_look_at_both_in_turn(desk: Desk) -> None:
    session, layer = desk.session, desk.slide
    old = session.show(layer, desk.analysis(0.2))
    old.probability.visible, old.cam.visible = False, True
    new = session.show(layer, desk.analysis(0.8), preview=True)
    new.probability.visible = new.classes.visible = True
    told = []
    session.results_changed.connect(lambda: told.append(session.results))
    session.show_before(layer, True)
    assert told == [old]
    assert [one.visible for one in (*old.all, *new.all)] == [True] * 3 + [False] * 3
    assert "malignant 20%" in desk.hover(), "what is said is of the map that is seen"
    session.show_before(layer, True)
    old.classes.visible = False
    session.show_before(layer, False)
    assert [one.visible for one in (*old.all, *new.all)] == [False] * 3 + [True, False, True]
    session.show_before(layer, True)
    session.drop_preview(layer)
    assert desk.visible == {NAMES[0]: False, NAMES[1]: False, NAMES[2]: True}, "as it was before the preview"


@pytest.mark.parametrize("looking_at", ["before", "after"])
def test_accept_whichever_is_looked_at(desk: Desk, looking_at: str) -> None:
    session, layer = desk.session, desk.slide
    session.show(layer, desk.analysis(0.2))
    new = session.show(layer, desk.analysis(0.8), preview=True)
    session.show_before(layer, looking_at == "before")
    session.keep_preview(layer)
    assert session.results is new
    assert desk.visible == {NAMES[0]: True, NAMES[1]: False, NAMES[2]: False}


def test_layers_that_the_user_removes(desk: Desk) -> None:
    session, layer, layers = desk.session, desk.slide, desk.viewer.layers
    old = session.show(layer, desk.analysis(0.2))
    new = session.show(layer, desk.analysis(0.8), preview=True)
    layers.remove(old.cam)
    layers.remove(new.classes)
    layers.remove(new.cam)
    assert session.results is new
    layers.remove(new.probability)
    assert session.results is old, "a preview without layers is dropped"
    assert desk.visible == {NAMES[0]: True, NAMES[1]: False}
    session.show(layer, desk.analysis(0.7), preview=True)
    layers.remove(layer)
    assert not layers, "all go with their slide"
    assert session.results is None


def test_another_analysis_replaces_both(desk: Desk) -> None:
    session, layer = desk.session, desk.slide
    session.show(layer, desk.analysis(0.2))
    session.show(layer, desk.analysis(0.8), preview=True)
    newer = session.show(layer, desk.analysis(0.7), preview=True)
    assert session.results is newer
    assert len(desk.visible) == 6, "one preview at a time"
    last = session.show(layer, desk.analysis(0.6))
    assert session.results is last
    assert desk.visible == {NAMES[0]: True, NAMES[1]: False, NAMES[2]: False}


def test_an_approximate_map_says_so_until_it_is_exact(desk: Desk, tmp_path: Path, painted: Any) -> None:
    first = painted(tmp_path / "first", GRID)
    store = for_bundle(first, "f" * 16, first.card)
    row = column = np.array([1])
    cam = np.ones((1, 2, 7, 7))
    store.write_rescored(RescoredTiles(row, column, np.array([[0.4, 0.6]], np.float32), cam))
    results = desk.session.show(desk.slide, load(store.path), preview=True)
    name = f"DT Grad-CAM: malignant (approximate){WHOSE}{PREVIEW}"
    assert results.cam.name == name
    assert np.isfinite(results.probability.data).sum() == 1
    found = TileResults(row, column, np.array([[0.4, 0.6]], np.float32), cam, np.zeros((1, 2048)))
    store.write(found, [])
    desk.session.add(results, read_blocks(store, [(0, 0)]))
    assert results.cam.name == f"{NAMES[2]}{PREVIEW}"
    desk.session.keep_preview(desk.slide)
    assert results.cam.name == NAMES[2]
