"""Steering an analysis while it runs, from another thread or process. Knows no torch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in level-0 px


@dataclass(frozen=True)
class Progress:
    """How far an analysis is.

    Attributes
    ----------
    done, total
        Tiles, those of earlier runs and those scored from stored features counted in.
    unreadable
        Tiles that could not be decoded.
    tiles_per_s
        Mean rate of this run; 0 before its first tile.
    seconds_left
        Until every tile is done and no map approximate, estimated from that rate; None before the first tile.
    blocks
        (row, column) of the blocks of 4 x 4 tiles of which some were written since the last report.
    approximate
        Those of the done tiles whose Grad-CAM is approximate or not there yet.
    stalled
        Part of this run so far in which the network had no tiles to work on, 0 to 1.
    queued
        Blocks that were read and waiting when the network asked for the next, on average.
    """

    done: int
    total: int
    unreadable: int = 0
    tiles_per_s: float = 0.0
    seconds_left: float | None = None
    blocks: tuple[tuple[int, int], ...] = field(default=())
    approximate: int = 0
    stalled: float = 0.0
    queued: float = 0.0


class RunControl:
    """Cancel, pause and the view's rectangle; every method may be called from any thread."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._view: Rectangle | None = None

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

    @property
    def view(self) -> Rectangle | None:
        """The part of the slide in view, level-0 px."""
        return self._view

    @property
    def is_cancelled(self) -> bool:
        """True after `cancel`."""
        return self._cancelled.is_set()

    def wait_while_paused(self) -> None:
        """Return at once unless paused."""
        self._running.wait()
