"""Slides as napari layers: multiscale, lazy, in micrometres. What is no slide goes to who would read it without us."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from napari.utils.notifications import show_error, show_info
from npe2 import PluginManager, read
from qtpy.QtCore import QCoreApplication
from superqt.utils import ensure_main_thread

from napari_dala.errors import SlideError
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.plain_text import without_tags
from napari_dala.plugin.viewer.scale_bar import show_scale_bar
from napari_dala.slide.open import OPENSLIDE_SUFFIXES, is_slide_folder, open_slide
from napari_dala.slide.pyramid import pyramid

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_dala.slide.base import Slide

    LayerData = tuple[Any, dict[str, Any], str]
    ReaderFunction = Callable[[str], list[Any]]

# These are slides and nothing else; a TIFF may be any picture, and a .dcm may as well come from a CT scanner.
SLIDE_SUFFIXES = tuple(suffix for suffix in OPENSLIDE_SUFFIXES if suffix != ".dcm")
_OURS = "napari-dala"


def get_reader(path: str | list[str]) -> ReaderFunction | None:
    """Return a function that reads the slide at `path` as layer data.

    What is no slide is read as it would be without us: by the only other reader there is. Where there are several, or
    none, the answer is None, and napari asks.

    What cannot be read is named to the user with the reason. A broken slide is then accepted and gives no layer:
    declining it, or raising, opens a dialog in which napari offers its own reader, which cannot read it either.

    Parameters
    ----------
    path
        A file or folder; a list (files to be stacked) is no slide.
    """
    if isinstance(path, list) or (Path(path).is_dir() and not is_slide_folder(Path(path))):
        return _only_other(path)
    try:
        slide = open_slide(path, icc_profile=load_preferences().icc_profile)
    except SlideError as error:
        other = None if path.lower().endswith(SLIDE_SUFFIXES) else _only_other(path)
        (show_info if other else show_error)(without_tags(str(error)))
        return other or (_no_layer if path.lower().endswith(SLIDE_SUFFIXES) else None)
    if slide.profile_problem:
        show_info(without_tags(slide.profile_problem))
    return lambda _: [_beside_others(slide)]


def _only_other(path: str | list[str]) -> ReaderFunction | None:
    """Return what reads with the one other plugin that offers to; None where none does, or several do."""
    paths = path if isinstance(path, list) else [path]
    found = {reader.plugin_name for reader in PluginManager.instance().iter_compatible_readers(paths)} - {_OURS}
    if len(found) != 1:
        return None
    return partial(_read_by, found.pop(), paths, isinstance(path, list))


def _read_by(plugin: str, paths: list[str], stack: bool, _: object) -> list[Any]:
    """Read with another plugin; where it fails nobody is left to ask for."""
    try:
        return list(read(paths, stack=stack, plugin_name=plugin))
    except Exception:  # whatever it may be; the reason is one of another program's
        show_error(without_tags(f"{Path(paths[0]).name}: {plugin} cannot read it either"))
        return _no_layer(paths[0])


def slide_layer(slide: Slide) -> LayerData:
    """Return a slide as napari layer data.

    The layer carries the slide as `metadata["dala_slide"]`; its scale is in um where the slide's resolution is
    known, else it stays in pixels. Label and macro pictures of a slide, which may show a patient's name, are left out.
    """

    def on_ready() -> None:
        if QCoreApplication.instance() is not None:
            _take_new_levels(slide)

    attributes: dict[str, Any] = {
        "name": without_tags(_layer_name(slide)),
        "rgb": True,
        "multiscale": True,
        "interpolation2d": "linear",  # between two levels, nearest pixels flicker while panning
        "metadata": {"dala_slide": slide},
    }
    if slide.mpp is not None:
        attributes |= {"scale": slide.mpp[::-1], "units": ("µm", "µm")}
    return pyramid(slide, on_ready), attributes, "image"


def _beside_others(slide: Slide) -> LayerData:
    """Return a slide's layer in the units of the slides in the window, which has a session from now on."""
    pixels, attributes, kind = slide_layer(slide)
    viewer = napari.current_viewer()
    if viewer is None:
        return pixels, attributes, kind
    show_scale_bar(viewer, in_um=slide.mpp is not None)
    if len(viewer.layers):  # else it is alone, and need not wait for all that a session imports
        from napari_dala.plugin.viewer.session import session_of

        units = session_of(viewer).slides.units_for(slide)
        attributes |= units | {"metadata": attributes["metadata"] | units.get("metadata", {})}
    return pixels, attributes, kind


def _layer_name(slide: Slide) -> str:
    if slide.path is None:
        return slide.name
    return slide.path.name if slide.path.is_dir() else slide.path.stem


def _no_layer(_: str) -> list[Any]:
    """Give what napari takes for "read, and there is no layer"."""
    return [(None,)]


@ensure_main_thread
def _take_new_levels(slide: Slide) -> None:
    """Show the coarse levels that a background thread has just computed."""
    viewer = napari.current_viewer()
    for layer in viewer.layers if viewer else ():
        if layer.metadata.get("dala_slide") is slide:
            layer.data = pyramid(slide)
