"""Menus, and the dialogs that ask for files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qtpy.QtWidgets import QWidget

    Actions = Mapping[str, Callable[[], object]]


def menu_of(parent: QWidget, actions: Actions) -> QMenu:
    """Return a menu of texts and what they do."""
    menu = QMenu(parent)
    for text, call in actions.items():
        menu.addAction(text).triggered.connect(lambda _, call=call: call())  # type: ignore[union-attr]
    return menu


def menu_button(text: str, actions: Actions) -> QPushButton:
    """Return a button that opens a menu."""
    button = QPushButton(text)
    button.setMenu(menu_of(button, actions))
    return button


def ask_files(parent: QWidget, title: str) -> list[Path]:
    """Ask for files; none where the user thinks better of it."""
    return [Path(name) for name in QFileDialog.getOpenFileNames(parent, title)[0]]


def ask_folder(parent: QWidget, title: str) -> list[Path]:
    """Ask for a folder; none where the user thinks better of it."""
    name = QFileDialog.getExistingDirectory(parent, title)
    return [Path(name)] if name else []


def ask_table(parent: QWidget, title: str, name: str) -> Path | None:
    """Ask where a table is to be written; None where the user thinks better of it."""
    name, _ = QFileDialog.getSaveFileName(parent, title, name, "CSV (*.csv)")
    return Path(name).with_suffix(".csv") if name else None
