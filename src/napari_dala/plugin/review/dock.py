"""The dock "Review tiles": tiles in lists as small pictures, labelled with the keyboard."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import QSignalDebouncer, QSignalThrottler, create_worker

from napari_dala.annotations.document import class_of_digit, digits_of
from napari_dala.plugin.annotate.drawing import drawing_of
from napari_dala.plugin.parts.dock import Dock
from napari_dala.plugin.parts.keys import bind_digits, bind_key
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.parts.scrolling import scrolling_layout
from napari_dala.plugin.review.list_choice import ListChoice
from napari_dala.plugin.review.tile_grid import USUAL_SIDE, TileGridView, TileModel
from napari_dala.plugin.review.tile_labels import TileLabels
from napari_dala.plugin.review.tile_pictures import TilePictures
from napari_dala.plugin.viewer.plain_text import PlainLabel, TwoLines
from napari_dala.plugin.viewer.tile_mark import TileMark
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import open_store
from napari_dala.results.report.tile_sheet import AskedTile, save_sheets
from napari_dala.results.tile_lists import ListKind, Opinion, list_tiles, opinion_elsewhere
from napari_dala.words import counted

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.results.by_model import ModelResults
    from napari_dala.results.tile_lists import TileList

    Found = tuple[int, TileList, NDArray[np.intp], Opinion, Opinion | None]

MOST_ON_SHEETS, FIRST_ON_SHEETS, MOST_AT_ONCE = 300, 60, 500  # tiles
_LATER_MS = 500  # between lists of results that grow
_RESTS_MS = 150  # after which a grid that is made wider or narrower rests
_SMALLEST, _LARGEST, _STEP = 64, 256, 16  # px of a picture
_FILTER = "PDF (*.pdf);;PNG (*.png)"
_NOTHING = "Nothing to review yet: analyse the slide first (Analyze slide)."
_NO_OTHER = "No other model has looked at this slide yet: choose one in Analyze slide and press Run."
_EMPTY = "No tile is in this list."
_CHOOSE = "Choose a tile first: click it. Shift and a click choose all up to there."
_TOO_MANY = f"At most {MOST_AT_ONCE} tiles can be labelled at once: choose fewer, or draw a region around them."
_NOT_JUDGED = "not judged by the model, so there is nothing to agree with: press a digit key."
_DRAWN = "This label comes from a region that was drawn: change it in Annotate & learn."


class ReviewWidget(Dock):
    """Shows tiles of the current slide's results in lists, and labels them.

    Parameters
    ----------
    viewer
        Where the slide is.
    """

    title = "Review tiles"

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.drawing = drawing_of(self._session)
        self.labels = TileLabels(self.drawing)
        self._results: ResultLayers | None = None
        self._listed: TileList | None = None
        self._asked = self._made = 0  # numbers of the lists asked for last, and shown
        self._called: NDArray[np.integer] | None = None  # of the tiles in the list
        self._map: object = None  # what the pictures show of it
        self.nothing, self.told, self.problem = Note("offer"), TwoLines(), Note("error")
        self.above, self.below = QWidget(), QWidget()
        self.choice = ListChoice()
        self.cam_check = QCheckBox("With DT Grad-CAM")
        self.size_slider = QSlider(Qt.Orientation.Horizontal)
        self.pictures = TilePictures(self)  # gone with the dock, so that nothing that is read comes afterwards
        self.model = TileModel(self.pictures)
        self.grid = TileGridView(self.model)
        self.pictures.is_in_sight = self.grid.shows
        self.count, self.keys = PlainLabel(), QLabel()
        self.agree_button, self.take_back_button = QPushButton("Agree (Enter)"), QPushButton("Take back (Backspace)")
        self.update_button, self.save_button = QPushButton("Update list"), QPushButton("Save sheet…")
        self.named_check = QCheckBox("with the slide's name")
        self._mark = TileMark(self._session, "Reviewed tile", "cyan")
        self._arrange()
        self._connect()
        self._begin(self._session.results)

    def _arrange(self) -> None:
        self.size_slider.setRange(_SMALLEST // _STEP, _LARGEST // _STEP)
        self.size_slider.setValue(USUAL_SIDE // _STEP)
        self.size_slider.setToolTip("Size of the pictures")
        self.keys.setWordWrap(True)
        self.keys.setTextFormat(Qt.TextFormat.RichText)
        self.cam_check.setToolTip("The tissue that the model looked at, as the dock Explain shows it")
        self.agree_button.setToolTip("Label the chosen tiles as the model calls them")
        self.take_back_button.setToolTip("Remove the labels that the chosen tiles were given here")
        self.update_button.setToolTip("Results or labels have changed: sort the tiles anew")
        self.save_button.setToolTip("Save the chosen tiles, or the first of the list, as PDF or PNG for a report")
        self.grid.setMinimumHeight(260)
        look, counts, steps, files = (QHBoxLayout() for _ in range(4))
        for line, parts in (
            (look, (self.cam_check, QLabel("Size"), self.size_slider)),
            (counts, (self.count, self.update_button)),
            (steps, (self.agree_button, self.take_back_button)),
            (files, (self.save_button, self.named_check)),
        ):
            for part in parts:
                line.addWidget(part, part in (self.count, self.size_slider))
        for place, contents in ((self.above, (self.choice, look)), (self.below, (counts, self.keys, steps, files))):
            rows = QVBoxLayout(place)
            rows.setContentsMargins(0, 0, 0, 0)
            for content in contents:
                rows.addWidget(content) if isinstance(content, QWidget) else rows.addLayout(content)
        layout = scrolling_layout(self)
        for widget in (self.nothing, self.above, self.grid, self.below, self.told, self.problem):
            layout.addWidget(widget, widget is self.grid)
        layout.addStretch()

    def _connect(self) -> None:
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(_LATER_MS)
        self._later.triggered.connect(self._follow)
        self._rest = QSignalDebouncer(parent=self)
        self._rest.setTimeout(_RESTS_MS)
        self._rest.triggered.connect(self._look)
        self.choice.chosen.connect(self._on_list)
        self.cam_check.toggled.connect(self._look)
        self.size_slider.valueChanged.connect(lambda steps: self.grid.set_side(steps * _STEP))
        self.grid.side_changed.connect(self._rest.throttle)
        self.update_button.clicked.connect(self.make_list)
        self.agree_button.clicked.connect(self.agree)
        self.take_back_button.clicked.connect(self.take_back)
        self.save_button.clicked.connect(self._choose_file)
        self.grid.doubleClicked.connect(self._fly_to)
        self.grid.selectionModel().selectionChanged.connect(self._show_count)  # type: ignore[union-attr]
        self.labels.changed.connect(self._on_labels)
        bind_digits(self, self.label_digit)
        for key, call in (
            ("return", self.agree),
            ("enter", self.agree),
            ("backspace", self.take_back),
            ("ctrl-z", self.drawing.undo),
            ("ctrl-shift-z", self.drawing.redo),
        ):
            bind_key(self, key, call)
        self._session.results_changed.connect(self.refresh)
        self._session.slides_changed.connect(self.refresh)
        for failed in (self.labels.failed, self.drawing.failed):
            failed.connect(self.problem.say)

    @property
    def chosen(self) -> list[tuple[int, int]]:
        """Row and column of the tiles that are chosen, in the order of the list."""
        return [self.model.tile(number) for number in self.grid.chosen]

    def refresh(self) -> None:
        """Follow the current slide's results."""
        results = self._session.results
        if results is not self._results:
            self._begin(results)
        elif results is not None:
            if self.cam_check.isChecked() and results.thresholded is not self._map:
                self._look()
            self._later.throttle()

    def _begin(self, results: ResultLayers | None) -> None:
        """Show other results, or that there are none."""
        self._results = results
        self._mark.hide()
        self.problem.say("")
        self.nothing.say(_NOTHING if results is None else "")
        for part in (self.above, self.grid, self.told, self.below):
            part.setVisible(results is not None)
        self.model.show(np.empty((0, 2), np.intp))
        self.labels.follow(None if results is None else results.analysis)
        if results is not None:
            self._look()
            self.choice.offer(results.analysis)

    def make_list(self) -> None:
        """Sort the tiles anew, in a thread."""
        results = self._results
        if results is None or self.choice.wanted is None:
            return
        self._asked += 1
        card, probability = results.analysis.card, results.analysis.probability
        self._called = np.asarray(results.classes.data).astype(np.intp)
        create_worker(
            _make_list,
            self._asked,
            self.choice.wanted,
            results.analysis,
            Opinion(card.name, card.class_names, probability, self._called),
            None if self.labels.of_tiles is None else self.labels.of_tiles.copy(),
            self.choice.other,
            _connect={"returned": self._on_made, "errored": self._on_failed},
        )

    def label_digit(self, digit: int) -> None:
        """Label the chosen tiles with the class that a digit key stands for."""
        document = self.drawing.document
        info = class_of_digit(document.classes, digit) if document else None
        if info is not None and (tiles := self._to_label()):
            self.labels.give(tiles, info)
            self._go_on()

    def agree(self) -> None:
        """Label the chosen tiles as the model calls them."""
        if self._called is not None and (tiles := self._to_label()):
            unjudged = self.labels.agree(tiles, self._called)
            if unjudged:
                self.told.setText(f"{counted(len(unjudged), 'tile')} {_NOT_JUDGED}")
            if len(unjudged) < len(tiles):
                self._go_on()

    def take_back(self) -> None:
        """Remove the labels that the chosen tiles were given here."""
        tiles = self._to_label()
        if tiles and not self.labels.take_back(tiles) and self.labels.is_labelled(tiles):
            self.told.setText(_DRAWN)

    def save_to(self, path: Path) -> None:
        """Save the chosen tiles, if there are two or more, else the first of the list, in a thread."""
        results, slide = self._results, self._session.open_slide()
        if results is None or slide is None:
            return
        numbers = self.grid.chosen[:MOST_ON_SHEETS]
        if len(numbers) < 2:
            numbers = list(range(len(self.model.tiles)))[:FIRST_ON_SHEETS]
        cam_of = self._cam_of if self.cam_check.isChecked() else None
        asked = []
        for number in numbers:
            tile, label = self.model.tile(number), self.model.label(number)
            asked.append(AskedTile(tile, self.model.verdict(number), label, cam_of(tile) if cam_of else None))
        card, analysis = results.analysis.card, results.analysis
        about = [
            *([slide.name] if self.named_check.isChecked() else []),
            f"model {card.name}",
            f"threshold {results.threshold:.2f}" + (f" ± {analysis.doubt:.2f}" if analysis.doubt else ""),
            f"{len(asked)} of {counted(len(self.model.tiles), 'tile')}",
            f"a tile is {card.tile_px * card.mpp / 1000:.2g} mm wide",
            *(["blue: what the model looked at"] if cam_of else []),
            *(["across the foot: labels given by hand"] if any(one.label for one in asked) else []),
        ]
        title, grid = self.choice.list_box.currentText(), analysis.grid
        self.told.setText("")
        create_worker(
            save_sheets, path, slide, grid, asked, title, " · ".join(about), analysis.warnings,
            _connect={"returned": self._on_saved, "errored": self._on_failed},
        )  # fmt: skip

    def _on_list(self) -> None:
        self.told.setText(_NO_OTHER if self.choice.compares and self.choice.other is None else "")
        self.make_list()

    def _on_made(self, found: Found) -> None:
        number, wanted, tiles, opinion, other = found
        results, bar = self._results, self.grid.verticalScrollBar()
        if number != self._asked or results is None:
            return
        before = bar.value() if bar is not None and wanted == self._listed else 0
        self._listed, self._made = wanted, number
        about = wanted.class_index if wanted.kind is ListKind.STRONGEST else None
        self.model.show(tiles, results.analysis, opinion, class_index=about, other=other)
        if bar is not None:
            bar.setValue(before)
        if other is not None:
            self.told.setText(f"Below each tile first {opinion.model}, then {other.model}.")
        self.update_button.setEnabled(False)
        self._show_count()

    def _follow(self) -> None:
        """List anew what has changed; not while tiles are chosen, for it would move them away."""
        results, called = self._results, self._called
        if results is None or called is None or np.array_equal(np.asarray(results.classes.data), called):
            return
        self._offer_update()

    def _offer_update(self) -> None:
        if self.grid.chosen:
            self.update_button.setEnabled(True)
        else:
            self.make_list()

    def _on_labels(self) -> None:
        self.model.set_labels(self.labels.of_tiles, [(item.name, item.color) for item in self.labels.classes])
        document = self.drawing.document
        classes = document.classes if document else ()
        keyed = [(info, digits[-1]) for info in classes if (digits := digits_of(classes, info))]
        self.keys.setText(
            " &nbsp; ".join(
                f"<span style='color: rgb{info.color}'>■</span>&nbsp;<b>{digit}</b>&nbsp;{escape(info.name)}"
                for info, digit in keyed
            )
        )
        wanted = self.choice.wanted
        if wanted is not None and wanted.kind is ListKind.CONTRADICTED:
            self._offer_update()

    def _on_saved(self, path: Path) -> None:
        self.told.setText(f"Saved as {path.name}.")

    def _on_failed(self, error: Exception) -> None:
        self.problem.say(str(error))

    def _look(self) -> None:
        """Take pictures of the current slide, with its map or without."""
        results, slide = self._results, self._session.open_slide()
        if results is None:
            return
        self._map = results.thresholded
        side = round(self.grid.side * self.grid.devicePixelRatioF())
        cam_of = self._cam_of if self.cam_check.isChecked() else None
        self.pictures.look_at(slide, results.analysis.grid, side, cam_of)
        self.problem.say(self._session.problem or "" if slide is None else "")
        self.grid.viewport().update()  # type: ignore[union-attr]

    def _cam_of(self, tile: tuple[int, int]) -> tuple[NDArray[np.float32], bool]:
        assert self._results is not None
        return self._results.tile_cam(*tile).copy(), self._results.explanation.thresholded

    def _show_count(self) -> None:
        count, chosen = len(self.model.tiles), len(self.grid.chosen)
        self.count.setText(f"{counted(count, 'tile')}{f', {chosen} chosen' if chosen else ''}" if count else _EMPTY)
        for button in (self.agree_button, self.take_back_button):
            button.setEnabled(bool(chosen))
        self.save_button.setEnabled(bool(count))

    def _to_label(self) -> list[tuple[int, int]]:
        """Return the chosen tiles, if they can be labelled; else say why not."""
        tiles = self.chosen
        reason = self.drawing.problem or ("" if tiles else _CHOOSE)
        if len(tiles) > MOST_AT_ONCE:
            reason = _TOO_MANY
        self.told.setText(reason)
        return [] if reason else tiles

    def _go_on(self) -> None:
        """Choose the tile after those that were labelled."""
        after = self.grid.chosen[-1] + 1
        if after < len(self.model.tiles):
            self.grid.setCurrentIndex(self.model.index(after))

    def _fly_to(self) -> None:
        results = self._results
        if results is not None and self.grid.currentIndex().isValid():
            grid = results.analysis.grid
            middle = grid.middle(*self.model.tile(self.grid.currentIndex().row()))
            self._session.go_to(*middle, grid.tile_size)
            self._mark.show(results.slide_layer, middle, grid.tile_size)

    def _choose_file(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Save sheet", "tiles.pdf", _FILTER)
        if name:
            self.save_to(Path(name))


def _make_list(
    number: int,
    wanted: TileList,
    analysis: Analysis,
    opinion: Opinion,
    labels: NDArray[np.intp] | None,
    results: ModelResults | None,
) -> Found:
    """Return the tiles of a list, read from another model's results too where these are given."""
    other = None
    if results is not None:
        store = open_store(analysis.store.path, results.bundle_hash, results.setting)
        found = Analysis(store)
        found.card = results.card  # under the model's name of today
        other = opinion_elsewhere(analysis.grid, analysis.card, found, found.class_map())
    tiles = list_tiles(
        wanted.kind, analysis, opinion.called, class_index=wanted.class_index, labels=labels, other=other
    )
    return number, wanted, tiles, opinion, other
