"""The npe2 manifest against what is really there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari._app_model import get_app_model
from npe2 import PluginManager, PluginManifest

import napari_dala
from napari_dala.plugin.parts.dock import TITLES
from napari_dala.plugin.preferences import PLUGIN
from napari_dala.slide.backends.zarr_store import OME_ZARR_SUFFIXES
from napari_dala.slide.open import OPENSLIDE_SUFFIXES, PHOTOGRAPH_SUFFIXES, TIFF_SUFFIXES

if TYPE_CHECKING:
    from napari.viewer import Viewer


def manifest() -> PluginManifest:
    found = PluginManifest.from_distribution(PLUGIN)
    assert found.package_version == napari_dala.__version__
    return found


def test_every_python_name_can_be_imported() -> None:
    manifest().validate_imports()


def test_the_reader_claims_what_we_can_read_and_napari_cannot() -> None:
    (reader,) = manifest().contributions.readers
    claimed = {pattern.removeprefix("*") for pattern in reader.filename_patterns}
    assert claimed == {*OPENSLIDE_SUFFIXES, *TIFF_SUFFIXES, *OME_ZARR_SUFFIXES}
    assert not claimed & set(PHOTOGRAPH_SUFFIXES)


def test_every_command_stands_in_a_menu(viewer: Viewer) -> None:
    menus = get_app_model().menus
    for menu, command in (
        ("napari/layers/classify", "analyze"),
        ("napari/layers/visualize", "explain"),
        ("napari/layers/annotate", "annotate"),
        ("napari/layers/annotate", "review"),
        ("napari/file/io_utilities", "open_slide"),
        ("napari/plugins/napari-dala", "start_here"),
        ("napari/plugins/napari-dala", "slides"),
        ("napari/plugins/napari-dala", "analyze"),
        ("napari/plugins/napari-dala", "explain"),
        ("napari/plugins/napari-dala", "review"),
        ("napari/plugins/napari-dala", "annotate"),
        ("napari/file/samples/napari-dala", "teaching"),
        ("napari/file/samples/napari-dala", "cmu-1-small-region"),
    ):
        assert f"{PLUGIN}.{command}" in [item.command.id for item in menus.get_menu(menu)], (menu, command)


def test_the_docks_are_offered_in_the_order_of_work() -> None:
    PluginManager.instance().discover()
    widgets = [
        widget.display_name for widget in PluginManager.instance().iter_widgets() if widget.plugin_name == PLUGIN
    ]
    assert tuple(widgets) == TITLES
