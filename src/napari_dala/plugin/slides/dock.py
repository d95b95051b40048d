"""The dock "Slides": the workspace as a list, from dropping a folder to the exported table."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_dala.annotations.slide_export import export_slides
from napari_dala.annotations.slide_table import list_text, obstacles_text
from napari_dala.annotations.slides import annotated_slide, take_off_list
from napari_dala.errors import DalaError
from napari_dala.plugin.parts.dock import Dock
from napari_dala.plugin.parts.model_box import ModelBox
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.parts.scrolling import scrolling_layout
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.slides.asking import ask_files, ask_folder, ask_table, menu_button, menu_of
from napari_dala.plugin.slides.edits import edit_slide
from napari_dala.plugin.slides.queue import AnalysisQueue
from napari_dala.plugin.slides.queue_panel import QueuePanel
from napari_dala.plugin.slides.reading import SlideReader
from napari_dala.plugin.slides.table import SlideModel, SlideOrder, SlideTable
from napari_dala.plugin.slides.walk import Walk
from napari_dala.plugin.viewer.plain_text import PlainLabel
from napari_dala.plugin.warm_child import warm_child

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari
    from qtpy.QtCore import QModelIndex, QPoint
    from qtpy.QtGui import QDragEnterEvent, QDropEvent, QShowEvent

    from napari_dala.annotations.slide_table import SlideRow
    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.catalog import ModelEntry
    from napari_dala.plugin.viewer.result_layers import ResultLayers

_RESTED_MS = 1000  # after what is shown of a slide changed, before its row is read anew
_TABLE_HEIGHT = 240  # px, at least


class SlidesWidget(Dock):
    """Lists the slides of the workspace; opens, analyses, ticks and exports them.

    Parameters
    ----------
    viewer
        Where slides are opened.
    """

    title = "Slides"

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        child = warm_child()
        child.hold(self)
        self.reader, self.walk, self.queue = SlideReader(), Walk(self._session), AnalysisQueue(child)
        self.model = SlideModel(self._session.ticks)
        self.order = SlideOrder(self.model)
        self.table = SlideTable(self.order)
        self.add_button = menu_button(
            "Add…",
            {"Files…": self._ask_files, "A folder…": self._ask_folder, "Find missing slides…": self._ask_where},
        )
        self.export_button = menu_button(
            "Export table…",
            {"With names…": partial(self._ask_table, False), "Anonymous…": partial(self._ask_table, True)},
        )
        self.search, self.model_box = QLineEdit(), ModelBox()
        self.empty, self.told, self.error = Note("offer"), Note("offer"), Note("error")
        self.total = PlainLabel()
        self.previous_button, self.next_button = QPushButton("◀ Previous"), QPushButton("Next ▶")
        self.runs = QueuePanel(self.queue)
        self._results: ResultLayers | None = None  # of which the model was chosen last
        self._rested = QTimer(self)
        self._rested.setSingleShot(True)
        self._rested.setInterval(_RESTED_MS)
        self.setAcceptDrops(True)
        self._arrange()
        self._connect()
        self.model.show_card(self.entry.card if self.entry else None)
        self._follow_slide()
        self._show_state()

    def _arrange(self) -> None:
        self.search.setPlaceholderText("Search: name, patient, status…")
        self.search.setClearButtonEnabled(True)
        self.previous_button.setToolTip("Ctrl+Left")
        self.next_button.setToolTip("Ctrl+Right")
        self.total.setWordWrap(True)
        self.table.setMinimumHeight(_TABLE_HEIGHT)
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", self.model_box.with_card(models=False))
        layout = scrolling_layout(self)
        layout.addLayout(_row(self.add_button, self.search, wide=1))
        layout.addLayout(form)
        layout.addWidget(self.empty)
        layout.addWidget(self.table, 1)
        layout.addLayout(_row(self.total, self.export_button, wide=0))
        layout.addLayout(_row(self.previous_button, self.next_button))
        for widget in (self.runs, self.told, self.error):
            layout.addWidget(widget)

    def _connect(self) -> None:
        session = self._session
        self.search.textChanged.connect(self._search)
        self.model_box.currentIndexChanged.connect(self._on_model_chosen)
        self.model_box.activated.connect(self._show_chosen_results)
        self.model.edited.connect(self._edit)
        self.table.activated.connect(self._on_activated)
        self.table.customContextMenuRequested.connect(self._show_menu)
        self.table.selectionModel().selectionChanged.connect(self._show_state)  # type: ignore[union-attr]
        self.previous_button.clicked.connect(partial(self.step, -1))
        self.next_button.clicked.connect(partial(self.step, 1))
        self.runs.run_asked.connect(self.analyze)
        self.queue.changed.connect(self._show_states)
        self.queue.finished.connect(self._on_analysed)
        self.queue.ended.connect(self._on_ended)
        self.reader.row_read.connect(self._on_read)
        self.reader.listed.connect(self._on_listed)
        self.reader.said.connect(self._on_said)
        self.reader.failed.connect(self.error.say)
        self.walk.failed.connect(self.error.say)
        self._rested.timeout.connect(self._read_in_hand)
        session.slide_step_asked.connect(self.step)
        session.slides_changed.connect(self._follow_slide)
        session.results_changed.connect(self._follow_results)
        session.model_installed.connect(self._list_models)
        self.walk.drawing.changed.connect(self._show_drawn)
        self.destroyed.connect(partial(_abandon, self.queue, self.reader))

    # What is chosen

    @property
    def entry(self) -> ModelEntry | None:
        """The chosen model."""
        return self.model_box.entry

    @property
    def chosen(self) -> list[SlideRow]:
        """The rows that are selected, where those are several; else none."""
        places = list(self.table.selected())
        return [self.order.row_at(place) for place in places] if len(places) > 1 else []

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: D102
        self._list_models()
        self._follow_results()
        self.reader.read_all(self.entry)
        super().showEvent(event)

    def _list_models(self, choose: str = "") -> None:
        before = self.entry
        self.model_box.read(choose)
        if self.entry != before:
            self._on_model_chosen()

    def _on_model_chosen(self) -> None:
        self.model.show_card(self.entry.card if self.entry else None)
        self.reader.read_all(self.entry)

    def _show_chosen_results(self) -> None:
        """Show what the model that the user chose has found on the open slide."""
        row = self.model.row_of(self.walk.in_hand or "")
        if row is not None and self.entry is not None:
            self.walk.show_results(row.slide, self.entry)

    def _search(self, text: str) -> None:
        self.order.search(text)
        self._show_state()

    # What is read

    def _on_read(self, row: SlideRow) -> None:
        self.model.put(row)
        if row.slide.fingerprint == self.walk.in_hand:
            self._show_drawn()
        self._show_state()

    def _on_listed(self, fingerprints: set[str]) -> None:
        self.model.keep(fingerprints)
        self._show_state()

    def _on_said(self, text: str) -> None:
        self.told.say(text)
        self._show_state()

    def _read_in_hand(self) -> None:
        if any(run.layer is self._session.layer for run in self._session.runs):
            self._rested.start()  # it would be read again and again
        elif (fingerprint := self.walk.in_hand) is not None and self.isVisible():
            self.reader.read(fingerprint)

    # Slides that come

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: D102
        if event is not None and event.mimeData().hasUrls():  # type: ignore[union-attr]
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: D102
        if event is not None:
            urls = event.mimeData().urls()  # type: ignore[union-attr]
            self.add([Path(url.toLocalFile()) for url in urls if url.isLocalFile()])
            event.acceptProposedAction()

    def add(self, paths: Sequence[Path]) -> None:
        """Add files, and the slides below folders, to the list."""
        self.error.say("")
        self.reader.add(paths)

    def _ask_files(self) -> None:
        if paths := ask_files(self, "Add slides"):
            self.add(paths)

    def _ask_folder(self) -> None:
        if paths := ask_folder(self, "Add all slides of a folder"):
            self.add(paths)

    def _ask_where(self) -> None:
        if paths := ask_folder(self, "Look for missing slides in a folder"):
            self.find_missing(paths)

    def find_missing(self, paths: Sequence[Path]) -> None:
        """Look for the slides whose files are missing."""
        self.error.say("")
        self.reader.add(paths, only=[row.slide.fingerprint for row in self.model.rows if row.is_missing])

    # Slides that are opened

    def step(self, step: int) -> None:
        """Open the next slide of the list as it is shown, or the one before; those that are missing are passed over."""
        rows = [row for row in self.order.rows if not row.is_missing]
        if not rows:
            return
        names = [row.slide.fingerprint for row in rows]
        here = self.walk.in_hand
        place = names.index(here) + step if here in names else 0
        if 0 <= place < len(rows):
            self.open(rows[place])

    def open(self, row: SlideRow) -> None:
        """Open a slide in place of the one in hand."""
        self.error.say("")
        self.walk.open(row.slide, self.entry)
        self._select(row)

    def _select(self, row: SlideRow) -> None:
        place = next(
            (at for at, one in enumerate(self.order.rows) if one.slide.fingerprint == row.slide.fingerprint), None
        )
        if place is not None:
            index = self.order.index(place, 0)
            self.table.setCurrentIndex(index)
            self.table.scrollTo(index)

    def _on_activated(self, index: QModelIndex) -> None:
        if not self.model.columns[index.column()].edits:
            self.open(self.order.row_at(index.row()))

    def _follow_slide(self) -> None:
        """Let the open slide stand out; one that is new to the list, or was missing, is noted."""
        slide = self._session.open_slide()
        fingerprint = slide.fingerprint if slide else None
        self.model.take_in_hand(fingerprint)
        self._session.ticks.take_in_hand(fingerprint)
        row = self.model.row_of(fingerprint or "")
        if slide is not None and slide.path is not None and (row is None or row.is_missing):
            self.reader.note(slide)
        self._show_state()

    def _follow_results(self) -> None:
        """Choose the model whose results are shown, and read the row anew once that has come to rest."""
        results = self._session.results
        if results is not None and results is not self._results:
            self._results = results
            self.model_box.choose_card(results.analysis.card.name)
        self._show_states()
        if not self._rested.isActive():
            self._rested.start()

    def _show_drawn(self) -> None:
        """Count what is drawn on the open slide, saved or not."""
        slide, document = self._session.open_slide(), self.walk.drawing.document
        row = self.model.row_of(slide.fingerprint) if slide else None
        if slide is not None and row is not None and document is not None:
            drawn = annotated_slide(slide, document, load_preferences().workspace)
            self.model.put(replace(row, regions=drawn.regions, patient=drawn.named_patient))

    # What the user says of slides

    def _edit(self, row: SlideRow, what: str, text: str) -> None:
        self.error.say("")
        try:
            edit_slide(row, what, text, self.walk, self.reader)
        except DalaError as error:
            self.error.say(str(error))

    def _show_menu(self, at: QPoint) -> None:
        index = self.table.indexAt(at)
        if index.isValid():
            row = self.order.row_at(index.row())
            actions = {
                "Open": partial(self.open, row),
                "Analyze": partial(self.analyze, [row]),
                "Take off the list": partial(self.take_off, row),
            }
            menu = menu_of(self, actions)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(self.table.viewport().mapToGlobal(at))  # type: ignore[union-attr]

    def take_off(self, row: SlideRow) -> None:
        """List a slide no more; all that belongs to it stays, and comes back when it is opened or added."""
        self.reader.do(partial(take_off_list, row.slide), lambda _: self.reader.read_all(self.entry))

    # Analysing

    def analyze(self, rows: Sequence[SlideRow] = ()) -> None:
        """Analyse some slides one after another: those given, else those selected, else all that are not done."""
        entry = self.entry
        if entry is None or self.queue.is_running:
            return
        asked = list(rows or self.chosen or self.order.rows)
        wanted = [row.slide for row in asked if row.wants_analysis]
        self.error.say(obstacles_text(asked))
        self.told.say("" if wanted else f"“{entry.name}” has nothing left to do here.")
        if wanted:
            self.queue.begin(wanted, entry)

    def _on_analysed(self, slide: AnnotatedSlide) -> None:
        self.reader.read(slide.fingerprint)
        if self.entry is not None:
            self.walk.show_results(slide, self.entry)

    def _on_ended(self) -> None:
        self._show_state()
        if self.queue.failures:
            self.error.say("\n".join(self.queue.failures.values()))

    # The table as files

    def _ask_table(self, anonymous: bool) -> None:
        if path := ask_table(self, "Export table", "slides.csv"):
            self.export(path, anonymous)

    def export(self, path: Path, anonymous: bool = False) -> None:
        """Write the slides that are shown, and their regions, as two tables."""
        self.error.say("")
        self.walk.drawing.flush()
        if self.entry is not None:
            slides = [row.slide for row in self.order.rows]
            self.reader.do(partial(export_slides, slides, self.entry, path, anonymous=anonymous), self._on_exported)

    def _on_exported(self, paths: tuple[Path, Path]) -> None:
        self.told.say(f"Written: {paths[0].name} and {paths[1].name}.")

    # What is shown

    def _show_states(self) -> None:
        running = {
            run.layer.metadata["dala_slide"].fingerprint: "running"
            for run in self._session.runs
            if "dala_slide" in run.layer.metadata
        }
        self.model.say_states(running | self.queue.states)

    def _show_state(self, *_: object) -> None:
        """Let what can be done now be seen and pressed."""
        rows, shown = self.model.rows, self.order.rowCount()
        self.empty.say("" if rows else "Drop slides or a folder here, or press Add.")
        self.total.setText(list_text(rows, shown))
        self.runs.offer(len(self.chosen), can_run=bool(shown) and self.entry is not None)
        for button in (self.previous_button, self.next_button, self.export_button):
            button.setEnabled(bool(shown))
        self._show_states()


def _row(*widgets: QWidget, wide: int | None = None) -> QHBoxLayout:
    """Return widgets side by side, one of them as wide as can be, or all alike."""
    layout = QHBoxLayout()
    for place, widget in enumerate(widgets):
        layout.addWidget(widget, int(wide in (None, place)))
    return layout


def _abandon(queue: AnalysisQueue, reader: SlideReader) -> None:
    reader.stop()
    queue.cancel()
