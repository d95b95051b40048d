"""A dock that scrolls where the window is too small, instead of squeezing its lines."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

_LAID_OUT_MS = 50
CONTENT_WIDTH = 355  # px, enough for every line of the docks


def scrolling_layout(dock: QWidget) -> QVBoxLayout:
    """Return a layout for the dock's content, inside a scroll area that fills the dock."""
    content, area = QWidget(), QScrollArea()
    layout = QVBoxLayout(content)
    area.setWidget(content)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    dock.setMinimumWidth(CONTENT_WIDTH + area.verticalScrollBar().sizeHint().width())  # type: ignore[union-attr]
    outer = QVBoxLayout(dock)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)
    return layout


def scroll_to(widget: QWidget) -> None:
    """Bring a part of a dock into sight, once it has its place."""
    area = widget.parent()
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parent()
    if area is not None:
        timer = QTimer(widget)  # the widget's: gone with it
        timer.setSingleShot(True)
        timer.timeout.connect(partial(area.ensureWidgetVisible, widget))
        timer.timeout.connect(timer.deleteLater)
        timer.start(_LAID_OUT_MS)
