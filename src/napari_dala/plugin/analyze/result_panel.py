"""What an analysis found, in the dock: areas, operating threshold and the strongest spots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QItemSelectionModel, Qt
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider
from superqt.utils import QSignalThrottler, signals_blocked

from napari_dala.plugin.analyze.region_panel import RegionPanel
from napari_dala.plugin.analyze.save_panel import SavePanel
from napari_dala.plugin.parts.cells import drop_cells
from napari_dala.plugin.parts.fold import Fold
from napari_dala.plugin.parts.legend import Legend, swatch
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.viewer.plain_text import PlainLabel
from napari_dala.plugin.viewer.tile_mark import TileMark
from napari_dala.results.tile_results import NOT_JUDGED
from napari_dala.words import counted, percent

if TYPE_CHECKING:
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.results.analysis import Analysis, Spot, Summary

_GREY = (128, 128, 128)  # swatch of what is not judged
_SPOTS_MS = 300  # between updates of the list
_MOST_DOUBT = 0.5


class ResultPanel(QWidget):
    """Summary, threshold and spots of the current slide's results; hidden while there are none.

    Parameters
    ----------
    session
        Of the viewer.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._spots: list[Spot] = []
        self.legend = Legend()
        self.threshold = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(0, 1)
        self.threshold.setDecimals(2)
        self.threshold.setToolTip("Operating threshold: from this probability on a tile counts as the class")
        self.doubt = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.doubt.setRange(0, _MOST_DOUBT)
        self.doubt.setDecimals(2)
        self.doubt.setToolTip("Tiles this close to the threshold are not judged. 0: all tiles are judged")
        self.table = QGridLayout()
        self.table.setColumnStretch(1, 1)
        self.table.setHorizontalSpacing(8)
        self.counts = PlainLabel()
        self.counts.setWordWrap(True)
        self.warning = Note("warning")
        self.spots_title = PlainLabel()
        self.spots_title.setWordWrap(True)
        self.spots = QListWidget()
        self.previous_button, self.next_button = QPushButton("◀ Previous"), QPushButton("Next ▶")
        self.keys = QLabel("H hides and shows the colours. N and Shift+N go from spot to spot.")
        self.keys.setWordWrap(True)
        self.saving, self.regions = SavePanel(session), RegionPanel(session)
        self.regions_fold = Fold("Regions", self.regions)
        self._arrange()
        self.threshold.valueChanged.connect(self._session.set_threshold)
        self.doubt.valueChanged.connect(self._set_doubt)
        self.spots.currentRowChanged.connect(self._go)
        self.spots.itemClicked.connect(lambda item: self._go(self.spots.row(item)))
        self.next_button.clicked.connect(lambda: self._step(1))
        self.previous_button.clicked.connect(lambda: self._step(-1))
        session.step_asked.connect(self._step)
        session.results_changed.connect(self.refresh)
        session.slides_changed.connect(self.refresh)
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(_SPOTS_MS)
        self._later.triggered.connect(self._list_spots)
        self._mark = TileMark(session, "Spot", "black")
        self._shown: Analysis | None = None
        self.refresh()

    def _arrange(self) -> None:
        steps = QHBoxLayout()
        steps.addWidget(self.previous_button)
        steps.addWidget(self.next_button)
        line = QGridLayout()
        for row, (name, slider) in enumerate((("Threshold", self.threshold), ("Doubt ±", self.doubt))):
            line.addWidget(QLabel(name), row, 0)
            line.addWidget(slider, row, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.warning)
        layout.addWidget(self.legend)
        layout.addLayout(line)
        layout.addLayout(self.table)
        layout.addWidget(self.counts)
        layout.addWidget(self.saving)
        layout.addWidget(self.spots_title)
        layout.addWidget(self.spots, 1)
        layout.addLayout(steps)
        layout.addWidget(self.keys)
        layout.addWidget(self.regions_fold)

    def _set_doubt(self, doubt: float) -> None:
        if self._session.results is not None:
            self._session.set_threshold(self._session.results.threshold, doubt)

    def refresh(self) -> None:
        """Show the current results."""
        results = self._session.results
        self.setVisible(results is not None)
        if results is None or results.analysis is not self._shown:
            self._mark.hide()
        if results is None:
            self._shown = None
            return
        analysis = results.analysis
        card = analysis.card
        shown = results.explanation.class_index
        with signals_blocked(self.threshold), signals_blocked(self.doubt):
            self.threshold.setValue(analysis.threshold)
            self.doubt.setValue(analysis.doubt)
        self.legend.show_layer(
            results.probability,
            f"Probability of {card.class_names[shown]}",
            (_low_end(analysis, shown), card.class_names[shown]),
            analysis.threshold if shown == card.target_class else None,
            doubt=analysis.doubt,
        )
        self._tabulate(analysis, analysis.summary())
        self.warning.say("\n".join(analysis.warnings))
        if analysis is not self._shown:
            self._shown = analysis
            self._list_spots()
        else:
            self._later.throttle()

    def _tabulate(self, analysis: Analysis, summary: Summary) -> None:
        rows = [
            (entry.name, f"{summary.area_mm2[entry.name]:.2f} mm²", f"{summary.share[entry.name]:.0%}",
             counted(summary.tiles[entry.name], "tile"))
            for entry in analysis.card.classes
        ]  # fmt: skip
        if summary.not_judged:
            left_out = counted(summary.not_judged, "tile")
            rows.append((NOT_JUDGED, f"{summary.not_judged_mm2:.2f} mm²", "", left_out))
        colors = [*(entry.color for entry in analysis.card.classes), _GREY]
        drop_cells(self.table, sum(1 + len(texts) for texts in rows))
        for row, texts in enumerate(rows):
            for column, text in enumerate(("", *texts)):
                item = self.table.itemAtPosition(row, column)
                label = item.widget() if item else None
                if not isinstance(label, QLabel):
                    label = PlainLabel()
                    label.setWordWrap(column == 1)
                    if column > 1:
                        label.setAlignment(Qt.AlignmentFlag.AlignRight)
                    self.table.addWidget(label, row, column)
                if column == 0:
                    label.setPixmap(swatch(colors[row]))
                else:
                    label.setText(text)
        parts = [f"{counted(summary.analysed, 'tissue tile')} analysed"]
        if summary.todo:
            parts.insert(0, f"So far, {percent(summary.done_share)} of the tissue")
            parts.append(f"{summary.todo} to do")
        if summary.not_judged:
            parts.append(f"{NOT_JUDGED}: {summary.why_not_judged}")
        parts.append(f"model {analysis.card.name}")
        self.counts.setText(" · ".join(parts))

    def _list_spots(self) -> None:
        results = self._session.results
        if results is None:
            return
        chosen = self._current
        self._spots = results.analysis.spots()
        name = results.analysis.card.class_names[results.analysis.card.target_class]
        self.spots_title.setText(
            f"Strongest spots ({name})" if self._spots else f"No judged tile reaches {results.threshold:.2f}"
        )
        with signals_blocked(self.spots):
            self.spots.clear()
            for number, spot in enumerate(self._spots, 1):
                x, y = ((at * side / 1000) for at, side in zip((spot.x, spot.y), results.analysis.mpp, strict=True))
                self.spots.addItem(QListWidgetItem(f"{number}.   {spot.probability:.0%}   at {x:.2f}, {y:.2f} mm"))
            for row, spot in enumerate(self._spots):
                if chosen is not None and (spot.row, spot.column) == (chosen.row, chosen.column):
                    self.spots.setCurrentRow(row, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        for button in (self.next_button, self.previous_button):
            button.setEnabled(bool(self._spots))
        if self._current is None:
            self._mark.hide()

    @property
    def _current(self) -> Spot | None:
        row = self.spots.currentRow()
        return self._spots[row] if 0 <= row < len(self._spots) else None

    def _step(self, step: int) -> None:
        """Select the next or previous spot, round and round."""
        if self._spots:
            row = self.spots.currentRow()
            self.spots.setCurrentRow((row + step if row >= 0 else min(0, step)) % len(self._spots))

    def _go(self, row: int) -> None:
        results = self._session.results
        if results is not None and 0 <= row < len(self._spots):
            middle, tile = (self._spots[row].x, self._spots[row].y), results.analysis.grid.tile_size
            self._session.go_to(*middle, tile)
            self._mark.show(results.slide_layer, middle, tile)


def _low_end(analysis: Analysis, class_index: int) -> str:
    """Return what the low end of a class' bar means: the other class where there is but one."""
    names = list(analysis.card.class_names)
    names.pop(class_index)
    return names[0] if len(names) == 1 else "other"
