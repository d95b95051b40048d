"""What is asked before results or a picture are saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QWidget,
)

from napari_dala.plugin.viewer.plain_text import PlainLabel

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTH = 520  # px
_AFTER_PATH = 1  # the row of the form where options go
TIMES = (1, 2, 3, 4)
"""Pixels of a picture for one of the screen, along a side."""


class _SaveDialog(QDialog):
    """A path, and whether the slide may be named; gone when it is closed.

    Parameters
    ----------
    parent
        The widget it belongs to.
    title
        Of the dialog.
    path
        Where to, at first.
    about
        What will be there.
    path_name
        What the path is of.
    ask
        Lets the user choose a path, given the one that is there; the empty text where none was chosen.
    """

    wanted = Signal()
    """Save was pressed."""

    def __init__(
        self, parent: QWidget, title: str, path: Path, about: str, path_name: str, ask: Callable[[QWidget, str], str]
    ) -> None:
        super().__init__(parent)
        self._ask = ask
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(title)
        self.path, self.choose_button = QLineEdit(str(path)), QPushButton("Choose…")
        self.anonymous = QCheckBox("Leave the slide's name out")
        self.about = PlainLabel(about)
        self.about.setWordWrap(True)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel)
        self.save_button = buttons.button(QDialogButtonBox.StandardButton.Save)
        line = QHBoxLayout()
        line.addWidget(self.path, 1)
        line.addWidget(self.choose_button)
        self._form = QFormLayout(self)
        self._form.addRow(path_name, line)
        self._form.addRow(self.anonymous)
        self._form.addRow(self.about)
        self._form.addRow(buttons)
        self.choose_button.clicked.connect(self._choose)
        buttons.accepted.connect(self._save)
        buttons.rejected.connect(self.reject)
        self.setMinimumWidth(_WIDTH)

    def _choose(self) -> None:
        found = self._ask(self, self.path.text())
        if found:
            self.path.setText(found)

    def _save(self) -> None:
        if self.chosen_path is not None:
            self.wanted.emit()
            self.accept()

    @property
    def chosen_path(self) -> Path | None:
        """Where to save; None where nothing is said."""
        text = self.path.text().strip()
        return Path(text).expanduser() if text else None


class ResultsDialog(_SaveDialog):
    """Where the report and its tables go, and whether maps go along."""

    def __init__(self, parent: QWidget, title: str, path: Path, about: str) -> None:
        super().__init__(parent, title, path, about, "Folder", _ask_folder)
        self.maps = QCheckBox("Maps too, for QuPath (OME-TIFF) and napari (OME-Zarr)")
        self.maps.setChecked(True)
        self._form.insertRow(_AFTER_PATH, self.maps)


class PictureDialog(_SaveDialog):
    """Where the picture goes, and how fine it is."""

    def __init__(self, parent: QWidget, title: str, path: Path, about: str) -> None:
        super().__init__(parent, title, path, about, "Picture", _ask_picture)
        self.times_box = QComboBox()
        for times in TIMES:
            self.times_box.addItem("1×, as on the screen" if times == 1 else f"{times}×, finer", times)
        self.times_box.setCurrentIndex(TIMES.index(2))
        self._form.insertRow(_AFTER_PATH, "Size", self.times_box)

    @property
    def times(self) -> int:
        """Pixels of the picture for one of the screen."""
        return int(self.times_box.currentData())


def _ask_folder(parent: QWidget, path: str) -> str:
    return QFileDialog.getExistingDirectory(parent, "Folder for the results", path)


def _ask_picture(parent: QWidget, path: str) -> str:
    found, _ = QFileDialog.getSaveFileName(parent, "Save the picture", f"{path}.png", "Pictures (*.png)")
    return str(Path(found).with_suffix("")) if found else ""
