"""Steering an analysis while it runs, from another thread or process. Knows no torch."""

from __future__ import annotations

import threading
import time

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in level-0 px
_LONGEST_WAY_S = 3.0  # that is given without a batch in between: who wanders on and on still sees the map grow


class RunControl:
    """Cancel, pause and the view's rectangle; every method may be called from any thread."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._view: Rectangle | None = None
        self._gives_way_until = 0.0

    def cancel(self) -> None:
        """Stop after the batch in hand; what was computed is kept."""
        self._cancelled.set()
        self._running.set()

    def pause(self) -> None:
        """Hold after the batch in hand."""
        self._running.clear()

    def resume(self) -> None:
        """Go on after a pause."""
        self._running.set()

    def look_at(self, view: Rectangle | None) -> None:
        """Say which part of the slide is in view (level-0 px); its tiles come first."""
        self._view = view

    def give_way(self, seconds: float) -> None:
        """Hold for a moment after the batch in hand: somebody else needs the cores now."""
        self._gives_way_until = time.monotonic() + seconds

    @property
    def view(self) -> Rectangle | None:
        """The part of the slide in view, level-0 px."""
        return self._view

    @property
    def is_cancelled(self) -> bool:
        """True after `cancel`."""
        return self._cancelled.is_set()

    def wait_while_paused(self) -> None:
        """Return at once unless paused, or giving way."""
        self._running.wait()
        longest = time.monotonic() + _LONGEST_WAY_S
        while (left := min(self._gives_way_until, longest) - time.monotonic()) > 0 and not self.is_cancelled:
            time.sleep(min(left, 0.05))
        self._running.wait()
