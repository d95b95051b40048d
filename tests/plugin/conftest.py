from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from napari.utils.notifications import notification_manager
from npe2 import PluginManager
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.viewer import Viewer


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Viewer:
    """A real window, the plugin as on napari's start: found, not activated."""
    plugins = PluginManager.instance()
    plugins.discover()
    plugins.deactivate("napari-dala")
    return make_napari_viewer(show=True)


@pytest.fixture
def messages() -> Callable[[], list[str]]:
    """The messages shown to the user since the test began."""
    before = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[before:]]


@pytest.fixture
def drop() -> Callable[[Viewer, Path], None]:
    """Drop a file or folder on the window, as the desktop does."""

    def drop_on(viewer: Viewer, path: Path) -> None:
        mime = QMimeData()
        mime.setUrls([QUrl.fromLocalFile(str(path))])
        target = viewer.window._qt_viewer
        how = Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        entered = QDragEnterEvent(QPoint(300, 300), *how)
        QApplication.sendEvent(target, entered)
        assert entered.isAccepted()
        QApplication.sendEvent(target, QDropEvent(QPointF(300, 300), *how, QEvent.Type.Drop))

    return drop_on
