"""How far learning is: a line, a bar, and the buttons to pause, resume and cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_dala.jobs.state import Status
from napari_dala.plugin.analyze.run import progress_text
from napari_dala.plugin.parts.notes import Bar, Note
from napari_dala.plugin.parts.scrolling import keep_place
from napari_dala.plugin.viewer.plain_text import TwoLines
from napari_dala.training.finetune.job import Epoch, FinetuneEvent, Prepared
from napari_dala.words import sentence

if TYPE_CHECKING:
    from napari_dala.plugin.learn.learning import Learning
    from napari_dala.results.progress import Progress

_SAYS = {
    Status.QUEUED: "Starting…",
    Status.RUNNING: "Learning…",
    Status.PAUSED: "Paused",
    Status.INTERRUPTED: "Learning was interrupted. Resume goes on where it stopped.",
    Status.FAILED: "Learning failed.",
    Status.DONE: "Learned.",
}


class JobPanel(QWidget):
    """Follows a `Learning`; its room stays while there is nothing to follow, and its `error` is placed by its owner.

    Parameters
    ----------
    learning
        Of the slide.
    """

    def __init__(self, learning: Learning) -> None:
        super().__init__()
        self._learning = learning
        self.status, self.bar = TwoLines(), Bar()
        self.error = Note("error")
        self.go_button, self.cancel_button = QPushButton("Pause"), QPushButton("Cancel")
        keep_place(self.bar, self.go_button, self.cancel_button)  # no other button may come under the mouse
        line = QHBoxLayout()
        line.addWidget(self.bar, 1)
        line.addWidget(self.go_button)
        line.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.status)
        layout.addLayout(line)
        self.go_button.clicked.connect(self._go)
        self.cancel_button.clicked.connect(self._cancel)
        learning.changed.connect(self.refresh)
        learning.reported.connect(self._on_event)
        learning.forgotten.connect(self._on_forgotten)
        learning.progressed.connect(self._on_progress)
        self.refresh()

    def refresh(self) -> None:
        """Show where the job stands."""
        learning = self._learning
        status, live, previews = learning.status, learning.is_live, learning.run is not None
        stopped = status is not None and status is not Status.DONE and not live
        self.error.say(learning.problem or (learning.message if status is Status.FAILED else ""))
        if not previews:
            self.status.setText(self._text(status))
        self.bar.setVisible((live or previews) and self.bar.maximum() > 0)  # one without end would keep Qt painting
        self.go_button.setVisible(live or stopped)
        self.go_button.setText("Pause" if status is Status.RUNNING else "Resume")
        self.go_button.setEnabled(stopped or status in (Status.RUNNING, Status.PAUSED))
        self.cancel_button.setVisible(live or stopped or previews)
        self.cancel_button.setText("Stop" if previews else "Cancel")

    def _text(self, status: Status | None) -> str:
        if status is None:
            return ""
        message = self._learning.message
        if status is Status.RUNNING and message:
            return sentence(message)
        if status in (Status.PAUSED, Status.INTERRUPTED) and message:
            return f"{_SAYS[status]} ({message})"
        return _SAYS.get(status, "")

    def _go(self) -> None:
        if self._learning.status is Status.RUNNING:
            self._learning.pause()
        else:
            self._learning.resume()

    def _cancel(self) -> None:
        if run := self._learning.run:
            run.cancel()
        else:
            self._learning.cancel()

    def _on_event(self, event: FinetuneEvent) -> None:
        if isinstance(event, Prepared):
            self.bar.setRange(0, event.epochs)
            self.bar.setVisible(True)
        elif isinstance(event, Epoch):
            self.bar.setValue(event.epoch + 1)

    def _on_progress(self, progress: Progress) -> None:
        if self._learning.run is None:
            return  # accepted meanwhile
        self.bar.setRange(0, max(1, progress.total))
        self.bar.setVisible(True)
        self.bar.setValue(progress.finished)
        self.status.setText(f"The new model's map: {progress_text(progress)}")

    def _on_forgotten(self) -> None:
        self.bar.setRange(0, 0)
        self.status.setText("")
