"""ICC profiles in the real window: what is shown is what is analysed, and results in other colours are not offered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.layers._source import layer_source
from napari.settings import get_plugin_settings
from PIL import Image as Picture

from napari_dala.annotations.adding import add_slides
from napari_dala.annotations.slide_table import SlideRow, State
from napari_dala.model.catalog import ModelEntry
from napari_dala.plugin.analyze.run import request_for
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.slides.reading import _rows
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import slide_of
from napari_dala.results.by_model import OTHER_COLOURS
from napari_dala.slide import open_slide
from tests.icc import SWAPPED, by_littlecms
from tests.plugin.analyze.test_whose_result import ONE, install, press
from tests.plugin.results_made import has_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pixels(small_slide: Path) -> np.ndarray:
    with open_slide(small_slide) as slide:
        return slide.read(0, 0, 600, 448)


@pytest.fixture
def swapped(tmp_path: Path, pixels: np.ndarray) -> Path:
    """A slide whose scanner calls blue what sRGB calls red."""
    path = tmp_path / "swapped.tif"
    how: dict[str, Any] = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", compression="zlib", iccprofile=SWAPPED, **how)
    return path


def test_the_window_shows_srgb_unless_it_is_not_wanted(docks: Any, swapped: Path, pixels: np.ndarray) -> None:
    chosen: Any = get_plugin_settings("napari-dala")
    for wanted, expected in ((True, by_littlecms(pixels, SWAPPED)), (False, pixels)):
        chosen.files.icc_profile = wanted
        docks.viewer.open(swapped, plugin="napari-dala")
        layer, slide = session_of(docks.viewer).layer, session_of(docks.viewer).open_slide()
        np.testing.assert_array_equal(np.asarray(layer.data[0]), expected)
        np.testing.assert_array_equal(slide.thumbnail(600), expected)
        assert request_for(slide, "untrained").icc_profile is wanted, "what the child reads is what is shown"
        docks.viewer.layers.remove(layer)
    chosen.files.icc_profile = True


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_picture_that_napari_read_itself_is_shown_as_it_is_analysed(
    docks: Any, tmp_path: Path, pixels: np.ndarray, mode: str
) -> None:
    Picture.fromarray(pixels).convert(mode).save(tmp_path / "field.png", icc_profile=SWAPPED)
    docks.viewer.open(tmp_path / "field.png", plugin="napari")
    layer, slide = session_of(docks.viewer).layer, session_of(docks.viewer).open_slide()
    expected = by_littlecms(pixels, SWAPPED)
    np.testing.assert_array_equal(slide.read(0, 0, 600, 448), expected)
    np.testing.assert_array_equal(np.asarray(layer.data), expected)


def test_levels_that_another_reader_s_slide_lacks_are_shown_once_they_are_made(
    viewer: Any, qtbot: Any, tmp_path: Path, pixels: np.ndarray
) -> None:
    wide = np.tile(pixels, (1, 4, 1))  # more than what is drawn at once
    tifffile.imwrite(tmp_path / "w.tif", wide, tile=(64, 64), photometric="rgb", compression="zlib", iccprofile=SWAPPED)
    with layer_source(path=str(tmp_path / "w.tif"), reader_plugin="another"):
        layer = viewer.add_image([wide, wide[::2, ::2]], rgb=True, multiscale=True)
    slide_of(layer)
    expected = np.asarray(Picture.fromarray(by_littlecms(wide, SWAPPED)).reduce(4))
    qtbot.waitUntil(lambda: np.array_equal(np.asarray(layer.data[-1]), expected), timeout=20_000)


def test_results_without_the_profile_are_named_and_not_offered(docks: Any, qtbot: Any, swapped: Path) -> None:
    install("first", ONE)
    has_run("first", ONE, swapped, 0.2, icc_profile=False)
    dock = docks.analyze
    dock._list_models("first")
    docks.viewer.open(swapped, plugin="napari-dala")
    assert dock.offer.text() == OTHER_COLOURS
    assert dock.offer_button.isHidden()
    has_run("first", ONE, swapped, 0.7)
    dock.refresh()
    assert "“first” has run on this slide before" in dock.offer.text()
    press(qtbot, dock.offer_button)
    qtbot.waitUntil(lambda: dock._session.results is not None, timeout=9000)
    assert np.nanmax(dock._session.results.analysis.probability[1]) == pytest.approx(0.7)


def test_the_list_looks_at_slides_that_were_noted_before_profiles_were(docks: Any, swapped: Path) -> None:
    [added] = add_slides([swapped])
    note = added.slide.folder / "slide.json"
    facts = json.loads(note.read_text())
    assert len(facts.pop("own_profile_id")) == 12
    note.write_text(json.dumps(facts))
    has_run("first", ONE, swapped, 0.2, icc_profile=False)
    entry, preferences = ModelEntry("first", None, None, hash=ONE), load_preferences()
    for icc_profile, state in ((True, State.OUTDATED), (False, State.DONE)):
        read = _rows(replace(preferences, icc_profile=icc_profile), entry)
        assert {row.state for row in read if isinstance(row, SlideRow)} == {state}


def test_a_damaged_profile_is_told(viewer: Any, messages: Any, tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", compression="zlib", iccprofile=SWAPPED[:150])
    viewer.open(path, plugin="napari-dala")
    np.testing.assert_array_equal(np.asarray(viewer.layers[0].data[0]), pixels)
    told = [line for line in messages() if "colour profile" in line]
    assert len(told) == 1
    assert "damaged.tif" in told[0]
