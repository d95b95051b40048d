"""Text from files in Qt, shown as it is: class names, slide names, messages.

Where a text looks like HTML Qt reads it so, and opens the pictures that it names, be they on another machine.
"""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel


class PlainLabel(QLabel):
    """A label that shows its text as it is."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setTextFormat(Qt.TextFormat.PlainText)


def plain_tip(text: str) -> str:
    """Return a text as a tool tip that shows it as it is."""
    return f"<qt>{escape(text)}</qt>"


def without_tags(text: str) -> str:
    """Return a text for a label of napari's, which is not ours to set: no tag can begin in it."""
    return text.replace("<", "‹")  # noqa: RUF001
