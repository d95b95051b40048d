"""The one warm child process that analyses for every dock, as a Qt object: its events arrive in the main thread."""

from __future__ import annotations

import atexit
import threading
from typing import Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_dala.jobs.child import Child

WORKER = "napari_dala.analysis.worker"


class WarmChild(QObject):
    """A child process that starts when it is first held and ends when nobody holds it any more.

    Parameters
    ----------
    module
        Run as `python -m <module>`.
    """

    told = Signal(int, str, object)
    """(request id, event name, payload) as `jobs.child.Child` gives them, in the main thread."""
    _heard = Signal(object, int, str, object)  # from the reader thread

    def __init__(self, module: str) -> None:
        super().__init__()
        self._module = module
        self._child: Child | None = None
        self._holders = 0
        self.about: dict[str, Any] = {}
        """What the child said of itself: device, precision, torch; empty until it is ready."""
        self._heard.connect(self._on_heard)  # of a thread of its own: queued to this one

    def hold(self, owner: QObject) -> None:
        """Keep the child warm as long as `owner`, a dock, exists."""
        self._holders += 1
        owner.destroyed.connect(self._let_go)
        self._running()

    def request(self, action: str, **arguments: Any) -> int:
        """Queue an action and return its id; a child that has died is started again."""
        return self._running().request(action, **arguments)

    def tell(self, request: int, verb: str, **arguments: Any) -> None:
        """Tell a queued or running request something."""
        if self._child is not None:
            self._child.tell(request, verb, **arguments)

    def close(self) -> None:
        """End the child; what it computed is on disk."""
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _running(self) -> Child:
        if self._child is None or not self._child.is_alive:
            self.close()
            self.about = {}
            child = Child(self._module, lambda number, name, payload: self._heard.emit(child, number, name, payload))
            self._child = child
        return self._child

    def _on_heard(self, child: Child, number: int, name: str, payload: dict[str, Any]) -> None:
        if child is not self._child:
            return  # the last words of one that was closed
        if number == 0:
            self.about = payload if name == "ready" else {}
        self.told.emit(number, name, payload)

    def _let_go(self) -> None:
        self._holders -= 1
        if self._holders == 0:  # it may take a batch's time to end, for which no window waits
            child, self._child = self._child, None
            if child is not None:
                threading.Thread(target=child.close, name="dala-closing").start()


_shared: WarmChild | None = None


def warm_child() -> WarmChild:
    """Return this process's warm child."""
    global _shared
    if _shared is None:
        _shared = WarmChild(WORKER)
        atexit.register(_shared.close)
    return _shared
