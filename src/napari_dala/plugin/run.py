"""One analysis in the warm child, followed from the main thread: its layers fill, and the view steers its order."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from napari.utils import cancelable_progress
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]
from superqt.utils import create_worker

from napari_dala.plugin.layers import LoadedAnalysis, load
from napari_dala.plugin.slide_layers import view_of

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_dala.plugin.session import Session
    from napari_dala.plugin.warm_child import WarmChild

Outcome = Literal["done", "cancelled", "failed"]

_SHOW_MS = 200  # between updates of the layers
_LOOK_MS = 100  # between messages about where the user looks


class AnalysisRun(QObject):
    """Starts an analysis of a slide layer; it goes on until it is done or cancelled.

    Parameters
    ----------
    session, child
        The viewer's session; the process that computes.
    layer
        The slide's.
    arguments
        Of the worker's action "analyze", without the view.
    """

    progressed = Signal(object)
    """The latest progress event's payload, after its tiles were shown."""
    ended = Signal(str, str)
    """An `Outcome`, and one line of what went wrong."""

    def __init__(self, session: Session, child: WarmChild, layer: Image, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.layer = layer
        self.is_running = True
        self._session, self._child = session, child
        self._latest: dict[str, Any] = {}
        self._blocks: set[tuple[int, int]] = set()
        self._loading = False
        self._shown = False
        self._end: tuple[Outcome, str] | None = None
        # First, for napari handles events, clicks among them, while it adds a bar to its activity dock.
        self._request = 0
        self._bar = cancelable_progress(
            total=0, desc=f"Analysing {layer.name}", cancel_callback=self.cancel, leave=False
        )
        self._show_timer = _once(self, _SHOW_MS, self._show)
        self._look_timer = _once(self, _LOOK_MS, self._look)
        child.told.connect(self._on_event)
        viewer = session.viewer
        for name in ("center", "zoom"):
            getattr(viewer.scene.camera.events, name).connect(self._on_camera)
        viewer.layers.events.removed.connect(self._on_removed)
        self._request = child.request("analyze", view=view_of(viewer, layer), **arguments)

    def cancel(self) -> None:
        """Stop after the batch in hand; what was computed stays."""
        if self.is_running:
            self._child.tell(self._request, "cancel")

    def abandon(self) -> None:
        """Cancel and hear no more of it; for when nobody is left to be told."""
        self.cancel()
        self.is_running = False
        with suppress(RuntimeError):  # the window is gone, its activity dock too
            self._bar.close()

    def _on_event(self, number: int, name: str, payload: dict[str, Any]) -> None:
        if not self.is_running:
            return
        if number == 0 and name == "died":
            self._stop("failed", f"The analysis process ended: {payload['reason']}. Run goes on where it stopped.")
        elif number != self._request:
            return
        elif name == "progress":
            self._latest = payload
            self._blocks.update((row, column) for row, column in payload["blocks"])
            if not self._show_timer.isActive():
                self._show_timer.start()
        elif name == "error":
            self._stop("failed", payload["message"])
        elif name == "cancelled" or (name == "result" and payload.get("cancelled")):
            self._stop("cancelled", "")
        elif name == "result":
            self._stop("done", "")

    def _stop(self, outcome: Outcome, message: str) -> None:
        self._end = (outcome, message)
        self._show()

    def _show(self) -> None:
        """Bring layers and progress up to date; the first time read what earlier runs left, in a thread."""
        if not self.is_running or self._loading:
            return
        if self._latest and not self._shown:
            self._loading = True
            create_worker(
                load, self._latest["path"], _connect={"returned": self._on_loaded, "errored": self._on_failed}
            )
            return
        if self._blocks and self._session.results_of(self.layer) is not None:
            blocks, self._blocks = self._blocks, set()
            self._session.add(self.layer, blocks)
        if self._latest:
            self._show_progress()
            self.progressed.emit(self._latest)
        if self._end is not None:
            self._finish(*self._end)

    def _on_loaded(self, loaded: LoadedAnalysis) -> None:
        self._loading, self._shown = False, True
        if self.is_running:
            self._session.show(self.layer, loaded)
            self._show()

    def _on_failed(self, error: Exception) -> None:
        self._loading, self._shown = False, True
        self._child.tell(self._request, "cancel")
        self._stop("failed", str(error))

    def _show_progress(self) -> None:
        """Show the run in napari's activity dock too."""
        if self._bar.total != self._latest["total"]:
            self._bar.total = self._latest["total"]
        if self._latest["done"] > self._bar.n:
            self._bar.update(self._latest["done"] - self._bar.n)

    def _on_camera(self) -> None:
        if not self._look_timer.isActive():
            self._look_timer.start()

    def _look(self) -> None:
        if self.is_running:
            self._child.tell(self._request, "look_at", view=view_of(self._session.viewer, self.layer))

    def _on_removed(self) -> None:
        if self.is_running and self.layer not in self._session.viewer.layers:
            self.cancel()
            self._finish("cancelled", "")

    def _finish(self, outcome: Outcome, message: str) -> None:
        self.is_running = False
        self._show_timer.stop()
        self._look_timer.stop()
        self._bar.close()
        self.ended.emit(outcome, message)


def _once(owner: QObject, interval: int, call: Any) -> QTimer:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(interval)
    timer.timeout.connect(call)
    return timer
