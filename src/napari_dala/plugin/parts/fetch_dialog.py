"""Downloading published weights, where the user asks for it: what, from where to where, how far."""

from __future__ import annotations

from pathlib import Path
from threading import Event

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget
from superqt.utils import create_worker

from napari_dala.model.fetch import PUBLISHED, fetch_weights, place_of
from napari_dala.plugin.parts.notes import Bar, Note
from napari_dala.plugin.viewer.plain_text import PlainLabel

_WIDTH = 520  # px
_BY_HAND = (
    "Without internet: download the file on another machine, put it there under this name, and press Download. It is "
    "checked as if it had been downloaded."
)


class FetchDialog(QDialog):
    """Says what is downloaded, and how to put it there by hand; downloads in a thread. Gone when closed.

    Parameters
    ----------
    parent
        The widget it belongs to.
    name
        Of the weights, see `PUBLISHED`.
    """

    fetched = Signal(Path, str)
    """The file is there; the name of the weights."""
    _progressed = Signal(int)  # MB; from the thread

    def __init__(self, parent: QWidget, name: str = "imagenet-resnet50") -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Weights of ImageNet")
        self._name, self._weights, self._stop = name, PUBLISHED[name], Event()
        self.about, self.by_hand = PlainLabel(self._weights.about), PlainLabel(_BY_HAND)
        self.source, self.place = QLineEdit(self._weights.url), QLineEdit(str(place_of(self._weights)))
        self.bar, self.error = Bar(), Note("error")
        self.bar.setRange(0, self._weights.size >> 20)
        self.bar.setFormat("%v of %m MB")
        self.bar.hide()
        self.download_button, self.cancel_button = QPushButton("Download"), QPushButton("Cancel")
        layout, form, buttons = QVBoxLayout(self), QFormLayout(), QHBoxLayout()
        for name, line in (("From", self.source), ("To", self.place)):
            line.setReadOnly(True)  # to be copied
            form.addRow(name, line)
        buttons.addStretch()
        for button in (self.download_button, self.cancel_button):
            buttons.addWidget(button)
        for label in (self.about, self.by_hand):
            label.setWordWrap(True)
        layout.addWidget(self.about)
        layout.addLayout(form)
        for widget in (self.by_hand, self.bar, self.error):
            layout.addWidget(widget)
        layout.addLayout(buttons)
        self.download_button.clicked.connect(self._download)
        self.cancel_button.clicked.connect(self.reject)
        self._progressed.connect(self.bar.setValue)
        for gone in (self.finished, self.destroyed):  # the latter alone where its parent is closed
            gone.connect(self._stop.set)
        self.setMinimumWidth(_WIDTH)

    def _download(self) -> None:
        self.error.say("")
        self.bar.show()
        self.download_button.setEnabled(False)
        weights, stop, tell = self._weights, self._stop, self._progressed.emit
        create_worker(
            lambda: fetch_weights(weights, lambda done, _: None if stop.is_set() else tell(done >> 20), stop.is_set),
            _connect={"returned": self._on_fetched, "errored": self._on_failed},
        )

    def _on_fetched(self, path: Path | None) -> None:
        if path is not None and not self._stop.is_set():
            self.fetched.emit(path, self._name)
            self.accept()

    def _on_failed(self, error: Exception) -> None:
        self.download_button.setEnabled(True)
        self.error.say(str(error))
