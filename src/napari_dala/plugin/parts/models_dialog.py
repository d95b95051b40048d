"""The window *Models*: which there are, how others come in; the user's own can be renamed, removed and exported."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QUrl, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_dala.errors import BundleError, DalaError
from napari_dala.jobs.job import jobs_in
from napari_dala.jobs.state import Status
from napari_dala.model.card import TRUNK_OF
from napari_dala.model.catalog import list_models, page_of, remove_model, rename_model
from napari_dala.model.tensor_file import read_header
from napari_dala.plugin.parts.export_button import ExportButton
from napari_dala.plugin.parts.fetch_dialog import FetchDialog
from napari_dala.plugin.parts.import_dialog import ImportDialog
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.plain_text import PlainLabel, plain_tip
from napari_dala.training.finetune.job import BUNDLE_FILE, is_settled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_dala.jobs.job import Job
    from napari_dala.model.catalog import ModelEntry

_UNFINISHED = (Status.QUEUED, Status.RUNNING, Status.PAUSED, Status.INTERRUPTED)
_SIZE = 560, 420  # px


class ModelsDialog(QDialog):
    """Lists the models of the workspace; gone when it is closed.

    Parameters
    ----------
    parent
        The widget it belongs to.
    chosen
        Name of the model that is selected first.
    in_use
        Names or files of models that an analysis works with.
    """

    changed = Signal(str)
    """A model was imported, renamed or removed: the name of the one to go on with, or empty."""

    def __init__(self, parent: QWidget, chosen: str, in_use: Sequence[str] = ()) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Models")
        self._in_use = in_use
        self._entries: list[ModelEntry] = []
        self.models, self.about, self.exported, self.error = QListWidget(), PlainLabel(), Note("offer"), Note("error")
        self.about.setWordWrap(True)
        self.rename_button, self.remove_button = QPushButton("Rename…"), QPushButton("Remove…")
        self.page_button, self.close_button = QPushButton("How good is it?"), QPushButton("Close")
        self.import_button, self.fetch_button = QPushButton("Import…"), QPushButton("ImageNet…")
        self.import_button.setToolTip("A model of this program, or weights of a network, from a file")
        self.fetch_button.setToolTip("Download torchvision's ResNet-50, trained on photographs of things, as a start")
        self.export_button = ExportButton(self)
        layout, buttons, ways_in = QVBoxLayout(self), QHBoxLayout(), QHBoxLayout()
        for button in (self.import_button, self.fetch_button, self.export_button):
            ways_in.addWidget(button)
        ways_in.addStretch()
        for button in (self.rename_button, self.remove_button, self.page_button):
            buttons.addWidget(button)
        buttons.addStretch()
        buttons.addWidget(self.close_button)
        for widget in (self.models, self.about, self.exported, self.error):
            layout.addWidget(widget)
        layout.addLayout(ways_in)
        layout.addLayout(buttons)
        self.models.currentRowChanged.connect(self._show_entry)
        self.import_button.clicked.connect(self._ask_file)
        self.fetch_button.clicked.connect(self._ask_fetch)
        self.rename_button.clicked.connect(self._ask_name)
        self.remove_button.clicked.connect(self._ask_remove)
        self.page_button.clicked.connect(self._open_page)
        self.export_button.told.connect(self.exported.say)
        self.export_button.failed.connect(self.error.say)
        self.close_button.clicked.connect(self.close)
        self.resize(*_SIZE)
        self._read(chosen)

    @property
    def entry(self) -> ModelEntry | None:
        """The model that is selected."""
        row = self.models.currentRow()
        return self._entries[row] if 0 <= row < len(self._entries) else None

    def ask_import(self, file: Path, name: str = "") -> None:
        """Ask what else is to be known of a file, and import it; `name` of the new model, by default the file's."""
        try:
            dialog = ImportDialog(self, file, name or file.stem)
        except DalaError as error:
            self.error.say(str(error))
            return
        self.error.say("")
        dialog.imported.connect(self._on_imported)
        dialog.show()

    def rename(self, name: str) -> None:
        """Give the selected model another name; why that cannot be is said."""
        entry = self.entry
        if entry is None or self._is_refused(entry):
            return
        workspace = load_preferences().workspace
        try:
            renamed = rename_model(entry, name, workspace)
        except DalaError as error:
            self.error.say(str(error))
            return
        self._read(renamed.name)
        self.changed.emit(renamed.name)

    def remove(self) -> None:
        """Remove the selected model; why that cannot be is said."""
        entry = self.entry
        if entry is None or self._is_refused(entry):
            return
        try:
            remove_model(entry, load_preferences().workspace)
        except DalaError as error:
            self.error.say(str(error))
            return
        self._read("")
        self.changed.emit("")

    def _is_refused(self, entry: ModelEntry) -> bool:
        reason = why_in_use(entry, self._in_use, load_preferences().workspace)
        self.error.say(reason)
        return bool(reason)

    def _read(self, chosen: str) -> None:
        self._entries = list_models(load_preferences().workspace)
        self.error.say("")
        self.models.clear()
        for entry in self._entries:
            item = QListWidgetItem(f"{entry.name}{_kind_of(entry)}")
            item.setToolTip(plain_tip(_about(entry)))
            self.models.addItem(item)
        rows = [row for row, entry in enumerate(self._entries) if entry.name == chosen]
        self.models.setCurrentRow(rows[0] if rows else 0)

    def _show_entry(self) -> None:
        entry = self.entry
        own = entry is not None and not entry.is_built_in
        self.rename_button.setEnabled(own)
        self.remove_button.setEnabled(own)
        self.page_button.setEnabled(entry is not None and page_of(entry) is not None)
        self.export_button.offer(entry)
        self.about.setText("" if entry is None else _about(entry))
        self.error.say("")

    def _ask_file(self) -> None:
        found, _ = QFileDialog.getOpenFileName(self, "Import model", "", "All files (*)")
        if found:
            self.ask_import(Path(found))

    def _ask_fetch(self) -> None:
        dialog = FetchDialog(self)
        dialog.fetched.connect(self.ask_import)
        dialog.show()

    def _on_imported(self, name: str) -> None:
        self._read(name)
        self.changed.emit(name)

    def _ask_name(self) -> None:
        if self.entry is not None:
            name, is_given = QInputDialog.getText(self, "Rename model", "New name:", text=self.entry.name)
            if is_given:
                self.rename(name)

    def _ask_remove(self) -> None:
        if self.entry is None:
            return
        text = f"Remove “{self.entry.name}”? It cannot be brought back. What it found on slides stays."
        if QMessageBox.question(self, "Remove model", text) == QMessageBox.StandardButton.Yes:
            self.remove()

    def _open_page(self) -> None:
        page = None if self.entry is None else page_of(self.entry)
        if page is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(page)))


