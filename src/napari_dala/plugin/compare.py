"""The dock "Compare": two results of one slide, behind a curtain, in figures, and from one difference to the next."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QGridLayout, QHBoxLayout, QLabel, QPushButton, QWidget
from superqt import QLabeledSlider
from superqt.utils import QSignalThrottler, create_worker

from napari_dala.annotations.against_regions import against_regions
from napari_dala.model.catalog import list_models
from napari_dala.plugin.analyze.run import analyses_folder
from napari_dala.plugin.annotate.drawing import drawing_of
from napari_dala.plugin.parts.dock import Dock
from napari_dala.plugin.parts.legend import swatch
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.parts.scrolling import scrolling_layout
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.asked import COMPARE_KEY
from napari_dala.plugin.viewer.comparison_layers import FIRST_ONLY, SECOND_ONLY, ComparisonLayers
from napari_dala.plugin.viewer.plain_text import PlainLabel
from napari_dala.plugin.viewer.tile_mark import TileMark
from napari_dala.results.by_model import results_in
from napari_dala.results.comparison import ResultPair, compare
from napari_dala.results.loaded import load
from napari_dala.results.opening import STORE_FILE
from napari_dala.words import counted, percent

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.metrics.scores import ScoreTable
    from napari_dala.results.analysis import Spot
    from napari_dala.results.by_model import ModelResults
    from napari_dala.results.loaded import LoadedAnalysis
    from napari_dala.slide import Slide

_NOTHING = "Two results of one slide are needed: analyse it with two models."
_MIDDLE, _LATER_MS = 50, 500

Found = tuple["LoadedAnalysis", "LoadedAnalysis", ResultPair, list["ScoreTable | None"]]


class CompareWidget(Dock):
    """Chooses two results of the slide in hand and shows how they differ.

    Parameters
    ----------
    viewer
        Where the slide is.
    """

    title = "Compare"

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._drawing = drawing_of(self._session)
        self._choices: list[ModelResults] = []
        self._shown: ComparisonLayers | None = None
        self._spots: list[Spot] = []
        self._at, self._is_busy = -1, False
        self._layer: Image | None = None
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(_LATER_MS)
        self._later.triggered.connect(self._look)
        self.nothing, self.error = Note("offer"), Note("error")
        self.first, self.second = QComboBox(), QComboBox()
        self.compare_button, self.close_button = QPushButton("Compare"), QPushButton("Close")
        self.next_button = QPushButton(f"Next disagreement ({COMPARE_KEY.upper()})")
        self.curtain = QLabeledSlider(Qt.Orientation.Horizontal)
        self.curtain.setRange(0, 100)
        self.curtain.setValue(_MIDDLE)
        self.curtain.setToolTip("Left of it the first result is shown, right of it the second")
        self.agreement, self.against = PlainLabel(), PlainLabel()
        self.only = PlainLabel(), PlainLabel()
        self.found = QWidget()
        self._mark = TileMark(self._session, "Disagreement", "cyan")
        self._arrange()
        self.compare_button.clicked.connect(self.compare)
        self.close_button.clicked.connect(self.close_comparison)
        self.next_button.clicked.connect(self.next)
        self.curtain.valueChanged.connect(self._hang)
        self._session.difference_asked.connect(self.next)
        self._session.slides_changed.connect(self.refresh)
        self._session.results_changed.connect(self.refresh)
        self.refresh()

    def _arrange(self) -> None:
        for box in (self.first, self.second):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        for text in (self.agreement, self.against):
            text.setWordWrap(True)
        form, buttons = QFormLayout(), QHBoxLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("First", self.first)
        form.addRow("Second", self.second)
        buttons.addWidget(self.compare_button, 1)
        buttons.addWidget(self.close_button)
        legend = QGridLayout()
        for row, (color, words) in enumerate(zip((FIRST_ONLY, SECOND_ONLY), self.only, strict=True)):
            red, green, blue, _ = (round(255 * value) for value in color)
            mark = QLabel()
            mark.setPixmap(swatch((red, green, blue)))
            legend.addWidget(mark, row, 0)
            legend.addWidget(words, row, 1)
        legend.setColumnStretch(1, 1)
        found = QFormLayout(self.found)
        found.setContentsMargins(0, 0, 0, 0)
        found.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        found.addRow("Curtain", self.curtain)
        found.addRow(self.agreement)
        found.addRow(legend)
        found.addRow(self.next_button)
        found.addRow(self.against)
        layout = scrolling_layout(self)
        layout.addWidget(self.nothing)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addWidget(self.error)
        layout.addWidget(self.found)
        layout.addStretch()

    def refresh(self) -> None:
        """List the results of the slide in hand; a comparison ends with the result that it is about."""
        if self._shown is not None and (self._session.results is not self._shown.first or not self._shown.is_whole):
            self.close_comparison()
        if self._session.layer is not self._layer:
            self._layer = self._session.layer
            self._offer([])
        self._later.throttle()
        self._show_state()

    def _look(self) -> None:
        """Find the results of the slide in hand, in a thread."""
        then = partial(self._on_found, self._layer)
        create_worker(_results_of, self._session.open_slide(), _connect={"returned": then, "errored": self._on_error})

    def _on_found(self, layer: Image | None, choices: list[ModelResults]) -> None:
        if layer is self._layer and choices != self._choices:
            self._offer(choices)
            self._show_state()

    def _offer(self, choices: list[ModelResults]) -> None:
        """Let the boxes have other results to choose from; those that are chosen stay."""
        chosen = self._chosen
        if len(chosen) < 2 or any(one not in choices for one in chosen):
            chosen = choices[:2]
        self._choices = choices
        for number, box in enumerate((self.first, self.second)):
            box.clear()
            box.addItems([_named(one, choices) for one in choices])
            box.setCurrentIndex(choices.index(chosen[number]) if number < len(chosen) else len(choices) - 1)

    @property
    def _chosen(self) -> list[ModelResults]:
        """The first and the second; fewer where there are not two."""
        found = [box.currentIndex() for box in (self.first, self.second)]
        return [self._choices[at] for at in found if 0 <= at < len(self._choices)]

    def _show_state(self) -> None:
        self.nothing.say(_NOTHING if len(self._choices) < 2 else "")
        self.compare_button.setEnabled(len(self._choices) > 1 and not self._is_busy)
        self.close_button.setEnabled(self._shown is not None)
        self.found.setVisible(self._shown is not None)

    def compare(self) -> None:
        """Read both results and compare them, in a thread."""
        layer, slide = self._session.layer, self._session.open_slide()
        chosen = self._chosen
        self.error.say("")
        if layer is None or slide is None or len(chosen) < 2:
            return
        if chosen[0] == chosen[1]:
            self.error.say("Choose two different results.")
            return
        self._is_busy = True
        self._show_state()
        create_worker(
            _read,
            slide,
            chosen,
            self._drawing.document,
            _connect={
                "returned": partial(self._show, layer),
                "errored": self._on_error,
                "finished": self._on_finished,
            },
        )

    def close_comparison(self) -> None:
        """Show one result again."""
        shown, self._shown = self._shown, None
        self._mark.hide()
        if shown is not None:
            shown.remove()
            self.refresh()

    def next(self) -> None:
        """Go to the next tile on which the two differ."""
        if self._shown is None or not self._spots:
            return
        self._at = (self._at + 1) % len(self._spots)
        spot, grid = self._spots[self._at], self._shown.first.analysis.grid
        self._session.go_to(spot.x, spot.y, grid.tile_size)
        self._mark.show(self._shown.first.slide_layer, (spot.x, spot.y), grid.tile_size)

    def _show(self, layer: Image, found: Found) -> None:
        first, second, comparison, figures = found
        if layer not in self._session.slide_layers:
            return
        self.close_comparison()
        results = self._session.show(layer, first)
        self._shown = ComparisonLayers(self._session, results, second.analysis, comparison)
        self._spots, self._at = comparison.disagreements(), -1
        self._hang()
        self.agreement.setText(_said(comparison, first.analysis.mpp))
        self.against.setText(_figures_said(figures))
        for words, which in zip(self.only, ("first", "second"), strict=True):
            words.setText(f"{comparison.target}: the {which} alone")
        self.next_button.setEnabled(bool(self._spots))
        self.refresh()

    def _hang(self) -> None:
        if self._shown is not None:
            self._shown.hang(self.curtain.value() / 100)

    def _on_error(self, error: Exception) -> None:
        self.error.say(str(error))

    def _on_finished(self) -> None:
        self._is_busy = False
        self._show_state()


def _results_of(slide: Slide | None) -> list[ModelResults]:
    """Return what models have found on a slide, under their names of today."""
    if slide is None or slide.mpp is None:
        return []
    models = list_models(load_preferences().workspace)
    return list(results_in(analyses_folder(slide) / STORE_FILE, slide.profile_id, models))


def _read(slide: Slide, chosen: list[ModelResults], document: AnnotationDocument | None) -> Found:
    """Read two results and compare them, and each with what is drawn."""
    folder = analyses_folder(slide)
    first, second = (load(folder, one.bundle_hash, one.setting, name=one.card.name) for one in chosen)
    figures = [None if document is None else against_regions(document, one.analysis) for one in (first, second)]
    return first, second, compare(first.analysis, second.analysis), figures


def _named(one: ModelResults, others: list[ModelResults]) -> str:
    """Return a model's name, and the resolution where it has run at several."""
    again = sum(other.card.name == one.card.name for other in others) > 1
    return one.card.name + (f" ({one.mpp[0]:.4g} µm per pixel, {one.setting[:4]})" if again else "")


