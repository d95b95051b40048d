"""What only some want to see, behind a line that opens it."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QToolButton, QVBoxLayout, QWidget

from napari_dala.plugin.parts.scrolling import scroll_to


class Fold(QWidget):
    """A title to click, and below it, once it is open, a content.

    superqt's `QCollapsible` gives its content the height that it would have in one line, which cuts text that wraps.

    Parameters
    ----------
    title
        Stays in sight.
    content
        Hidden at first.
    """

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self.content = content
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.toggled.connect(self.open)
        self.button.clicked.connect(self._show)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(content)
        self.open(False)

    def open(self, is_open: bool) -> None:
        """Show the content, or hide it."""
        self.button.setChecked(is_open)
        self.button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.content.setVisible(is_open)

    def _show(self, is_open: bool) -> None:
        """Scroll to what the user has opened: it may lie below the dock's end."""
        if is_open:
            scroll_to(self.content, asked=True)
