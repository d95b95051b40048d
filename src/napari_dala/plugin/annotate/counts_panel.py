"""How many tiles of each class are labelled, in the dock, counted again as the user draws."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget
from superqt.utils import QSignalThrottler, create_worker

from napari_dala.annotations.counts import KnownLabels, label_counts
from napari_dala.annotations.slides import annotated_slide
from napari_dala.model.catalog import find_card
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.plain_text import PlainLabel, breakable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_dala.annotations.counts import ClassCount, Counts
    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.card import ModelCard
    from napari_dala.plugin.annotate.drawing import Drawing
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.viewer.session import Session

_COUNT_MS = 150  # between counts
_HEADINGS = ("tiles", "slides", "patients")


class CountsPanel(QWidget):
    """Labelled tiles, slides and patients of each class, what they are used for, and a warning where one is rare.

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
        self._slides: list[AnnotatedSlide] | None = None
        self._card: ModelCard | None = None
        self._results: ResultLayers | None = None
        self._known: KnownLabels = {}
        self._counting = self._again = False
        self.table = QLabel()
        self.table.setTextFormat(Qt.TextFormat.RichText)
        self.table.setWordWrap(True)
        self.plan = PlainLabel()
        self.plan.setWordWrap(True)
        self.warning = Note("warning")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.table, self.plan, self.warning):
            layout.addWidget(widget)
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(_COUNT_MS)
        self._later.triggered.connect(self._count)
        drawing.changed.connect(self._later.throttle)
        session.slides_changed.connect(self._later.throttle)
        session.results_changed.connect(self._on_results)
        self._count()

    @property
    def card(self) -> ModelCard:
        """Of the model that would learn: the one set, else the one whose results are shown."""
        if self._card is not None:
            return self._card
        results = self._session.results
        return results.analysis.card if results is not None else find_card("default")

    def set_card(self, card: ModelCard | None) -> None:
        """Count for this model; None for the one whose results are shown."""
        self._card = card
        self._later.throttle()

    def set_slides(self, slides: Sequence[AnnotatedSlide] | None) -> None:
        """Count on these slides; None for the open one alone."""
        self._slides = None if slides is None else list(slides)
        self._later.throttle()

    @property
    def slides(self) -> list[AnnotatedSlide]:
        """The slides that are counted, the open one with what is drawn on it now."""
        slide, drawn = self._session.open_slide(), self._drawing.document
        if drawn is not None and self._slides is not None:
            return [replace(one, drawn=drawn) if one.fingerprint == drawn.fingerprint else one for one in self._slides]
        if drawn is None or slide is None or slide.fingerprint != drawn.fingerprint:
            return self._slides or []
        return [annotated_slide(slide, drawn, load_preferences().workspace)]

    def _on_results(self) -> None:
        """Count again for another analysis, which knows background; not for every tile that it adds."""
        if self._session.results is not self._results:
            self._later.throttle()

    def _count(self) -> None:
        """Count in a thread, one count at a time; what changes meanwhile is counted after it."""
        if self._counting:
            self._again = True
            return
        self._counting, self._again = True, False
        self._results = self._session.results
        create_worker(
            label_counts,
            self.slides,
            self.card,
            self._known,
            _connect={"returned": self._show, "finished": self._on_finished},
        )

    def _on_finished(self) -> None:
        self._counting = False
        if self._again:
            self._count()

    def _show(self, counts: Counts) -> None:
        if self._again:
            return  # another count follows at once
        self.table.setText(_html(counts.classes))
        self.plan.setText(counts.plan)
        self.plan.setVisible(bool(counts.plan))
        self.warning.say("\n".join([*counts.problems, *([counts.warning] if counts.warning else [])]))


def _html(classes: Sequence[ClassCount]) -> str:
    """Return the table as one text: a grid of labels takes Qt ten times as long to show."""
    cells = "".join(f'<td align="right" style="padding-left: 12px">{title}</td>' for title in _HEADINGS)
    rows = [f"<tr><td width=18></td><td>Labelled</td>{cells}</tr>"]
    for entry in classes:
        red, green, blue = entry.color
        numbers = "".join(f'<td align="right">{number}</td>' for number in (entry.tiles, entry.slides, entry.patients))
        swatch = f'<td style="color: #{red:02x}{green:02x}{blue:02x}">■</td>'
        rows.append(f"<tr>{swatch}<td>{escape(breakable(entry.name))}</td>{numbers}</tr>")
    return f"<table width=100%>{''.join(rows)}</table>"
