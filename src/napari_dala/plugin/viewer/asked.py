"""What keys ask the docks for, whichever of them are open."""

from __future__ import annotations

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

TOGGLE_KEY = "h"
NEXT_KEY = "n"
PREVIOUS_KEY = "shift-n"
SUGGEST_KEY = "u"  # for unsure; napari has no use of its own for it
COMPARE_KEY = "j"  # for jump; napari has no use of its own for it
NEXT_SLIDE_KEY, PREVIOUS_SLIDE_KEY = "ctrl-right", "ctrl-left"
TILE_KEY = "t"


class Asked(QObject):
    """Passes on what is asked for by a key: who can, does it."""

    step_asked = Signal(int)
    """A key asks for the next (1) or previous (-1) spot."""
    difference_asked = Signal()
    """A key asks for the next tile on which two results differ."""
    suggestion_asked = Signal()
    """A key asks for the next tile to label."""
    slide_step_asked = Signal(int)
    """A key asks for the next (1) or previous (-1) slide of the list."""
    tile_asked = Signal()
    """A key labels the tile under the mouse."""

    def next_spot(self) -> None:
        """Go to the next strongest spot."""
        self.step_asked.emit(1)

    def previous_spot(self) -> None:
        """Go to the previous spot."""
        self.step_asked.emit(-1)

    def next_difference(self) -> None:
        """Go to the next tile on which two results differ."""
        self.difference_asked.emit()

    def suggest(self) -> None:
        """Go to the tile to label next."""
        self.suggestion_asked.emit()

    def next_slide(self) -> None:
        """Open the next slide of the list."""
        self.slide_step_asked.emit(1)

    def previous_slide(self) -> None:
        """Open the previous slide of the list."""
        self.slide_step_asked.emit(-1)

    def label_tile(self) -> None:
        """Label the tile under the mouse."""
        self.tile_asked.emit()
