"""What the user chose under Preferences, as the docks and the child process need it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari.settings import get_plugin_settings, get_settings

from napari_dala.slide.backends.zarr_store import OME_ZARR_SUFFIXES
from napari_dala.slide.open import OPENSLIDE_SUFFIXES, TIFF_SUFFIXES
from napari_dala.workspace import workspace_folder

if TYPE_CHECKING:
    from pathlib import Path

    from npe2 import PluginContext

PLUGIN = "napari-dala"
ANY_FOLDER = "*/"  # napari ends a folder's path so
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Preferences:
    """The choices that last from one session to the next.

    Attributes
    ----------
    device, precision
        Where and how the model runs.
    threads
        Processor threads for the analysis; 0 leaves the choice to the program.
    workspace
        Where annotations, analyses and models are kept. `$DALA_WORKSPACE`, chosen for this one run, wins over the
        folder chosen under Preferences; with neither it is the user's data folder.
    own_slides
        Open slide files, TIFF and folders with our reader without asking.
    local_copies
        Copy a slide to the cache before it is analysed.
    icc_profile
        Bring slides to sRGB by their ICC profiles, where they have some.
    one_slide
        Of several slides show the one in hand alone, instead of all beside each other.
    start_page
        Show the page "Start here" whenever the demo starts.
    """

    device: Device
    precision: Precision
    threads: int
    workspace: Path
    own_slides: bool
    local_copies: bool
    icc_profile: bool
    one_slide: bool
    start_page: bool


def load_preferences() -> Preferences:
    """Return what is set under Preferences > napari-dala now."""
    chosen: Any = get_plugin_settings(PLUGIN)
    return Preferences(
        device=chosen.analysis.device,
        precision=chosen.analysis.precision,
        threads=chosen.analysis.threads,
        workspace=workspace_folder(os.environ.get("DALA_WORKSPACE") or chosen.files.workspace),
        own_slides=chosen.files.own_slides,
        local_copies=chosen.files.local_copies,
        icc_profile=chosen.files.icc_profile,
        one_slide=chosen.files.one_slide,
        start_page=chosen.help.start_page,
    )


def set_start_page(wanted: bool) -> None:
    """Show the page "Start here" whenever the demo starts, or no more."""
    chosen: Any = get_plugin_settings(PLUGIN)
    chosen.help.start_page = wanted


def prefer_own_reader(context: PluginContext) -> None:
    """Make our reader the preferred one for slides, where the user has not chosen one (npe2's `on_activate`).

    napari's own reader claims most of them as well, folders too, loads them whole, and has napari ask each time. Our
    reader hands on what is no slide. napari goes by the letters' case; of two patterns alike the first wins.
    """
    if not load_preferences().own_slides:
        return
    suffixes = (*OPENSLIDE_SUFFIXES, *TIFF_SUFFIXES, *OME_ZARR_SUFFIXES)
    endings = (ending for suffix in suffixes for ending in (suffix, suffix.upper()))
    ours = [*(f"*{ending}" for ending in endings), ANY_FOLDER]
    plugins = get_settings().plugins
    chosen = plugins.extension2reader
    plugins.extension2reader = {**chosen, **{pattern: PLUGIN for pattern in ours if pattern not in chosen}}
