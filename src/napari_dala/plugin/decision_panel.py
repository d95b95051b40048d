"""What to do with a model that was learned: figures before and after, both maps in turn, Accept and Discard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_dala.plugin.before_after import BeforeAfter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_dala.plugin.learning import Learning
    from napari_dala.plugin.session import Session


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
        self.figures = BeforeAfter()
        self.before_button, self.after_button = QPushButton("Map before"), QPushButton("Map after")
        self.accept_button, self.discard_button = QPushButton("Accept"), QPushButton("Discard")
        self._looks = QButtonGroup(self)
        for button in (self.before_button, self.after_button):
            button.setCheckable(True)
            self._looks.addButton(button)
        self.accept_button.setToolTip("Keep the new map; the model is then in the list of Analyze slide")
        self.discard_button.setToolTip("Back to the map from before; what you drew stays")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for pair in ((self.before_button, self.after_button), (self.accept_button, self.discard_button)):
            line = QHBoxLayout()
            for button in pair:
                line.addWidget(button)
            layout.addLayout(line)
        layout.addWidget(self.figures)
        self.before_button.clicked.connect(partial(self._look, True))
        self.after_button.clicked.connect(partial(self._look, False))
        self.accept_button.clicked.connect(learning.accept)
        self.discard_button.clicked.connect(learning.discard)
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
        overlays = self._session.overlays_of(layer)
        preview = overlays.preview if overlays else None
        before = overlays is not None and (overlays.shows_before or preview is None)
        self.before_button.setEnabled(overlays is not None and overlays.standing is not None)
        self.before_button.setChecked(before)
        self.after_button.setEnabled(preview is not None or self._learning.run is None)
        self.after_button.setChecked(preview is not None and not before)
        for button in (self.accept_button, self.discard_button):
            button.setEnabled(not self._learning.is_busy)

    def _look(self, before: bool) -> None:
        if self._session.layer is not None:
            self._session.show_before(self._session.layer, before)
        if not before:
            self._learning.show_preview()
        self.refresh()
