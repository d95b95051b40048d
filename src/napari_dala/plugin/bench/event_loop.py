"""In napari's event loop: a heart that feels how late it is, a camera that wanders, and waiting without stopping it."""

from __future__ import annotations

import math
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEventLoop, QObject, Qt, QTimer

from napari_dala.errors import DalaError
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import to_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari import Viewer
    from napari.layers import Image
    from numpy.typing import NDArray

BEAT_MS, STEP_MS = 5, 16  # between heartbeats; between moves of the camera
TURN_S = 8.0  # of the camera's path, then it begins again
_LOOK_MS = 50
_PATIENCE_S = 300.0


class LatencyProbe(QObject):
    """Beats every 5 ms in the event loop and notes how late each beat comes."""

    def __init__(self) -> None:
        super().__init__()
        self.late_ms: list[float] = []
        self._last = 0.0
        self._timer = _timer(self, BEAT_MS, self._beat)

    def start(self) -> None:
        """Forget earlier beats and begin."""
        self.late_ms.clear()
        self._last = time.perf_counter()
        self._timer.start()

    def stop(self) -> NDArray[np.float64]:
        """Stop, and return how late each beat was, ms."""
        self._timer.stop()
        return np.array(self.late_ms)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.late_ms.append(max(0.0, (now - self._last) * 1000 - BEAT_MS))
        self._last = now


class CameraPath(QObject):
    """Pans and zooms a viewer over a slide layer, the same way each time, as fast as the event loop allows.

    Parameters
    ----------
    viewer, layer
        The path leads through the layer's middle half; zoom goes from the whole slide to eight times that.
    """

    def __init__(self, viewer: Viewer, layer: Image) -> None:
        super().__init__()
        self._camera = viewer.scene.camera
        viewer.reset_view()
        self._zoom = self._camera.zoom
        width, height = session_of(viewer).open_slide().dimensions  # type: ignore[union-attr]
        self._low = np.array(to_world(layer, 0, 0))
        self._side = np.array(to_world(layer, width, height)) - self._low
        self._begun = 0.0
        self._timer = _timer(self, STEP_MS, self._step)

    def start(self) -> None:
        """Begin at the path's beginning."""
        self._begun = time.perf_counter()
        self._timer.start()

    def stop(self) -> None:
        """Hold still."""
        self._timer.stop()

    def _step(self) -> None:
        angle = 2 * math.pi * (time.perf_counter() - self._begun) / TURN_S
        at = self._low + self._side * (0.5 + 0.25 * np.array((math.sin(2 * angle), math.cos(3 * angle))))
        self._camera.center = (0.0, *at)
        self._camera.zoom = self._zoom * 2 ** (1.5 * (1 - math.cos(angle)))


def wait_until(fact: Callable[[], bool]) -> None:
    """Let the event loop run until something holds; it is looked at twenty times a second."""
    loop = QEventLoop()
    end = time.monotonic() + _PATIENCE_S
    look = _timer(loop, _LOOK_MS, lambda: loop.quit() if _failed or fact() or time.monotonic() > end else None)
    look.start()
    loop.exec()
    look.stop()
    if _failed:
        raise _failed.pop()
    if not fact():
        raise DalaError(f"the window waited for {_PATIENCE_S:.0f} s in vain; is the machine very busy?")


_failed: list[BaseException] = []


@contextmanager
def failures() -> Iterator[None]:
    """Have `wait_until` raise what a callback raises; Qt would end the process."""
    before = sys.excepthook
    sys.excepthook = lambda kind, error, trace: _failed.append(error)
    try:
        yield
    finally:
        sys.excepthook = before


def _timer(owner: QObject, interval_ms: int, call: Callable[[], object]) -> QTimer:
    timer = QTimer(owner)
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.setInterval(interval_ms)
    timer.timeout.connect(call)
    return timer