def _kind_of(entry: ModelEntry) -> str:
    """Return what is to be seen of a model behind its name."""
    if entry.is_built_in:
        return "   (came with the program)"
    return "   (a trunk: must learn first)" if entry.card and entry.card.trunk_only else ""


def _about(entry: ModelEntry) -> str:
    return entry.problem or (entry.card.summary if entry.card else "")


def why_in_use(entry: ModelEntry, analysing: Sequence[str], workspace: Path) -> str:
    """Return why a model cannot be renamed or removed now, one line, or empty.

    Parameters
    ----------
    analysing
        Names or files of the models that analyses work with.
    """
    known = {entry.name, str(entry.path)}
    if known & set(analysing):
        return f"“{entry.name}” is analysing a slide: wait until it is done, or cancel it."
    for folder in workspace.glob("*/jobs"):
        for job in jobs_in(folder):
            if job.status in _UNFINISHED and str(job.config.get("model")) in known:
                return f"“{entry.name}” is being learned from: wait until that is done, or cancel it."
            if job.status is Status.DONE and not is_settled(job) and _shares_trunk(job, entry):
                return f"A model that has learned from “{entry.name}” waits to be accepted or discarded."
    return ""


def _shares_trunk(job: Job, entry: ModelEntry) -> bool:
    """Tell whether what a job has learned has its trunk in a model's file."""
    with suppress(BundleError):
        trunk = read_header(job.result / BUNDLE_FILE).metadata.get(TRUNK_OF)
        return entry.path is not None and trunk == entry.path.name
    return False
