"""`dala demo` with a display: a napari window in which the teaching slide is being analysed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari
from qtpy.QtGui import QGuiApplication

from napari_dala.model.catalog import TEACHING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.plugin.analyze.dock import AnalyzeWidget


def open_demo(slide: Path) -> napari.Viewer:
    """Open a viewer with the slide and all three docks, choose the slide's own model and press Run."""
    viewer = napari.Viewer(title="napari-dala: demo")
    if screen := QGuiApplication.primaryScreen():
        viewer.window.resize(screen.availableGeometry().width(), screen.availableGeometry().height())
    viewer.open(slide, plugin="napari-dala")
    for name in ("Annotate & learn", "Explain", "Analyze slide"):  # the last is in front
        _, dock = viewer.window.add_plugin_dock_widget("napari-dala", name)
    analyze: AnalyzeWidget = dock
    analyze.model_box.choose_card(TEACHING)
    analyze.run()
    return viewer


def show_demo(slide: Path) -> None:
    """Show the demo until its window is closed."""
    open_demo(slide)
    napari.run()