def _said(found: ResultPair, mpp: tuple[float, float]) -> str:
    differing = float(found.area[found.differs].sum()) * mpp[0] * mpp[1] / 1e6
    kappa = "" if math.isnan(found.kappa) else f" Cohen's kappa is {found.kappa:.2f}: 1 is full agreement, 0 is chance."
    if math.isnan(found.agreement):
        return "No tile is judged by both."
    return (
        f"The two agree on {percent(found.agreement)} of the area that both judge. They differ on {differing:.2f} mm², "
        f"{counted(int(found.differs.sum()), 'tile')}.{kappa}"
    )


def _figures_said(figures: list[ScoreTable | None]) -> str:
    if not any(figures):
        return "Draw regions of each class to see which of the two is right."
    lines = []
    for name, table in zip(("First", "Second"), figures, strict=True):
        if table is not None:
            found = [
                f"{row[index]} of {counted(sum(row), f'{label} tile')}{_interval(table, index)}"
                for index, (label, row) in enumerate(zip(table.classes, table.confusion, strict=True))
                if sum(row)
            ]
            lines.append(f"{name} finds {' and '.join(found)} in your regions.")
    return "\n".join(lines)


def _interval(table: ScoreTable, index: int) -> str:
    recall = table.scores.recall[index]
    if recall.low is None or recall.high is None:
        return ""
    return f" ({percent(recall.low).removesuffix(' %')} to {percent(recall.high)})"
