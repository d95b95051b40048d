"""Buttons are pressed as a hand does it: only what can be pressed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from qtpy.QtWidgets import QAbstractButton


def press(qtbot: Any, button: QAbstractButton) -> None:
    """Click a button, which must be enabled."""
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
