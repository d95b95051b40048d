"""The docks as tabs of one another, in the order of work, whoever opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_dala.plugin.parts.keys import bind_window_keys
from napari_dala.plugin.viewer.session import session_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from qtpy.QtGui import QHideEvent, QShowEvent

TITLES = ("Start here", "Slides", "Analyze slide", "Explain", "Review tiles", "Annotate & learn", "Compare")
"""Of the docks in the order of work, as napari's menus have them (napari.yaml)."""


class Dock(QWidget):
    """What napari puts into a dock widget of its own: it joins the others as a tab and comes forward when asked for.

    napari stacks docks, and its menus hide one that is open, even where another tab lies over it.

    Parameters
    ----------
    viewer
        Of the window; our keys work in all of it from the first dock on.
    """

    title: ClassVar[str]
    """One of `TITLES`."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._session = session_of(viewer)
        self._has_joined = False

    @property
    def frame(self) -> QDockWidget | None:
        """The dock widget around this one; None where there is none."""
        parent = self.parent()
        return parent if isinstance(parent, QDockWidget) else None

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: D102
        super().showEvent(event)
        if event is not None and not event.spontaneous():
            self._once(self.come_forward)  # napari is in the midst of placing it

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: D102
        super().hideEvent(event)
        if event is not None and not event.spontaneous() and self._lies_behind:
            self._once(self._show_instead)

    def focusNextPrevChild(self, next: bool) -> bool:  # noqa: A002, D102
        window = self.window()
        focused = None if window is None else window.focusWidget()
        if focused is None or not self.isAncestorOf(focused) or (focused.isEnabled() and focused.isVisible()):
            return super().focusNextPrevChild(next)
        self.setFocus()  # a button that works no more hands its keys to the canvas, not to whatever comes next
        return True

    def come_forward(self) -> None:
        """Lie over the other tabs; the first time, beside the docks of ours that are in the same place."""
        frame = self.frame
        window = None if frame is None else frame.parent()
        if frame is None or not isinstance(window, QMainWindow):
            return
        if not self._has_joined:
            self._has_joined = True
            bind_window_keys(window, self._session)
            frame.setWindowTitle(self.title.replace("&", "&&"))  # a single one would be a key in the tab
            self._join(frame, window)
        frame.show()
        frame.raise_()

    def _join(self, frame: QDockWidget, window: QMainWindow) -> None:
        """Become a tab of the docks of ours in the same area; where the user has put them elsewhere, they stay."""
        area = window.dockWidgetArea(frame)
        joined = [dock.frame for dock in window.findChildren(Dock) if dock._has_joined and dock is not self]
        others = [one for one in joined if one and window.dockWidgetArea(one) == area and not one.isFloating()]
        if frame.isFloating() or not others:
            return
        window.tabifyDockWidget(others[0], frame)
        tabs = {one for one in (others[0], *window.tabifiedDockWidgets(others[0])) if one in (frame, *others)}
        first, *later = sorted(tabs, key=lambda one: TITLES.index(one.widget().title))  # type: ignore[union-attr]
        for one in later:
            window.tabifyDockWidget(first, one)

    @property
    def _lies_behind(self) -> bool:
        """True for a tab that another lies over: Qt keeps such a dock outside its window."""
        frame = self.frame
        window = None if frame is None else frame.parentWidget()
        if frame is None or window is None or frame.isFloating():
            return False
        return not window.rect().intersects(frame.geometry())

    def _show_instead(self) -> None:
        """Come forward where a menu has hidden what was not to be seen anyway; not where the window goes."""
        frame = self.frame
        if frame is not None and frame.isHidden() and frame.window().isVisible():  # type: ignore[union-attr]
            frame.show()

    def _once(self, call: Callable[[], None]) -> None:
        timer = QTimer(self)  # ours: gone with the dock
        timer.setSingleShot(True)
        timer.timeout.connect(call)
        timer.timeout.connect(timer.deleteLater)
        timer.start(0)
