"""Slides opened in a real window, by real drops."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pint
import pytest
import tifffile
from napari._app_model import get_app_model
from napari.layers import Image
from napari.plugins.utils import get_preferred_reader
from napari.settings import get_settings
from npe2 import PluginManager
from qtpy.QtWidgets import QFileDialog
from skimage.data import immunohistochemistry
from skimage.io import imsave

from napari_dala.plugin.reader import get_reader
from napari_dala.slide import open_slide
from napari_dala.slide.pyramid import pyramid
from tests.drawn_slides import write_mrxs, write_scn
from tests.ome_zarrs import served, write_ome_zarr, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.viewer import Viewer
    from numpy.typing import NDArray
    from pytestqt.qtbot import QtBot

    from napari_dala.slide import Slide
    from tests.plugin.conftest import Drop

OURS = "napari-dala"


class Case(NamedTuple):
    file: str
    layer: str
    size: tuple[int, int]
    mpp: float | None


CASES = (
    Case("CMU-1-Small-Region.svs", "CMU-1-Small-Region", (2967, 2220), 0.499),
    Case("CMU-1-Small-Region-dicom", "CMU-1-Small-Region-dicom", (2967, 2220), 0.499),
    Case("😐.svs", "😐", (16, 16), 0.499),
    Case("boxes.tiff", "boxes", (250, 300), None),
)


@pytest.fixture
def rgb_tiff(tmp_path: Path) -> Path:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.full((40, 60, 3), 200, np.uint8), photometric="rgb", tile=(32, 32))
    return path


def thumbnail_of(slide: Slide) -> NDArray[np.uint8]:
    return np.asarray(Image(pyramid(slide), rgb=True, multiscale=True).thumbnail)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_a_dropped_slide_becomes_one_layer_in_micrometres(
    viewer: Viewer, drop: Drop, shared_data: Path, messages: Callable[[], list[str]], case: Case
) -> None:
    path = shared_data / "slides" / case.file
    assert not drop(viewer, path)
    (layer,) = viewer.layers  # and no label or macro picture
    assert layer.name == case.layer
    assert layer.data.shape == (*case.size, 3)
    assert layer.rgb
    assert layer.multiscale
    assert layer.source.reader_plugin == OURS
    assert layer.metadata["dala_slide"].path == path
    unit = pint.Unit("pixel" if case.mpp is None else "micrometer")
    assert layer.units == (unit, unit)
    far_corner = layer.data_to_world([side - 1 for side in case.size])
    np.testing.assert_allclose(far_corner, [(side - 1) * (case.mpp or 1) for side in case.size], rtol=1e-9)
    assert messages() == []


@pytest.mark.parametrize("kind", ["0.4", "0.5", "zip"])
def test_a_dropped_ome_zarr_becomes_one_layer_in_micrometres(
    viewer: Viewer, drop: Drop, tmp_path: Path, messages: Callable[[], list[str]], kind: str
) -> None:
    tissue = np.ascontiguousarray(immunohistochemistry()[:300, :400])
    path = write_ome_zarr(tmp_path / "slide.ome.zarr", tissue, version="0.4" if kind == "0.4" else "0.5")
    if kind == "zip":
        path = zipped(path, tmp_path / "slide.zarr.zip")
    assert not drop(viewer, path)
    (layer,) = viewer.layers
    assert layer.source.reader_plugin == OURS
    assert layer.metadata["dala_slide"].path == path
    np.testing.assert_array_equal(layer.data[0][:], tissue)
    np.testing.assert_allclose(layer.data_to_world((299, 399)), (299 * 0.4, 399 * 0.4))
    assert messages() == []


def test_a_slide_at_an_address_opens_in_the_window(viewer: Viewer, tmp_path: Path) -> None:
    tissue = np.ascontiguousarray(immunohistochemistry()[:300, :400])
    write_ome_zarr(tmp_path / "slide.zarr", tissue)
    with served(tmp_path) as address:
        (layer,) = viewer.open(f"{address}/slide.zarr", plugin=OURS)
        assert layer.name == "slide"
        np.testing.assert_array_equal(layer.data[0][:], tissue)


def test_fluorescence_in_ome_zarr_is_left_to_napari_with_the_reason(
    viewer: Viewer, drop: Drop, tmp_path: Path, messages: Callable[[], list[str]]
) -> None:
    path = write_ome_zarr(tmp_path / "stains.zarr", np.zeros((64, 64, 5), np.uint8), levels=1, channels=())
    assert not drop(viewer, path)
    assert all("dala_slide" not in layer.metadata for layer in viewer.layers)
    assert messages()[0].startswith("stains.zarr: axes cyx of 5 x 64 x 64")


@pytest.mark.parametrize("write", [write_scn, write_mrxs])
def test_a_slide_with_bounds_is_shown_from_its_scan_on(viewer: Viewer, drop: Drop, tmp_path: Path, write: Any) -> None:
    tissue = np.ascontiguousarray(immunohistochemistry()[:300, :400])
    assert not drop(viewer, write(tmp_path / "glass", tissue, (700, 900)))
    (layer,) = viewer.layers
    assert layer.data.shape == (300, 400, 3)
    assert np.abs(layer.data[0][100:200, 100:300].astype(int) - tissue[100:200, 100:300]).mean() < 4
    np.testing.assert_allclose(layer.data_to_world((100, 200)), (40, 80))


def test_napari_asks_for_slides_only_until_we_were_chosen_once(
    new_viewer: Viewer, drop: Drop, shared_data: Path
) -> None:
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    assert drop(new_viewer, path, choose=OURS)
    assert not drop(new_viewer, path)
    assert [layer.source.reader_plugin for layer in new_viewer.layers] == [OURS, OURS]


def test_the_readers_that_the_user_chose_stay_chosen(new_viewer: Viewer) -> None:
    get_settings().plugins.extension2reader = {"*.svs": "napari", "*.tif": "napari"}
    PluginManager.instance().activate(OURS)
    chosen = get_settings().plugins.extension2reader
    assert chosen["*.svs"] == chosen["*.tif"] == "napari"
    assert chosen["*.ndpi"] == chosen["*.tiff"] == chosen["*.TIFF"] == OURS


def test_a_folder_that_the_user_gave_to_another_reader_stays_there(new_viewer: Viewer, tmp_path: Path) -> None:
    get_settings().plugins.extension2reader = {"*.zarr/": "napari"}
    PluginManager.instance().activate(OURS)
    (tmp_path / "cells.zarr").mkdir()
    assert get_preferred_reader(tmp_path / "cells.zarr") == "napari"
    assert get_preferred_reader(tmp_path) == OURS
    assert get_preferred_reader(tmp_path / "scan.SVS") == OURS


def test_coarse_levels_appear_once_they_are_computed(
    viewer: Viewer, drop: Drop, shared_data: Path, qtbot: QtBot
) -> None:
    drop(viewer, shared_data / "slides" / "CMU-1-Small-Region.svs")
    (layer,) = viewer.layers
    slide, (height, width, _) = layer.metadata["dala_slide"], layer.data[-1].shape
    expected = slide.read(0, 0, 4 * width, 4 * height).reshape(height, 4, width, 4, 3).mean((1, 3))

    def all_there() -> None:
        np.testing.assert_allclose(layer.data[-1], expected, atol=1)
        np.testing.assert_array_equal(layer.thumbnail, thumbnail_of(slide))

    qtbot.waitUntil(all_there, timeout=20_000)


def test_new_levels_leave_the_view_where_it_is(viewer: Viewer, drop: Drop, shared_data: Path, qtbot: QtBot) -> None:
    drop(viewer, shared_data / "slides" / "CMU-1-Small-Region.svs")
    (layer,) = viewer.layers
    slide = layer.metadata["dala_slide"]
    qtbot.waitUntil(lambda: np.array_equal(layer.thumbnail, thumbnail_of(slide)), timeout=20_000)
    viewer.scene.camera.zoom, viewer.scene.camera.center = 8, (1400, 1000)  # the far corner of the finest level
    qtbot.waitUntil(lambda: layer.data_level == 0 and viewer.canvas.overlays.scale_bar.visible)
    before = viewer.screenshot(flash=False)
    layer.data = pyramid(slide)
    qtbot.waitUntil(lambda: layer.data_level == 0)
    np.testing.assert_array_equal(viewer.screenshot(flash=False), before)


def test_colours_and_place_on_screen_are_the_slide_s(
    viewer: Viewer, drop: Drop, shared_data: Path, qtbot: QtBot
) -> None:
    drop(viewer, shared_data / "slides" / "CMU-1-Small-Region.svs")
    (layer,) = viewer.layers
    x, y, zoom = 1200, 1000, 4
    viewer.scene.camera.zoom, viewer.scene.camera.center = zoom / 0.499, ((y - 0.5) * 0.499, (x - 0.5) * 0.499)
    qtbot.waitUntil(lambda: layer.data_level == 0)
    screen = viewer.screenshot(flash=False)[..., :3].astype(float)
    middle_y, middle_x = (side // 2 for side in screen.shape[:2])
    for left, top in ((0, 0), (-60, 0), (0, -60), (-60, -60)):  # quadrants of 60 px around the middle
        expected = layer.metadata["dala_slide"].read(x + left, y + top, 60, 60).mean((0, 1))
        shown = screen[
            middle_y + zoom * top : middle_y + zoom * (top + 60), middle_x + zoom * left : middle_x + zoom * (left + 60)
        ].mean((0, 1))
        np.testing.assert_allclose(shown, expected, atol=1.5)


def test_a_broken_slide_is_named_once_and_napari_lives_on(
    viewer: Viewer, drop: Drop, shared_data: Path, messages: Callable[[], list[str]]
) -> None:
    assert not drop(viewer, shared_data / "slides" / "broken.svs")
    assert messages() == ["broken.svs: not a slide in a known format, or cut short; copy the file again"]
    assert not viewer.layers
    assert not drop(viewer, shared_data / "slides" / "😐.svs")
    assert len(viewer.layers) == 1


def test_a_photograph_is_left_to_napari(viewer: Viewer, drop: Drop, tmp_path: Path) -> None:
    path = tmp_path / "field.png"
    imsave(path, np.full((30, 40, 3), 128, np.uint8), check_contrast=False)
    assert not drop(viewer, path)
    (layer,) = viewer.layers
    assert layer.source.reader_plugin == "napari"


@pytest.mark.parametrize("name", ["plain.TIF", "plain.ome.tiff"])
def test_endings_in_any_case_are_ours(viewer: Viewer, drop: Drop, rgb_tiff: Path, name: str) -> None:
    assert not drop(viewer, rgb_tiff.rename(rgb_tiff.with_name(name)))
    assert viewer.layers[0].metadata["dala_slide"].dimensions == (60, 40)


def test_a_folder_without_a_slide_is_left_to_napari(
    viewer: Viewer, drop: Drop, tmp_path: Path, messages: Callable[[], list[str]]
) -> None:
    for number in range(3):
        imsave(tmp_path / f"{number}.png", np.full((30, 40), 128, np.uint8), check_contrast=False)
    assert not drop(viewer, tmp_path)
    (layer,) = viewer.layers
    assert layer.data.shape == (3, 30, 40)
    assert messages() == []


def test_tiff_files_to_be_stacked_are_left_to_napari(viewer: Viewer, rgb_tiff: Path) -> None:
    other = shutil.copy(rgb_tiff, rgb_tiff.with_name("other.tif"))
    viewer.window._qt_viewer._qt_open([str(rgb_tiff), str(other)], stack=True)
    (layer,) = viewer.layers
    assert layer.data.shape == (2, 40, 60, 3)


def test_a_tiff_that_is_no_slide_is_left_to_napari_with_the_reason(
    viewer: Viewer, drop: Drop, tmp_path: Path, messages: Callable[[], list[str]]
) -> None:
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    assert not drop(viewer, path)
    (layer,) = viewer.layers
    assert layer.data.dtype == np.uint16
    (message,) = messages()
    assert message.startswith("deep.tif: ")
    assert "8-bit" in message


def test_a_file_that_nobody_can_read_is_named_and_nobody_is_asked(
    viewer: Viewer, drop: Drop, tmp_path: Path, messages: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("cannot read")

    monkeypatch.setattr("napari_dala.plugin.reader.read", refuse)  # napari's own leaves files open when it fails
    path = tmp_path / "cut.tif"
    path.write_bytes(b"no picture")
    assert not drop(viewer, path)
    assert not viewer.layers
    reason, refused = messages()
    assert reason.startswith("cut.tif: not a picture")
    assert refused == "cut.tif: napari cannot read it either"


def test_where_several_others_read_a_picture_napari_asks_among_them(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    found = [SimpleNamespace(plugin_name=name) for name in ("napari", OURS, "another")]
    monkeypatch.setattr(PluginManager.instance(), "iter_compatible_readers", lambda _: iter(found))
    assert get_reader(str(path)) is None


def test_removing_the_layer_lets_go_of_the_file(viewer: Viewer, rgb_tiff: Path, qtbot: QtBot) -> None:
    (layer,) = viewer.open(rgb_tiff, plugin=OURS)
    slide = weakref.ref(layer.metadata["dala_slide"])
    del layer
    viewer.layers.clear()
    qtbot.wait(50)
    gc.collect()
    assert slide() is None


def test_napari_with_all_our_commands_loads_no_torch(rgb_tiff: Path) -> None:
    script = f"""
import sys, napari
from npe2 import PluginManager
viewer = napari.Viewer()
viewer.open({str(rgb_tiff)!r}, plugin="napari-dala")
manager = PluginManager.instance()
for command in manager.get_manifest("napari-dala").contributions.commands:
    manager.commands.get(command.id)
loaded = {{"torch", "torchvision", "lightning"}} & set(sys.modules)
viewer.close()
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_open_slide_command_opens_what_the_dialog_gives(
    viewer: Viewer, rgb_tiff: Path, monkeypatch: pytest.MonkeyPatch, messages: Callable[[], list[str]]
) -> None:
    chosen: dict[str, Any] = {"path": str(rgb_tiff)}
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (chosen["path"], ""))
    run = get_app_model().commands.execute_command
    run("napari-dala.open_slide").result()
    (layer,) = viewer.layers
    assert layer.metadata["dala_slide"].dimensions == open_slide(rgb_tiff).dimensions
    rgb_tiff.write_bytes(b"no longer a picture")
    run("napari-dala.open_slide").result()
    chosen["path"] = ""  # cancelled
    run("napari-dala.open_slide").result()
    assert len(viewer.layers) == 1
    (message,) = messages()
    assert message.startswith("plain.tif: ")
