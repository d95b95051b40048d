"""Keys that work wherever the focus is, but in text fields, which take what is typed for themselves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut

from napari_dala.plugin.viewer.session import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QMainWindow, QWidget

    from napari_dala.plugin.viewer.session import Session

_NAME = "dala-key-"


def bind_window_keys(window: QMainWindow, session: Session) -> None:
    """Let our keys, such as N and Ctrl+Right, work in the whole window, once; napari's own work on its canvas alone."""
    for key, call in KEYS.items():
        if window.findChild(QShortcut, _NAME + key) is None:
            _bind(window, key, partial(call, session), Qt.ShortcutContext.WindowShortcut)


def bind_digits(dock: QWidget, call: Callable[[int], object]) -> None:
    """Let the digits work in a dock; elsewhere they are keys of the layer in hand."""
    for digit in range(10):
        bind_key(dock, str(digit), partial(call, digit))


def bind_key(dock: QWidget, key: str, call: Callable[[], object]) -> None:
    """Let a key, such as "enter" or "ctrl-z", work in a dock."""
    _bind(dock, key, call, Qt.ShortcutContext.WidgetWithChildrenShortcut)


def _bind(parent: QWidget, key: str, call: Callable[[], object], context: Qt.ShortcutContext) -> None:
    shortcut = QShortcut(QKeySequence(key.replace("-", "+")), parent)
    shortcut.setObjectName(_NAME + key)
    shortcut.setContext(context)
    shortcut.activated.connect(call)
