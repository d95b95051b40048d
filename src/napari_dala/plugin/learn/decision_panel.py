"""What to do with a model that was learned: figures before and after, both maps in turn, Accept and Discard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_dala.plugin.learn.before_after import BeforeAfter
from napari_dala.plugin.learn.check_panel import CheckPanel
from napari_dala.plugin.parts.notes import RUN_STYLE, Note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_dala.plugin.learn.learning import Learning
    from napari_dala.plugin.viewer.session import Session


class DecisionPanel(QWidget):
    """There while a model waits for a decision.

    Parameters
    ----------
    session
        Of the viewer.
    learning
        Of the slide.
    """

    def __init__(self, session: Session, learning: Learning) -> None:
        super().__init__()
        self._session, self._learning = session, learning
        self._report: Mapping[str, object] | None = None
        self.figures, self.check = BeforeAfter(), CheckPanel(session)
        self.worse, self.better = Note("warning"), Note("offer")
        self.before_button, self.after_button = QPushButton("Map before"), QPushButton("Map after")
        self.accept_button, self.discard_button = QPushButton("Accept"), QPushButton("Discard")
        self._looks = QButtonGroup(self)
        for button in (self.before_button, self.after_button):
            button.setCheckable(True)
            self._looks.addButton(button)
        self.accept_button.setToolTip("Keep the new map; the model is then in the list of Analyze slide")
        self.discard_button.setToolTip("Back to the map from before; what you drew stays")
        self.name = QLineEdit()
        self.name.setToolTip("What the model is called in the lists of models; Models… renames it later")
        self.name_problem = Note("error")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.worse)
        layout.addWidget(self.better)
        looks, name, decision = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        name.addWidget(QLabel("Name"))
        for line, widgets in (
            (looks, (self.before_button, self.after_button)),
            (name, (self.name,)),
            (decision, (self.accept_button, self.discard_button)),
        ):
            for widget in widgets:
                line.addWidget(widget)
            layout.addLayout(line)
        layout.addWidget(self.name_problem)
        layout.addWidget(self.figures)
        layout.addWidget(self.check)
        self.before_button.clicked.connect(partial(self._look, True))
        self.after_button.clicked.connect(partial(self._look, False))
        self.name.textChanged.connect(self.refresh)
        self.accept_button.clicked.connect(lambda: learning.accept(self.name.text()))
        self.discard_button.clicked.connect(learning.discard)
        self._at_threshold: tuple[object, float] | None = None
        self.check.threshold_chosen.connect(self._use_threshold)
        learning.changed.connect(self.refresh)
        session.results_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the model that waits."""
        learned, layer = self._learning.learned, self._session.layer
        self.setVisible(learned is not None)
        if learned is None or layer is None:
            return
        if learned.report is not self._report:
            self._report = learned.report
            self.figures.show_report(learned.report)
            self.check.show_folder(learned.bundle.parent)
            self._lead(learned.report)
            with signals_blocked(self.name):
                self.name.setText(self._learning.proposed_name)
        overlays = self._session.overlays_of(layer)
        preview = overlays.preview if overlays else None
        threshold = self._learning.threshold
        if preview is not None and threshold is not None and self._at_threshold != (preview, threshold):
            self._at_threshold = preview, threshold  # once: the user may move it on
            preview.set_threshold(threshold)
            self._session.results_changed.emit()
        before = overlays is not None and (overlays.shows_before or preview is None)
        self.before_button.setEnabled(overlays is not None and overlays.standing is not None)
        self.before_button.setChecked(before)
        self.after_button.setEnabled(preview is not None or self._learning.run is None)
        self.after_button.setChecked(preview is not None and not before)
        problem = self._learning.name_problem(self.name.text())
        self.name_problem.say(problem)
        self.accept_button.setEnabled(not self._learning.is_busy and not problem)
        self.discard_button.setEnabled(not self._learning.is_busy)

    def _lead(self, report: Mapping[str, Any]) -> None:
        """Say which of the two is the better choice, and let its button stand out."""
        verdict = report.get("verdict")
        weak = "\n" + str(report["verdict_is_weak"]) if report.get("verdict_is_weak") else ""
        weak = f" But do not rely on it:{weak}" if weak else ""
        self.worse.say(f"Worse than before on the held-out tiles: Discard.{weak}" if verdict == "worse" else "")
        self.better.say(f"Better than before on the held-out tiles: Accept.{weak}" if verdict == "better" else "")
        self.discard_button.setStyleSheet(RUN_STYLE if verdict == "worse" and not weak else "")
        self.accept_button.setStyleSheet(RUN_STYLE if verdict == "better" and not weak else "")

    def _use_threshold(self, threshold: float) -> None:
        """Show the new map at this operating threshold, which the model has if it is accepted."""
        self._learning.choose_threshold(threshold)
        self._look(False)

    def _look(self, before: bool) -> None:
        if self._session.layer is not None:
            self._session.show_before(self._session.layer, before)
        if not before:
            self._learning.show_preview()
        self.refresh()
