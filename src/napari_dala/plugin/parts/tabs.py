"""Our docks as tabs of one another, in the order of work, whoever opens them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_dala.plugin.parts.keys import bind_window_keys

if TYPE_CHECKING:
    from napari_dala.plugin.viewer.session import Session

_PLACE = "dala_place"  # a widget's property: its place among the tabs
TITLES = ("Analyze", "Explain", "Annotate && learn")
"""Of the tabs, in the order of work; && is how Qt writes one &."""


def as_tab(widget: QWidget, place: int, session: Session) -> None:
    """Have the dock that a widget is put into join our other docks as a tab, once, when it is first shown.

    Afterwards the docks stay where the user puts them. One that floats, or lies on another side, is left alone.

    Parameters
    ----------
    widget
        A dock's content.
    place
        Into `TITLES`.
    session
        Whose keys then work in the whole window.
    """
    widget.setProperty(_PLACE, place)
    widget.installEventFilter(_Joiner(widget, session))


class _Joiner(QObject):
    """Waits until its widget is shown in a dock."""

    def __init__(self, widget: QWidget, session: Session) -> None:
        super().__init__(widget)
        self._session = session

    def eventFilter(self, widget: QObject | None, event: QEvent | None) -> bool:
        if isinstance(widget, QWidget) and event is not None and event.type() == QEvent.Type.Show:
            dock = _dock_of(widget)
            if dock is not None:
                widget.removeEventFilter(self)
                if isinstance(window := dock.parent(), QMainWindow):
                    bind_window_keys(window, self._session)
                timer = QTimer(dock)  # the dock's: gone with it
                timer.setSingleShot(True)
                timer.timeout.connect(partial(join, dock))
                timer.timeout.connect(timer.deleteLater)
                timer.start(0)  # napari has not yet placed it
        return False


def join(dock: QDockWidget) -> None:
    """Make a dock a tab of our others on its side, all in the order of work, and show it in front."""
    window = dock.parent()
    if not isinstance(window, QMainWindow):
        return
    for one in (ours := _ours(window)):
        one.setWindowTitle(TITLES[_place_of(one)])
    side = window.dockWidgetArea(dock)
    first, *others = [one for one in ours if window.dockWidgetArea(one) == side and not one.isFloating()] or [dock]
    for other in others:  # one that is added comes last
        window.tabifyDockWidget(first, other)
    dock.raise_()


def _ours(window: QMainWindow) -> list[QDockWidget]:
    docks = [dock for dock in window.findChildren(QDockWidget) if _content(dock) is not None and not dock.isHidden()]
    return sorted(docks, key=_place_of)


def _content(dock: QDockWidget) -> QWidget | None:
    found = (widget for widget in dock.findChildren(QWidget) if widget.property(_PLACE) is not None)
    return next(found, None)


def _place_of(dock: QDockWidget) -> int:
    content = _content(dock)
    return -1 if content is None else int(content.property(_PLACE))


def _dock_of(widget: QWidget) -> QDockWidget | None:
    above = widget.parent()
    while above is not None and not isinstance(above, QDockWidget):
        above = above.parent()
    return above
