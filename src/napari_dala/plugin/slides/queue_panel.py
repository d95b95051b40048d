"""The buttons that analyse many slides, and how far that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_dala.plugin.parts.notes import RUN_STYLE, Bar
from napari_dala.plugin.parts.scrolling import keep_place
from napari_dala.plugin.viewer.plain_text import TwoLines

if TYPE_CHECKING:
    from napari_dala.plugin.slides.queue import AnalysisQueue

_STEPS = 1000  # of the bar


class QueuePanel(QWidget):
    """Run, Cancel, and the progress over all slides.

    Parameters
    ----------
    queue
        What is shown.
    """

    run_asked = Signal()
    """Run was pressed."""

    def __init__(self, queue: AnalysisQueue) -> None:
        super().__init__()
        self._queue = queue
        self._can_run = False
        self.run_button, self.cancel_button = QPushButton(), QPushButton("Cancel")
        self.run_button.setStyleSheet(RUN_STYLE)
        self.progress, self.text = Bar(), TwoLines()
        self.progress.setRange(0, _STEPS)
        keep_place(self.progress)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setColumnStretch(0, 1)
        layout.addWidget(self.run_button, 0, 0)
        layout.addWidget(self.cancel_button, 0, 1)
        layout.addWidget(self.text, 1, 0, 1, 2)
        layout.addWidget(self.progress, 2, 0, 1, 2)
        self.run_button.clicked.connect(self.run_asked)
        self.cancel_button.clicked.connect(queue.cancel)
        queue.changed.connect(self._show)
        self.offer(0, can_run=False)

    def offer(self, chosen: int, *, can_run: bool) -> None:
        """Say what Run would do: analyse so many slides that are chosen, or all where none are."""
        self.run_button.setText(f"▶  Analyze {chosen} slides" if chosen else "▶  Analyze all")
        self._can_run = can_run
        self._show()

    def _show(self) -> None:
        is_running = self._queue.is_running
        self.run_button.setEnabled(self._can_run and not is_running)
        self.cancel_button.setEnabled(is_running)
        self.text.setText(self._queue.text)
        self.progress.setVisible(is_running)
        self.progress.setValue(round(_STEPS * self._queue.share))
