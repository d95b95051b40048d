"""Notes that stand out in a dark or a light theme, and a progress bar that paints little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QProgressBar

from napari_dala.plugin.viewer.plain_text import PlainLabel

if TYPE_CHECKING:
    Color = tuple[int, int, int]


_NOTES = {"error": "#8c1d28", "warning": "#7a5200", "offer": "#1f4e79"}
_RUN_STYLE = """
QPushButton { background: #2e7d4f; color: white; font-weight: bold; min-height: 34px; border-radius: 4px; }
QPushButton:hover { background: #37965f; }
QPushButton:disabled { background: #4a5a51; color: #b5c0b9; border: 0px; }
"""


RUN_STYLE = _RUN_STYLE.replace("\n", " ")


class Note(PlainLabel):
    """One line, or a few, on a coloured ground; not there while it has nothing to say.

    Parameters
    ----------
    kind
        "error", "warning" or "offer".
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setStyleSheet(f"background: {_NOTES[kind]}; color: white; border-radius: 3px; padding: 4px;")
        self.say("")

    def say(self, text: str) -> None:
        """Show a text; nothing for none."""
        self.setText(text)
        self.setVisible(bool(text))


class Bar(QProgressBar):
    """A progress bar that is painted when the window next is; Qt's own has the whole window painted for each value."""

    def setValue(self, value: int) -> None:  # noqa: D102
        self.setUpdatesEnabled(False)
        super().setValue(value)
        self.setUpdatesEnabled(True)
