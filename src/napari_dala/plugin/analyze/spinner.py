"""napari's window where it paints more than there is to see; without a graphics card the same cores do all painting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QMainWindow


def hold_spinner(viewer: ViewerModel) -> None:
    """Stop the wheel that turns beside a progress bar until another bar starts it again.

    It has 33 pictures a second, and Qt composes the whole window anew for each: as much as a frame of the slide.
    """
    window = _window_of(viewer)
    for label in () if window is None else window.findChildren(QLabel):
        if (movie := label.movie()) is not None:
            movie.setPaused(True)


def _window_of(viewer: ViewerModel) -> QMainWindow | None:
    """Return a viewer's window; a model of a viewer has none."""
    window = getattr(viewer, "window", None)
    return None if window is None else window._qt_window
