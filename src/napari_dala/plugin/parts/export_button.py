"""Export…: the chosen model for QuPath and other programs, written by the warm child."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QWidget

from napari_dala.model.export.formats import ExportFormat
from napari_dala.plugin.viewer.plain_text import plain_tip
from napari_dala.plugin.warm_child import warm_child

if TYPE_CHECKING:
    from napari_dala.model.catalog import ModelEntry

_TIP = "Take the model to QuPath, WSInfer or a program of your own"


class ExportButton(QPushButton):
    """A button with the forms in which a model leaves; one export at a time.

    Parameters
    ----------
    parent
        The widget it belongs to.
    """

    told = Signal(str)
    """What is being done, or was, in one line."""
    failed = Signal(str)
    """Why a model could not be exported, in one line."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__("Export…", parent)
        self._entry: ModelEntry | None = None
        self._request: int | None = None
        self.forms = QMenu(self)
        for form in ExportFormat:
            action = self.forms.addAction(f"For {form.label}…")
            assert action is not None
            action.triggered.connect(partial(self._ask_folder, form))
        self.setMenu(self.forms)
        warm_child().told.connect(self._on_told)

    def offer(self, entry: ModelEntry | None) -> None:
        """Take the model that is to be exported; one that is untrained, or damaged, cannot be."""
        self._entry = entry
        card = entry.card if entry else None
        self.setToolTip(plain_tip(f"This model is {card.warning}" if card and card.warning else _TIP))
        self._show_whether_possible()

    def export(self, form: ExportFormat, folder: Path) -> None:
        """Have the model written into a new folder of its name and form within `folder`."""
        if self._entry is None or self._request is not None:
            return
        target = folder / f"{self._entry.name}-{form}"
        warm_child().hold(self)
        model = str(self._entry.path or self._entry.name)
        self._request = warm_child().request("export", model=model, to=form.value, folder=str(target))
        self._show_whether_possible()
        self.told.emit(f"Exporting to {target} … An analysis that runs is finished first.")

    def _ask_folder(self, form: ExportFormat) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A folder of the model's name will be made in this one")
        if chosen:
            self.export(form, Path(chosen))

    def _show_whether_possible(self) -> None:
        card = self._entry.card if self._entry else None
        self.setEnabled(self._request is None and card is not None and card.warning is None)

    def _on_told(self, request: int, event: str, payload: dict[str, Any]) -> None:
        if self._request is None:
            return
        if request == self._request and event == "result":
            self._end(f"Exported: {payload['folder']}. README.md there says how to use it.", "")
        elif request == self._request and event == "error":
            self._end("", payload["message"])
        elif (request, event) == (0, "died"):
            self._end("", f"The process that exports has ended: {payload['reason']}")

    def _end(self, done: str, problem: str) -> None:
        self._request = None
        self._show_whether_possible()
        self.told.emit(done)
        self.failed.emit(problem)
