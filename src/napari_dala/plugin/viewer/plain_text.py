"""Text from files in Qt, shown as it is: class names, slide names, messages.

Where a text looks like HTML Qt reads it so, and opens the pictures that it names, be they on another machine.
"""

from __future__ import annotations

import re
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

_LONG = 16  # characters of a word; a shorter one fits into any line of a dock
_PIECE = re.compile(r"(?:[^-_/\\.]|\.(?=\d)){1,12}[-_/\\.]*|[-_/\\.]+")  # 0.5 stays together
_WIDE = 10_000  # px, where any text is one line
_BREAK = "\u200b"  # a line may end here; nothing is seen of it


class PlainLabel(QLabel):
    """A label that shows its text as it is; a long word, as a file's name may be, does not widen the dock."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)

    def setText(self, text: str | None) -> None:  # noqa: D102
        self._text = text or ""
        super().setText(breakable(self._text))

    def text(self) -> str:
        """Return what was set."""
        return self._text


def breakable(text: str) -> str:
    """Return a text whose long words may go on in the next line: after a sign that joins, else anywhere."""
    return re.sub(rf"\S{{{_LONG},}}", lambda word: _BREAK.join(_PIECE.findall(word[0])), text)


class TwoLines(PlainLabel):
    """A label that wraps, and has room for two lines however little it says: what lies below stays where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)

    def setText(self, text: str | None) -> None:  # noqa: D102
        super().setText(text)
        if not text:
            QLabel.setText(self, _BREAK)  # a line is a line high, an empty text is not

    def heightForWidth(self, width: int) -> int:  # noqa: D102
        one, two = (self.fontMetrics().size(0, lines).height() for lines in ("x", "x\nx"))
        return max(super().heightForWidth(width), super().heightForWidth(_WIDE) + two - one)


def plain_tip(text: str) -> str:
    """Return a text as a tool tip that shows it as it is."""
    return f"<qt>{escape(text)}</qt>"


def without_tags(text: str) -> str:
    """Return a text for a label of napari's, which is not ours to set: no tag can begin in it."""
    return text.replace("<", "‹")  # noqa: RUF001
