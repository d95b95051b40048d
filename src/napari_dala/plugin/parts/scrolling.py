"""A dock that scrolls where the window is too small, instead of squeezing its lines; never under the mouse.

The wheel scrolls the dock and nothing else: a box or slider that comes under the mouse keeps what it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QPoint, QRect, Qt, QTimer
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFrame,
    QLayout,
    QScrollArea,
    QScrollBar,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from qtpy.QtCore import QObject
    from qtpy.QtGui import QEnterEvent, QShowEvent

_LAID_OUT_MS = 50
CONTENT_WIDTH = 355  # px, enough for every line of the docks


class _Area(QScrollArea):
    """Scrolls along when something above the mouse comes or goes, so that a click meets what it was meant for."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self._places: dict[QWidget, QRect] = {}
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)  # one that comes would wrap lines anew
        self.verticalScrollBar().valueChanged.connect(self._note_places)  # type: ignore[union-attr]

    @property
    def has_mouse(self) -> bool:
        """True while the mouse is over what can be seen of the dock."""
        return self.isVisible() and self.rect().contains(self.mapFromGlobal(QCursor.pos()))

    def showEvent(self, event: QShowEvent | None) -> None:
        self._hold_values()
        super().showEvent(event)

    def enterEvent(self, event: QEnterEvent | None) -> None:
        self._note_places()
        super().enterEvent(event)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is not None and event.type() == QEvent.Type.Wheel and _is_value(watched):
            event.ignore()  # so that it goes on to the dock
            return True
        if event is not None and event.type() == QEvent.Type.Paint and watched is self.widget() and self.has_mouse:
            self._note_places()  # as the user sees them
        return super().eventFilter(watched, event)

    def event(self, event: QEvent | None) -> bool:
        done = super().event(event)
        content = self.widget()
        if event is not None and event.type() == QEvent.Type.LayoutRequest and content is not None:
            self._hold_values()
            if self.has_mouse:
                content.layout().activate()  # type: ignore[union-attr]
                self._follow_mouse()
        return done

    def _hold_values(self) -> None:
        """Keep the wheel from what it would change; a filter that is there already is not added again."""
        content = self.widget()
        for one in [] if content is None else content.findChildren(QWidget):
            if _is_value(one):
                one.installEventFilter(self)

    def _follow_mouse(self) -> None:
        """Scroll by as much as what was under the mouse has moved."""
        mouse, bar, before = self.mapFromGlobal(QCursor.pos()), self.verticalScrollBar(), self._places
        self._note_places()
        under = [one for one in self._places if one in before and before[one].contains(mouse)]
        if under and bar is not None:
            innermost = min(under, key=lambda one: before[one].height())
            bar.setValue(bar.value() + self._places[innermost].top() - before[innermost].top())

    def _note_places(self) -> None:
        """Note where everything is that is shown."""
        content = self.widget()
        shown = [] if content is None else [one for one in content.findChildren(QWidget) if one.isVisible()]
        self._places = {one: self._place_of(one) for one in shown}

    def _place_of(self, widget: QWidget) -> QRect:
        return QRect(widget.mapTo(self, QPoint(0, 0)), widget.size())


def _is_value(thing: QObject | None) -> bool:
    """Return whether the wheel over it would change what it says."""
    return isinstance(thing, (QComboBox, QAbstractSpinBox, QAbstractSlider)) and not isinstance(thing, QScrollBar)


def scrolling_layout(dock: QWidget) -> QVBoxLayout:
    """Return a layout for the dock's content, inside a scroll area that fills the dock."""
    content = QWidget()
    layout, area = QVBoxLayout(content), _Area(content)
    dock.setMinimumWidth(CONTENT_WIDTH + area.verticalScrollBar().sizeHint().width())  # type: ignore[union-attr]
    outer = QVBoxLayout(dock)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)
    return layout


def keep_place(*widgets: QWidget) -> None:
    """Have widgets keep their room while they are hidden, so that what lies below stays where it is."""
    for widget in widgets:
        policy = widget.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        widget.setSizePolicy(policy)


def same_place(*contents: QLayout) -> QStackedWidget:
    """Return a widget that shows one of several contents at a time, with room for each: nothing below moves."""
    stack = QStackedWidget()
    stack.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
    for content in contents:
        page = QWidget()
        page.setLayout(content)
        content.setContentsMargins(0, 0, 0, 0)
        stack.addWidget(page)
    return stack


def scroll_to(widget: QWidget, *, asked: bool = False) -> None:
    """Bring a part of a dock into sight, once it has its place, and the mouse is elsewhere or the user asked for it."""
    area = widget.parent()
    while area is not None and not isinstance(area, _Area):
        area = area.parent()
    if area is None:
        return
    timer = QTimer(widget)  # the widget's: gone with it

    def scroll() -> None:
        if asked or not area.has_mouse:
            timer.deleteLater()
            if widget.isVisible():
                area.ensureWidgetVisible(widget)

    timer.timeout.connect(scroll)
    timer.start(_LAID_OUT_MS)
