"""File > IO Utilities > Open slide...: any slide or photograph, read by napari-dala whatever else is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Layer
from napari.utils.history import get_open_history, update_open_history
from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_dala.errors import SlideError
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.reader import slide_layer
from napari_dala.plugin.viewer.plain_text import without_tags
from napari_dala.slide.backends.zarr_store import OME_ZARR_SUFFIXES
from napari_dala.slide.open import OPENSLIDE_SUFFIXES, PHOTOGRAPH_SUFFIXES, TIFF_SUFFIXES, open_slide

if TYPE_CHECKING:
    from napari.viewer import Viewer

_SUFFIXES = (*OPENSLIDE_SUFFIXES, *TIFF_SUFFIXES, *OME_ZARR_SUFFIXES, *PHOTOGRAPH_SUFFIXES)
_PATTERNS = " ".join(f"*{suffix}" for suffix in _SUFFIXES) + " zarr.json .zattrs"


def open_slide_dialog(viewer: Viewer) -> None:
    """Ask for a slide or photograph and add it to the viewer.

    Of a DICOM slide choose any of its files, of an OME-Zarr its zarr.json or .zattrs.
    """
    path, _ = QFileDialog.getOpenFileName(
        QApplication.activeWindow(), "Open slide", get_open_history()[0], f"Slides ({_PATTERNS});;All files (*)"
    )
    if not path:
        return
    try:
        slide = open_slide(path, icc_profile=load_preferences().icc_profile)
    except SlideError as error:
        show_error(without_tags(str(error)))
        return
    if slide.profile_problem:
        show_info(without_tags(slide.profile_problem))
    update_open_history(path)
    viewer.add_layer(Layer.create(*slide_layer(slide)))
