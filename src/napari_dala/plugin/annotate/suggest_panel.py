"""The button "Next to label", in the dock: from one tile that the model is unsure of to the next."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget
from superqt.utils import create_worker

from napari_dala.annotations.labels import drawn_tiles
from napari_dala.plugin.viewer.asked import SUGGEST_KEY
from napari_dala.plugin.viewer.plain_text import TwoLines
from napari_dala.plugin.viewer.tile_mark import TileMark
from napari_dala.results.suggest import next_to_label

if TYPE_CHECKING:
    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.plugin.annotate.drawing import Drawing
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.results.analysis import Analysis, Spot

ROUND = 20  # tiles, then the next round begins
_NOTHING_YET = "Analyse the slide first: what to label next is where the model is least sure."
_NO_TILE_YET = "No tile is analysed yet."
_ALL_LABELLED = "Every analysed tile is labelled."


@dataclass(frozen=True)
class Suggestions:
    """Tiles to label next; `again` where all others were suggested before, so that it begins anew."""

    spots: list[Spot]
    again: bool


class SuggestPanel(QWidget):
    """Goes to the unlabelled tiles that the model is least sure of, one after the other.

    Parameters
    ----------
    session
        Of the viewer.
    drawing
        What is drawn on the current slide.
    """

    def __init__(self, session: Session, drawing: Drawing) -> None:
        super().__init__()
        self._session, self._drawing = session, drawing
        self._mark = TileMark(session, "Next to label", "cyan")
        self._about: tuple[str, str] | None = None
        self._spots: list[Spot] = []
        self._visited = 0
        self._seen: list[tuple[int, int]] = []
        self._is_stale, self._is_searching = True, False
        self.button = QPushButton(f"Next to label ({SUGGEST_KEY.upper()})")
        self.button.setToolTip("Go to the unlabelled tile that the model is least sure of")
        self.text = TwoLines()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.text)
        self.button.clicked.connect(self.step)
        session.suggestion_asked.connect(self.step)
        session.results_changed.connect(self.refresh)
        session.slides_changed.connect(self.refresh)
        drawing.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Follow the results and what is drawn: the next step looks for tiles again."""
        results = self._session.results
        self._is_stale = True
        about = None if results is None else _identity(results)
        if about != self._about:  # another slide or model
            self._about, self._seen = about, []
            self._begin_round()
            self._mark.hide()
            self.text.setText("")
        reason = _NOTHING_YET if results is None else "" if results.analysis.analysed.any() else _NO_TILE_YET
        self.button.setEnabled(not reason)
        if reason or self.text.text() in (_NOTHING_YET, _NO_TILE_YET):
            self.text.setText(reason)

    def step(self) -> None:
        """Go to the next tile; after a change, or at the end of a round, look for tiles first."""
        results = self._session.results
        if results is None or not self.button.isEnabled() or self._is_searching:
            return
        if self._spots and not self._is_stale:
            self._go(results)
            return
        if self._visited >= ROUND or not self._is_stale:
            self._begin_round()
        self._is_stale, self._is_searching = False, True
        create_worker(
            _search,
            results.analysis,
            self._drawing.document,
            ROUND - self._visited,
            tuple(self._seen),
            _connect={"returned": partial(self._on_found, results), "errored": self._on_failed},
        )

    def _on_found(self, results: ResultLayers, found: Suggestions) -> None:
        self._is_searching = False
        if results is not self._session.results:
            return
        if found.again:
            self._seen = []
            self._begin_round()
        self._spots = found.spots
        if self._spots:
            self._go(results)
        else:
            self._mark.hide()
            self.text.setText(_ALL_LABELLED)

    def _on_failed(self, error: Exception) -> None:
        self._is_searching = False
        self.text.setText(str(error))

    def _begin_round(self) -> None:
        self._spots, self._visited = [], 0

    def _go(self, results: ResultLayers) -> None:
        spot = self._spots.pop(0)
        self._visited += 1
        self._seen.append((spot.row, spot.column))
        analysis = results.analysis
        name = analysis.card.class_names[analysis.card.target_class]
        rounds = self._visited + len(self._spots)
        self.text.setText(f"{self._visited} of {rounds}: {name} {spot.probability:.0%}")
        self._session.go_to(spot.x, spot.y, analysis.grid.tile_size)
        self._mark.show(results.slide_layer, (spot.x, spot.y), analysis.grid.tile_size)


def _search(
    analysis: Analysis, drawn: AnnotationDocument | None, n: int, seen: tuple[tuple[int, int], ...]
) -> Suggestions:
    """Find tiles to label; where all were seen, begin with the first again. Up to a second, so in a thread."""
    labelled = np.zeros(analysis.grid.shape, np.bool_) if drawn is None else drawn_tiles(drawn, analysis.grid)
    spots = next_to_label(analysis, labelled, n, seen=seen)
    if spots or not seen:
        return Suggestions(spots, False)
    return Suggestions(next_to_label(analysis, labelled, ROUND), True)


def _identity(results: ResultLayers) -> tuple[str, str]:
    store = results.analysis.store
    return store.setting.fingerprint, store.bundle_hash
