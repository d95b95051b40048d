"""Keys that work wherever the focus is, but in text fields, which take what is typed for themselves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut

from napari_dala.plugin.viewer.session import NEXT_KEY, PREVIOUS_KEY, TOGGLE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QMainWindow, QWidget

    from napari_dala.plugin.viewer.session import Session

SUGGEST_KEY = "u"
_NAME = "dala-key-"


def bind_window_keys(window: QMainWindow, session: Session) -> None:
    """Let N, Shift+N, H and U work in the whole window, once; napari's own keys work on its canvas alone."""
    calls: dict[str, Callable[[], object]] = {
        TOGGLE_KEY: session.toggle_overlays,
        NEXT_KEY: partial(session.step_asked.emit, 1),
        PREVIOUS_KEY: partial(session.step_asked.emit, -1),
        SUGGEST_KEY: session.suggestion_asked.emit,
    }
    for key, call in calls.items():
        if window.findChild(QShortcut, _NAME + key) is None:
            _bind(window, key, call, Qt.ShortcutContext.WindowShortcut)


def bind_digits(dock: QWidget, call: Callable[[int], object]) -> None:
    """Let the digits work in a dock; elsewhere they are keys of the layer in hand."""
    for digit in range(10):
        _bind(dock, str(digit), partial(call, digit), Qt.ShortcutContext.WidgetWithChildrenShortcut)


def _bind(parent: QWidget, key: str, call: Callable[[], object], context: Qt.ShortcutContext) -> None:
    shortcut = QShortcut(QKeySequence(key.replace("-", "+")), parent)
    shortcut.setObjectName(_NAME + key)
    shortcut.setContext(context)
    shortcut.activated.connect(call)
