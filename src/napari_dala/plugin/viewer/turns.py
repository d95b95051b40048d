"""Work that is cut into steps, so that the window answers between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari.components import ViewerModel


def in_turns(viewer: ViewerModel, steps: Iterable[Callable[[], object]], rest_ms: int = 0) -> None:
    """Take steps in order: each in a turn of its own of the window's event loop; without a window all now.

    Before each it rests for `rest_ms`. What is left when the window closes is not done.
    """
    window = getattr(viewer, "window", None)
    if window is None:
        for step in steps:
            step()
        return
    left = iter(steps)
    timer = QTimer(window._qt_window)

    def turn() -> None:
        step = next(left, None)
        if step is not None:
            step()
        else:
            timer.stop()
            timer.deleteLater()

    timer.timeout.connect(turn)
    timer.start(rest_ms)
