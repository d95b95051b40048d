"""Which slide and which model the docks speak of, in the real window."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.settings import get_plugin_settings
from PIL import Image as Picture
from safetensors.numpy import save_file

from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.plugin.analyze.run import analyses_folder
from napari_dala.plugin.parts.models_dialog import ModelsDialog
from napari_dala.plugin.viewer.session import OUTDATED, session_of
from napari_dala.plugin.viewer.slide_layers import slide_of
from napari_dala.results.loaded import load
from napari_dala.slide import open_slide
from napari_dala.workspace import models_folder
from tests.plugin.buttons import press
from tests.plugin.results_made import has_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def install(name: str, bundle_hash: str) -> None:
    """Put a model into the workspace of which nothing but its card is read."""
    card = UNTRAINED_CARD.model_copy(update={"trained": True, "name": name})
    path = models_folder() / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({"w": np.zeros(1)}, path, {"card": card.model_dump_json(), "hash": bundle_hash})


ONE, TWO, THREE = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def shown(qtbot: Any, docks: Any) -> Callable[[], float | None]:
    """The probability in the map that is shown once nothing more is being read; None where there is none."""

    def probability() -> float | None:
        qtbot.wait(100)
        qtbot.waitUntil(
            lambda: docks.analyze.offer_button.isHidden() or docks.analyze.offer_button.isEnabled(), timeout=9000
        )
        maps = [one for one in docks.viewer.layers if one.metadata.get("dala_role") == "probability" and one.visible]
        assert len(maps) < 2
        assert bool(maps) == (docks.analyze._session.results is not None) == docks.analyze.panel.isVisible()
        return round(float(np.nanmax(maps[0].data)), 2) if maps else None

    return probability


def test_each_model_shows_its_own_result_or_none(docks: Any, qtbot: Any, small_slide: Path, shown: Any) -> None:
    for name, bundle_hash in (("first", ONE), ("second", TWO), ("third", THREE)):
        install(name, bundle_hash)
    has_run("first", ONE, small_slide, 0.2)
    has_run("second", TWO, small_slide, 0.8)
    dock = docks.analyze
    dock._list_models("first")
    docks.viewer.open(small_slide, plugin="napari-dala")
    assert "“first” has run on this slide before" in dock.offer.text()
    press(qtbot, dock.offer_button)
    assert (qtbot.waitUntil(lambda: dock._session.results is not None, timeout=9000), shown()) == (None, 0.2)
    assert all(one.name.endswith("· small · first") for one in docks.viewer.layers if "dala_role" in one.metadata)
    dock.panel.threshold.setValue(0.62)
    for name, expected in (("second", 0.8), ("third", None), ("first", 0.2), ("third", None), ("second", 0.8)):
        dock.model_box.setCurrentText(name)
        assert shown() == expected, name
        if expected is None:
            assert f"“{name}” has not run on this slide yet" in dock.offer.text()
        else:
            assert name in dock.panel.counts.text()
            assert dock.panel.threshold.value() == (0.62 if name == "first" else 0.5), "each has its own threshold"
    for name in ("first", "second", "third"):
        dock.model_box.setCurrentText(name)  # before what the one before found was read
    assert shown() is None
    assert dock.model_box.currentText() == "third"
    press(qtbot, dock.offer_button)  # what another model found, asked for
    qtbot.waitUntil(lambda: dock._session.results is not None, timeout=9000)
    assert dock.model_box.currentText() == dock._session.results.analysis.card.name == "second"


def test_results_that_are_being_read_are_not_read_twice(docks: Any, qtbot: Any, small_slide: Path, shown: Any) -> None:
    install("first", ONE)
    has_run("first", ONE, small_slide, 0.2)
    dock = docks.analyze
    dock._list_models("first")
    docks.viewer.open(small_slide, plugin="napari-dala")
    press(qtbot, dock.offer_button)
    docks.viewer.add_points()  # the dock follows whatever happens meanwhile
    assert dock.offer_button.isVisible()
    assert not dock.offer_button.isEnabled()
    assert shown() == 0.2
    docks.viewer.layers.remove(dock._session.layer)
    docks.viewer.open(small_slide, plugin="napari-dala")
    assert dock.offer_button.isEnabled(), "the same results may be read again, for another layer"


def test_the_threshold_comes_back_with_slide_and_model(docks: Any, qtbot: Any, small_slide: Path) -> None:
    install("first", ONE)
    has_run("first", ONE, small_slide, 0.2)
    dock, session = docks.analyze, session_of(docks.viewer)
    dock._list_models("first")
    for expected in (0.5, 0.71):
        docks.viewer.open(small_slide, plugin="napari-dala")
        press(qtbot, dock.offer_button)
        qtbot.waitUntil(lambda: session.results is not None, timeout=9000)
        assert dock.panel.threshold.value() == expected
        dock.panel.threshold.setValue(0.71)
        qtbot.wait(500)
        docks.viewer.layers.remove(session.layer)


@pytest.fixture
def pictures(tmp_path: Path, small_slide: Path) -> list[Path]:
    """Two photographs that do not say their resolution."""
    pixels = open_slide(small_slide).read(0, 0, 900, 500)
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for number, path in enumerate(paths):
        Picture.fromarray(pixels[:, 300 * number : 300 * number + 480]).save(path)
    return paths


def test_the_resolution_of_one_picture_is_not_that_of_the_next(docks: Any, qtbot: Any, pictures: list[Path]) -> None:
    dock = docks.analyze
    docks.viewer.open(pictures[0], plugin="napari")
    first = docks.viewer.layers[0]
    assert dock.mpp_box.text() == "unknown"
    press(qtbot, dock.resolution.usual["20×"])
    assert first.metadata["dala_slide"].mpp == (0.5, 0.5)
    docks.viewer.open(pictures[1], plugin="napari")
    second = docks.viewer.layers[1]
    assert dock.mpp_box.text() == "unknown", "it was never said of this one"
    assert second.metadata["dala_slide"].mpp is None
    assert not dock.run_button.isEnabled()
    assert "does not say its resolution" in dock.ask_mpp.text()
    press(qtbot, dock.resolution.usual["40×"])
    assert [one.metadata["dala_slide"].mpp for one in (first, second)] == [(0.5, 0.5), (0.25, 0.25)]
    assert first.scale.tolist() == [0.5, 0.5]
    assert second.scale.tolist() == [0.25, 0.25]
    docks.viewer.layers.selection.active = first
    assert dock.mpp_box.value() == 0.5
    docks.viewer.layers.clear()
    docks.viewer.open(pictures[1], plugin="napari")
    assert dock.mpp_box.value() == 0.25, "what was said of this very picture before"


def test_a_corrected_resolution_marks_the_result_of_before(
    docks: Any, qtbot: Any, pictures: list[Path], shown: Any
) -> None:
    install("first", ONE)
    has_run("first", ONE, pictures[0], 0.3, mpp=0.5)
    dock = docks.analyze
    dock._list_models("first")
    docks.viewer.open(pictures[0], plugin="napari")
    press(qtbot, dock.resolution.usual["20×"])
    press(qtbot, dock.offer_button)
    qtbot.waitUntil(lambda: dock._session.results is not None, timeout=9000)
    assert dock.offer.text() == ""
    press(qtbot, dock.resolution.usual["40×"])
    assert dock.offer.text().startswith("Outdated: this result was made at 0.5 µm per pixel, but the slide has 0.25.")
    maps = [one for one in docks.viewer.layers if "dala_role" in one.metadata]
    assert maps
    assert all(one.name.endswith(OUTDATED) for one in maps)
    press(qtbot, dock.resolution.usual["20×"])
    assert dock.offer.text() == ""
    assert not any(one.name.endswith(OUTDATED) for one in maps)
    assert shown() == 0.3


def test_slides_lie_beside_each_other_in_one_unit(
    docks: Any, qtbot: Any, pictures: list[Path], small_slide: Path, messages: Callable[[], list[str]]
) -> None:
    docks.viewer.open(small_slide, plugin="napari-dala")
    for path in pictures:
        tifffile.imwrite(path.with_suffix(".tif"), np.asarray(Picture.open(path)), photometric="rgb", metadata=None)
        docks.viewer.open(path.with_suffix(".tif"), plugin="napari-dala")
        newest = docks.viewer.layers[-1]
        middle = newest.extent.world.mean(axis=0)
        np.testing.assert_allclose(docks.viewer.scene.camera.center[-2:], middle, atol=1)
        assert docks.analyze.layer_box.currentText() == newest.name
    press(qtbot, docks.analyze.resolution.usual["40×"])
    assert docks.viewer.layers[1].metadata["dala_slide"].mpp is None
    edges = [(one.extent.world[0, 1], one.extent.world[1, 1]) for one in docks.viewer.layers]
    for (_, right), (left, _) in pairwise(edges):
        assert right < left
    assert {str(unit) for one in docks.viewer.layers for unit in one.units} == {"micrometer"}
    qtbot.wait(300)
    assert not [text for text in messages() if "nits" in text]


def test_by_preference_one_slide_is_seen_at_a_time(
    docks: Any, qtbot: Any, pictures: list[Path], small_slide: Path, request: Any
) -> None:
    request.addfinalizer(lambda: setattr(get_plugin_settings("napari-dala").files, "one_slide", False))
    get_plugin_settings("napari-dala").files.one_slide = True
    has_run("first", ONE, small_slide, 0.9)
    docks.viewer.open(small_slide, plugin="napari-dala")
    first = docks.viewer.layers[0]
    docks.analyze._session.show(first, load(analyses_folder(slide_of(first))))
    qtbot.waitUntil(lambda: len(docks.viewer.layers) >= 4)
    before = {one: one.visible for one in docks.viewer.layers}
    docks.viewer.open(pictures[0], plugin="napari")
    second = docks.viewer.layers[-1]
    assert [one for one in docks.viewer.layers if one.visible] == [second]
    docks.analyze.layer_box.setCurrentText(first.name)
    docks.analyze.layer_box.activated.emit(docks.analyze.layer_box.currentIndex())
    assert {one: one.visible for one in before} == before
    assert not second.visible
    get_plugin_settings("napari-dala").files.one_slide = False
    docks.viewer.layers.selection.active = second
    assert first.visible
    assert second.visible


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.zeros((60, 80), np.uint8), "grey or fluorescence"),
        (np.zeros((60, 80), np.uint16), "uint16"),
        (np.zeros((3, 60, 80), np.uint8), "stains one by one"),
    ],
    ids=["grey", "16 bit", "stack"],
)
def test_a_picture_that_is_no_slide_says_why(
    docks: Any, tmp_path: Path, small_slide: Path, pixels: np.ndarray, why: str
) -> None:
    dock = docks.analyze
    docks.viewer.open(small_slide, plugin="napari-dala")
    slide = docks.viewer.layers[0]
    assert dock.run_button.isEnabled()
    path = tmp_path / "stain.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack")
    docks.viewer.open(path, plugin="napari")
    assert "“stain” cannot be analysed" in dock.error.text()
    assert why in dock.error.text()
    assert not dock.run_button.isEnabled()
    assert dock.layer_box.currentIndex() == -1
    assert [str(unit) for unit in docks.viewer.layers[-1].units[-2:]] == ["micrometer", "micrometer"]
    docks.viewer.layers.selection.active = slide
    assert dock.error.text() == ""
    assert dock.run_button.isEnabled()


def test_an_ome_tiff_that_napari_opened_says_its_resolution(docks: Any, tmp_path: Path, small_slide: Path) -> None:
    path = tmp_path / "field.ome.tif"
    pixels = open_slide(small_slide).read(0, 0, 400, 300)
    size = {"axes": "YXS", "PhysicalSizeX": 0.4, "PhysicalSizeY": 0.4}
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=size)
    docks.viewer.open(path, plugin="napari")
    assert docks.analyze.ask_mpp.text() == ""
    assert docks.analyze.resolution.isHidden()
    assert docks.analyze._session.open_slide().mpp == (0.4, 0.4)
    smaller = docks.viewer.add_image(pixels[::2, ::2], rgb=True)  # as a reader of a smaller level gives it
    smaller._source = docks.viewer.layers[0].source
    assert docks.analyze._session.open_slide() is not None


def test_what_one_slide_said_does_not_stay_with_another(
    docks: Any, qtbot: Any, small_slide: Path, large_slide: Path, finished: Any
) -> None:
    dock = docks.analyze
    docks.viewer.open(large_slide, plugin="napari-dala")
    docks.viewer.open(small_slide, plugin="napari-dala")
    large, small = docks.viewer.layers
    dock.model_box.choose_card("untrained")
    press(qtbot, dock.run_button)
    assert not dock.model_box.isEnabled()
    docks.viewer.layers.selection.active = large
    qtbot.waitUntil(lambda: dock.progress_text.text().startswith("small: "), timeout=20_000)
    docks.viewer.layers.selection.active = small
    finished(dock)
    assert "tiles/s" in dock.progress_text.text()
    assert dock.progress_text.isVisible()
    docks.viewer.layers.selection.active = large
    assert not dock.progress_text.isVisible()
    assert not dock.panel.isVisible()
    dock.layer_box.activated.emit(dock.layer_box.findText("small"))
    np.testing.assert_allclose(docks.viewer.scene.camera.center[-2:], small.extent.world.mean(axis=0), atol=1)
    assert dock.progress_text.isVisible()
    assert dock.panel.isVisible()
    dock.model_box.setCurrentText("breakhis-ucsb")
    assert not dock.progress_text.isVisible(), "that was another model's"


def test_cancel_answers_while_the_network_loads(docks: Any, qtbot: Any, small_slide: Path, finished: Any) -> None:
    dock = docks.analyze
    dock._child.close()  # as after a crash: it is started again, and reads torch
    docks.viewer.open(small_slide, plugin="napari-dala")
    press(qtbot, dock.run_button)
    qtbot.wait(1200)
    assert dock.progress_text.text() == "Loading the network… 1 s"
    begun = time.monotonic()
    press(qtbot, dock.cancel_button)
    finished(dock)
    assert time.monotonic() - begun < 1
    assert dock.run_button.isEnabled()
    assert dock.error.text() == ""
    press(qtbot, dock.run_button)  # and goes on from there
    finished(dock)
    assert dock._session.results.analysis.summary().todo == 0


def test_models_are_renamed_and_removed(docks: Any, qtbot: Any, small_slide: Path, shown: Any) -> None:
    install("first", ONE)
    has_run("first", ONE, small_slide, 0.2)
    dock = docks.analyze
    dock._list_models("first")
    docks.viewer.open(small_slide, plugin="napari-dala")
    press(qtbot, dock.offer_button)
    qtbot.waitUntil(lambda: dock._session.results is not None, timeout=9000)
    dock.model_box._show_models()
    dialog = dock.model_box.findChild(ModelsDialog)
    assert dialog.entry.name == "first"
    dialog.rename("untrained")
    assert "built-in" in dialog.error.text()
    dialog.rename("Breast 2")
    assert dock.model_box.currentText() == dialog.entry.name == "Breast 2"
    assert shown() == 0.2
    assert dock._session.results.analysis.card.name == "Breast 2"
    assert all(one.name.endswith("Breast 2") for one in docks.viewer.layers if "dala_role" in one.metadata)
    dialog.remove()
    assert dock.model_box.findText("Breast 2") == -1
    assert shown() is None, "the model in the box is another one"
    assert "“Breast 2”" in dock.offer.text() or "“first”" in dock.offer.text()
    for row in range(dialog.models.count()):
        dialog.models.setCurrentRow(row)
        assert not dialog.rename_button.isEnabled()
        assert not dialog.remove_button.isEnabled()
    with qtbot.waitSignal(dialog.destroyed):
        press(qtbot, dialog.close_button)


def test_docks_that_are_opened_later_begin_with_the_model_whose_result_is_shown(
    docks: Any, qtbot: Any, small_slide: Path
) -> None:
    install("mine", "a" * 64)
    has_run("mine", "a" * 64, small_slide, 0.1)
    docks.viewer.open(small_slide, plugin="napari-dala")
    press(qtbot, docks.analyze.offer_button)
    qtbot.waitUntil(lambda: session_of(docks.viewer).results is not None, timeout=20_000)
    add = docks.viewer.window.add_plugin_dock_widget
    slides, annotate = (add("napari-dala", title)[1] for title in ("Slides", "Annotate & learn"))
    for box in (slides.model_box, annotate.learn.model_box):
        qtbot.waitUntil(lambda box=box: box.currentText() == "mine")
