"""*How good is it?*: what a new model makes of the held-out tiles, to be looked at tile by tile."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QUrl, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_dala.errors import DalaError
from napari_dala.metrics.operating import at_sensitivity
from napari_dala.plugin.learn.check_plots import UnitPlot, precision_of, reliability_of, roc_of
from napari_dala.plugin.parts.cells import drop_cells
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.viewer.plain_text import PlainLabel, plain_tip
from napari_dala.results.model_check import PAGE_FILE, ModelCheck

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_dala.plugin.viewer.session import Session

_LINES = 6  # of the list
_NAMED_COLUMNS = 3  # of the matrix, at most; more have numbers


class CheckPanel(QWidget):
    """Confusion matrix, curves, choice of the threshold and the hardest tiles of a model that was learned.

    Parameters
    ----------
    session
        Of the viewer: tiles of its current slide can be gone to.
    """

    threshold_chosen = Signal(float)
    """The user wants this operating threshold."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._folder: Path | None = None
        self._shown: list[int] = []
        self.check: ModelCheck | None = None
        self.threshold = 0.5
        self.few, self.elsewhere = Note("warning"), Note("offer")
        self.matrix = QGridLayout()
        self.matrix.setHorizontalSpacing(3)
        self.cells: dict[tuple[int, int], QPushButton] = {}
        self.list_title, self.tiles = PlainLabel(), QListWidget()
        self.hardest_button, self.page_button = QPushButton("Hardest tiles"), QPushButton("Whole page…")
        self.curve_box, self.plot = QComboBox(), UnitPlot()
        self.sensitivity = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.chosen = PlainLabel()
        self.use_button = QPushButton("Use this threshold")
        self._arrange()
        self.tiles.currentRowChanged.connect(self._go)
        self.tiles.itemClicked.connect(lambda item: self._go(self.tiles.row(item)))
        self.hardest_button.clicked.connect(self.list_hardest)
        self.page_button.clicked.connect(self.open_page)
        self.curve_box.currentIndexChanged.connect(self._draw)
        self.sensitivity.valueChanged.connect(self._on_wished)
        self.use_button.clicked.connect(self._use)
        self.show_check(None)

    def _arrange(self) -> None:
        self.list_title.setWordWrap(True)
        self.chosen.setWordWrap(True)
        self.sensitivity.setRange(0.5, 1.0)
        self.sensitivity.setDecimals(2)
        self.sensitivity.setToolTip("The part of the target class' tiles that the model shall find")
        self.tiles.setFixedHeight(_LINES * (self.fontMetrics().height() + 6))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        buttons = QHBoxLayout()
        buttons.addWidget(self.hardest_button)
        buttons.addWidget(self.page_button)
        wished = QHBoxLayout()
        wished.addWidget(QLabel("Wished sensitivity"))
        wished.addWidget(self.sensitivity)
        layout.addWidget(QLabel("<b>How good is it?</b>"))
        layout.addWidget(self.few)
        layout.addLayout(self.matrix)
        layout.addLayout(buttons)
        for widget in (self.list_title, self.tiles, self.elsewhere, self.curve_box, self.plot):
            layout.addWidget(widget)
        layout.addLayout(wished)
        layout.addWidget(self.chosen)
        layout.addWidget(self.use_button)

    def show_folder(self, folder: Path) -> None:
        """Show the check in the result folder of a job; nothing where there is none."""
        self._folder = folder
        try:
            self.show_check(ModelCheck.open(folder))
        except (DalaError, OSError):
            self.show_check(None)

    def show_check(self, check: ModelCheck | None) -> None:
        """Show a check, or hide."""
        self.check = check
        self.setVisible(check is not None)
        if check is None:
            return
        self.threshold = check.threshold
        self.use_button.setEnabled(True)
        self.few.say(check.too_few)
        self.page_button.setVisible(self._folder is not None and (self._folder / PAGE_FILE).is_file())
        self._tabulate(check)
        with signals_blocked(self.curve_box):
            self.curve_box.clear()
            names = ("ROC", "Precision and recall", "Reliability") if check.has_curves else ("Reliability",)
            self.curve_box.addItems(names)
        for widget in (self.sensitivity, self.chosen, self.use_button):
            widget.setVisible(check.has_curves)
        if check.has_curves:
            with signals_blocked(self.sensitivity):
                self.sensitivity.setValue(max(0.5, check.point().sensitivity))
        self._tell()
        self.list_hardest()

    # What is called what

    def _tabulate(self, check: ModelCheck) -> None:
        drop_cells(self.matrix)
        self.cells.clear()
        few = len(check.classes) <= _NAMED_COLUMNS
        for number, name in enumerate(check.classes, 1):
            column = PlainLabel(f"called {name}" if few else f"{number}")
            column.setAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignBottom)
            line = PlainLabel(f"is {name}" if few else f"is {number}: {name}")
            for label in (column, line):
                label.setWordWrap(True)
            self.matrix.addWidget(column, 0, number)
            self.matrix.addWidget(line, number, 0)
        for truth, row in enumerate(check.confusion(self.threshold)):
            for called, found in enumerate(row):
                button = QPushButton(str(len(found)))
                button.setEnabled(bool(found))
                button.setMinimumWidth(1)  # many classes have narrow columns
                title = f"{check.classes[truth]}, called {check.classes[called]}"
                button.setToolTip(plain_tip(f"List the tiles: {title}"))
                if found and truth != called:
                    button.setStyleSheet("font-weight: bold;")
                button.clicked.connect(partial(self._list, found, title))
                self.matrix.addWidget(button, truth + 1, called + 1)
                self.cells[truth, called] = button

    def list_hardest(self) -> None:
        """List the tiles whose own class the model gives the least probability."""
        if self.check is not None:
            self._list(self.check.hardest(), "hardest first: is the label right?")

    def _list(self, indices: Sequence[int], title: str, *_: object) -> None:
        assert self.check is not None
        self._shown = list(indices)
        self.list_title.setText(f"{len(indices)} held-out {self.check.of}, {title}")
        self.elsewhere.say("")
        with signals_blocked(self.tiles):
            self.tiles.clear()
            for index in indices:
                sample = self.check.samples[index]
                own = sample.probability[sample.label]
                self.tiles.addItem(
                    f"{self.check.classes[sample.label]}, given {own:.0%}   at {sample.x:.0f}, {sample.y:.0f} px"
                )

    def _go(self, row: int) -> None:
        """Show a tile where it lies, if its slide is the current one."""
        slide, results = self._session.open_slide(), self._session.results
        if self.check is None or not 0 <= row < len(self._shown):
            return
        sample = self.check.samples[self._shown[row]]
        if slide is None or slide.fingerprint != sample.slide or results is None:
            self.elsewhere.say(f"This tile lies on another slide ({sample.slide[:8]}): open it to see the tile.")
            return
        self.elsewhere.say("")
        self._session.go_to(sample.x, sample.y, results.analysis.grid.tile_size)

    def open_page(self) -> None:
        """Open the whole page in the browser."""
        if self._folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder / PAGE_FILE)))

    # Curves and threshold

    def _on_wished(self, wished: float) -> None:
        if self.check is not None and self.check.has_curves:
            self.threshold = at_sensitivity(self.check.points(), wished).threshold
            self.use_button.setEnabled(True)
            self._tabulate(self.check)
            self._tell()

    def _tell(self) -> None:
        if self.check is None:
            return
        if self.check.has_curves:
            at = self.check.point(self.threshold)
            target = self.check.classes[self.check.target]
            self.chosen.setText(
                f"At threshold {at.threshold:.2f} the model finds {at.sensitivity:.0%} of these {target} tiles and "
                f"clears {at.specificity:.0%} of the others."
            )
        self._draw()

    def _draw(self) -> None:
        if self.check is None:
            return
        name = self.curve_box.currentText()
        if name == "Reliability":
            self.plot.draw(reliability_of(self.check))
        else:
            self.plot.draw((roc_of if name == "ROC" else precision_of)(self.check, self.threshold))

    def _use(self) -> None:
        self.threshold_chosen.emit(self.threshold)
        self.use_button.setEnabled(False)
        self.chosen.setText(f"{self.chosen.text()} The map follows; Accept keeps it.")
