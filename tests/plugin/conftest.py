from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest
from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
from napari.utils.notifications import notification_manager
from npe2 import PluginManager
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.viewer import Viewer

NAME = "napari-dala"


class Drop(Protocol):
    """Drops a file; says whether napari asked which reader to use (answered with `choose`, else cancelled)."""

    def __call__(self, viewer: Viewer, path: Path, choose: str | None = None) -> bool: ...


@pytest.fixture
def new_viewer(make_napari_viewer: Any) -> Viewer:
    """A real window as on napari's first start: nothing of ours has run, no reader is preferred."""
    plugins = PluginManager.instance()
    plugins.discover()
    plugins.deactivate(NAME)
    return make_napari_viewer(show=True)


@pytest.fixture
def viewer(new_viewer: Viewer) -> Viewer:
    """A real window after anything of ours was used once: slide files are ours without asking."""
    PluginManager.instance().activate(NAME)
    return new_viewer


@pytest.fixture
def messages() -> Callable[[], list[str]]:
    """What the user was told since the test began."""
    before = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[before:]]


@pytest.fixture
def drop() -> Drop:
    """Drop a file or folder on the window, as the desktop does."""

    def drop_on(viewer: Viewer, path: Path, choose: str | None = None) -> bool:
        asked = []

        def answer() -> None:
            dialog = QApplication.activeModalWidget()
            if not isinstance(dialog, QtReaderDialog):
                return
            asked.append(dialog)
            for button in dialog.reader_btn_group.buttons():
                button.setChecked(button.text() == choose)
            dialog.accept() if choose else dialog.reject()

        watch = QTimer()
        watch.timeout.connect(answer)
        watch.start(50)
        mime = QMimeData()
        mime.setUrls([QUrl.fromLocalFile(str(path))])
        how = Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        entered = QDragEnterEvent(QPoint(300, 300), *how)
        QApplication.sendEvent(viewer.window._qt_viewer, entered)
        assert entered.isAccepted()
        QApplication.sendEvent(viewer.window._qt_viewer, QDropEvent(QPointF(300, 300), *how, QEvent.Type.Drop))
        watch.stop()
        return bool(asked)

    return drop_on
