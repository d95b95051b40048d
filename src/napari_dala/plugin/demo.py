"""`dala demo` with a display: a napari window in which the teaching slide is being analysed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari
from qtpy.QtGui import QGuiApplication

from napari_dala.model.catalog import TEACHING
from napari_dala.plugin.preferences import PLUGIN, load_preferences

if TYPE_CHECKING:
    from pathlib import Path


FIRST_DOCKS = ("Start here", "Analyze slide", "Explain", "Annotate & learn")
"""Of the first hour; the others are for when there are more slides, or models."""


def open_demo(slide: Path) -> napari.Viewer:
    """Open a viewer with the slide and the docks, choose the slide's own model and press Run."""
    viewer = napari.Viewer(title="napari-dala: demo")
    if screen := QGuiApplication.primaryScreen():
        viewer.window.resize(screen.availableGeometry().width(), screen.availableGeometry().height())
    viewer.open(slide, plugin=PLUGIN)
    titles = FIRST_DOCKS if load_preferences().start_page else FIRST_DOCKS[1:]
    # The last that is opened comes forward.
    docks = {title: viewer.window.add_plugin_dock_widget(PLUGIN, title)[1] for title in reversed(titles)}
    analyze = docks["Analyze slide"]
    analyze.model_box.choose_card(TEACHING)
    analyze.run()
    return viewer


def show_demo(slide: Path) -> None:
    """Show the demo until its window is closed."""
    open_demo(slide)
    napari.run()
