"""The dock "Analyze slide": one button from a slide to its map."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
)
from superqt.utils import create_worker, signals_blocked

from napari_dala.errors import DalaError
from napari_dala.model.card_page import card_in_short
from napari_dala.plugin.analyze.extent import SHAPE, VIEW, WHOLE, region_of
from napari_dala.plugin.analyze.offer import offer_of
from napari_dala.plugin.analyze.resolution_row import ASK_MPP, ResolutionRow, keep_resolution
from napari_dala.plugin.analyze.result_panel import ResultPanel
from napari_dala.plugin.analyze.run import (
    AnalysisRun,
    analyses_folder,
    look_for,
    progress_text,
    request_for,
    tiles_text,
)
from napari_dala.plugin.parts.dock import Dock
from napari_dala.plugin.parts.model_box import ModelBox
from napari_dala.plugin.parts.notes import RUN_STYLE, Bar, Note
from napari_dala.plugin.parts.scrolling import keep_place, same_place, scrolling_layout
from napari_dala.plugin.viewer.plain_text import PlainLabel, TwoLines
from napari_dala.plugin.warm_child import warm_child
from napari_dala.results.loaded import LoadedAnalysis, load, make_ready
from napari_dala.results.opening import STORE_FILE
from napari_dala.words import sentence

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from qtpy.QtGui import QShowEvent

    from napari_dala.model.catalog import ModelEntry
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.results.by_model import ModelResults
    from napari_dala.results.progress import Progress
    from napari_dala.results.request import AnalysisRequest

_SETTLED_MS = 1000  # after which the dock is there, and nobody will have pressed Run
_WAITING_MS = 500  # between updates of how long it takes


class AnalyzeWidget(Dock):
    """Chooses model, slide and extent, runs the analysis in the warm child and shows what it found.

    Parameters
    ----------
    viewer
        Where the slide is.
    """

    title = "Analyze slide"

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._child = warm_child()
        self._child.hold(self)
        self._run: AnalysisRun | None = None
        self._progress: Progress | None = None
        self._is_stopping = False
        self._looked_at: AnalysisRequest | None = None
        self._found: ModelResults | None = None  # on disk
        self._wanted: tuple[Image, ModelResults] | None = None  # of those, being read, and for which slide
        self.model_box, self.layer_box, self.extent_box = ModelBox(), QComboBox(), QComboBox()
        self.extent_box.addItems([WHOLE, VIEW, SHAPE])
        self.model_summary = PlainLabel()
        self.model_summary.setWordWrap(True)
        self.model_warning, self.ask_mpp, self.error = Note("warning"), Note("warning"), Note("error")
        self.resolution = ResolutionRow()
        self.mpp_box = self.resolution.box
        self.run_button, self.cancel_button = QPushButton("▶  Run analysis"), QPushButton("Cancel")
        self.run_button.setStyleSheet(RUN_STYLE)
        self.offer, self.offer_button = Note("offer"), QPushButton("Show last result")
        self.progress, self.progress_text, self.device = Bar(), TwoLines(), PlainLabel()
        self.panel = ResultPanel(self._session)
        self._arrange()
        self._connect()
        self._list_models()
        self._show_device()
        self.refresh()
        QTimer.singleShot(_SETTLED_MS, partial(create_worker, make_ready, _start_thread=True))

    def _arrange(self) -> None:
        form = QFormLayout()
        self._form = form
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", self.model_box.with_card())
        form.addRow(self.model_summary)
        form.addRow(self.model_warning)
        form.addRow("Slide", self.layer_box)
        form.addRow(self.ask_mpp)
        form.addRow("Resolution", self.resolution)
        form.addRow("Where", self.extent_box)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.cancel_button)
        self.layer_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.device.setWordWrap(True)
        keep_place(self.progress, self.progress_text, self.offer_button)
        running, offered = QVBoxLayout(), QHBoxLayout()
        running.addWidget(self.progress_text)
        running.addWidget(self.progress)
        offered.addWidget(self.offer, 1)
        offered.addWidget(self.offer_button)
        self._below_run = same_place(running, offered)
        layout = scrolling_layout(self)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addWidget(self._below_run)
        layout.addWidget(self.error)
        layout.addWidget(self.device)
        layout.addWidget(self.panel, 1)
        layout.addStretch()

    def _connect(self) -> None:
        self._waiting = QTimer(self)
        self._waiting.setInterval(_WAITING_MS)
        self._waiting.timeout.connect(self._show_waiting)
        self.model_box.currentIndexChanged.connect(self._on_model_chosen)
        self.model_box.models_changed.connect(self._session.model_installed)
        self.layer_box.activated.connect(self._choose_layer)
        self.extent_box.activated.connect(lambda: self.error.say(""))  # what it says may be of the other extent
        self.mpp_box.valueChanged.connect(self._show_state)
        self.resolution.chosen.connect(self._set_resolution)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.offer_button.clicked.connect(self._show_last)
        self._session.slides_changed.connect(self.refresh)
        self._session.results_changed.connect(self._follow_results)
        self._session.model_installed.connect(self._list_models)
        self._child.told.connect(self._show_device)

    # What is chosen

    @property
    def is_running(self) -> bool:
        """True while an analysis started here runs."""
        return self._run is not None and self._run.is_running

    @property
    def entry(self) -> ModelEntry | None:
        """The chosen model."""
        return self.model_box.entry

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: D102
        self._list_models()  # one may have been imported or trained meanwhile
        super().showEvent(event)

    def refresh(self) -> None:
        """Follow the viewer's layers and selection."""
        layers = self._session.slide_layers
        with signals_blocked(self.layer_box):
            self.layer_box.clear()
            for layer in layers:
                self.layer_box.addItem(layer.name, layer)
            if self._session.layer in layers:
                self.layer_box.setCurrentIndex(layers.index(self._session.layer))
            else:
                self.layer_box.setCurrentIndex(-1)
        slide = self._session.open_slide()
        if not self.is_running:
            self.error.say("" if slide is not None else self._session.problem or "")
        self.resolution.follow(slide)
        self._follow_results()

    def _list_models(self, choose: str = "") -> None:
        before = self.model_box.currentText()
        self.model_box.read(choose, in_use=[run.asked.model for run in self._session.runs])
        self._session.name_models(lambda results: maker.name if (maker := self._maker_of(results)) else None)
        self._show_model()
        if self.model_box.currentText() != before:
            self._show_own_results()

    def _maker_of(self, results: ResultLayers) -> ModelEntry | None:
        return self.model_box.maker_of(results.analysis.store.bundle_hash, results.analysis.card)

    def _on_model_chosen(self) -> None:
        self._show_model()
        self._show_own_results()

    def _follow_results(self) -> None:
        """Let the box say which model's results are shown."""
        results = self._session.results
        maker = None if results is None or self._is_preview else self._maker_of(results)
        if maker not in (None, self.entry):
            self.model_box.choose(maker)
            self._show_model()
        self._show_state()

    def _show_own_results(self) -> None:
        """Show what the chosen model found on the slide; another model's results give way, and stay on disk."""
        layer, results, entry = self._session.layer, self._session.results, self.entry
        if layer is None or entry is None or self._is_preview or self._runs_here:
            return
        self._wanted = None
        if results is not None:
            if self._maker_of(results) == entry:
                return
            self._session.put_away(layer)
        self._show_state()
        if self._found is not None and self._is_of_chosen:
            self._show_last()

    @property
    def _is_preview(self) -> bool:
        """True while a model that was just learned is looked at: then its panel says which is shown."""
        overlays = self._session.overlays_of(self._session.layer) if self._session.layer else None
        return overlays is not None and overlays.preview is not None

    @property
    def _runs_here(self) -> bool:
        return any(run.layer is self._session.layer for run in self._session.runs)

    @property
    def _is_of_chosen(self) -> bool:
        found, entry = self._found, self.entry
        return found is not None and entry is not None and entry.made(found.bundle_hash, found.card)

    def _look_ahead(self) -> None:
        """Have the child find the tissue of the slide in hand, so that Run need not wait for it."""
        slide, entry = self._session.open_slide(), self.entry
        if slide is None or slide.path is None or slide.mpp is None or slide.is_photograph or entry is None:
            return
        wanted = look_for(slide, slide.path, entry.path or entry.name)
        if wanted != self._looked_at:
            self._looked_at = wanted
            self._child.request("look", asked=wanted.as_json())

    def _choose_layer(self, row: int) -> None:
        self._session.choose(self.layer_box.itemData(row))

    # What to do

    def run(self) -> None:
        """Analyse the chosen extent; what was done before is not done again."""
        layer, slide, entry = self._session.layer, self._session.open_slide(), self.entry
        if layer is None or slide is None or entry is None or self.is_running:
            return
        self.error.say("")
        try:
            if self.resolution.isVisibleTo(self):
                self.resolution.settle()
                slide = self._session.open_slide() or slide
            asked = request_for(
                slide, entry.path or entry.name, region_of(self._session.viewer, layer, self.extent_box.currentText())
            )
            self._run = AnalysisRun(self._session, self._child, layer, asked, name=entry.name)
        except (DalaError, OSError) as error:
            self.error.say(str(error))
            return
        self.destroyed.connect(partial(_abandon, self._run))
        self._run.progressed.connect(self._show_progress)
        self._run.ended.connect(self._on_ended)
        self._progress, self._is_stopping = None, False
        self.progress.setRange(0, 1)  # a busy bar would have the whole window composed anew all the time
        self.progress.setValue(0)
        self._waiting.start()
        self._show_waiting()
        self._show_state()

    def cancel(self) -> None:
        """Stop after the batch in hand; Run goes on from there."""
        if self._run is not None:
            self._is_stopping = True
            self.progress_text.setText("Stopping…")
            self._run.cancel()  # which may end at once

    def _set_resolution(self, mpp: float) -> None:
        """Take what the user says of the slide in hand; results of before are marked as such."""
        layer = self._session.layer
        if layer is None or self._runs_here:
            return
        try:
            self._session.set_resolution(layer, mpp)
            slide = self._session.open_slide()
            if slide is not None:
                keep_resolution(slide)
        except DalaError as error:
            self.error.say(str(error))
        self.refresh()

    def _show_last(self) -> None:
        layer, slide, found = self._session.layer, self._session.open_slide(), self._found
        if slide is not None and found is not None and layer is not None:
            maker = self.model_box.maker_of(found.bundle_hash, found.card)
            asked = self._wanted = layer, found
            self._show_state()
            create_worker(
                load,
                analyses_folder(slide),
                found.bundle_hash,
                found.setting,
                name=maker.name if maker else None,
                _connect={"returned": partial(self._on_loaded, asked), "errored": partial(self._on_not_loaded, asked)},
            )

    def _on_loaded(self, asked: tuple[Image, ModelResults], loaded: LoadedAnalysis) -> None:
        """Show results, unless something else has been chosen or begun meanwhile."""
        if asked is self._wanted:
            self._wanted, layer = None, asked[0]
            is_free = layer in self._session.slide_layers and self._session.results_of(layer) is None
            if is_free and not any(run.layer is layer for run in self._session.runs):
                self._session.show(layer, loaded)
        self._show_state()

    def _on_not_loaded(self, asked: tuple[Image, ModelResults], error: Exception) -> None:
        if asked is self._wanted:
            self._wanted = None
            self.error.say(str(error))
        self._show_state()

    # What is shown

    def _show_model(self) -> None:
        entry = self.entry
        card = entry.card if entry else None
        self.model_summary.setText(card_in_short(card) if card else (entry.problem or "" if entry else ""))
        self.model_warning.say(sentence(card.warning or "") if card else "")
        self._show_state()

    def _show_state(self) -> None:
        """Let what can be done now be seen and pressed."""
        slide, entry = self._session.open_slide(), self.entry
        unknown = slide is not None and slide.mpp is None
        self.ask_mpp.say(ASK_MPP if unknown else "")
        self._form.setRowVisible(self.resolution, slide is not None and slide.mpp_source != "file")
        self.resolution.setEnabled(not self._runs_here)
        self.model_box.setEnabled(not self._runs_here)
        ready = slide is not None and entry is not None and entry.card is not None
        self.run_button.setEnabled(ready and not self.is_running and not (unknown and self.resolution.value is None))
        self.cancel_button.setEnabled(self.is_running)
        self.progress.setVisible(self.is_running)
        model = "" if entry is None else str(entry.path or entry.name)
        last = None if self._run is None else (self._run.layer, self._run.asked.model)
        here = self.is_running or last == (self._session.layer, model)
        tells = here and bool(self.progress_text.text())
        self.progress_text.setVisible(tells)
        self._found, results, text = None, self._session.results, ""
        if slide is not None and slide.mpp is not None and entry is not None and not self._runs_here:
            path = analyses_folder(slide) / STORE_FILE
            shown = results.analysis.mpp if results else None
            self._found, text = offer_of(entry, slide, path, shown, self.model_box.entries)
        self.offer.say(text)
        offered = self._found is not None and results is None
        self._below_run.setCurrentIndex(int(bool(text) and not (tells and results is None)))
        self.offer_button.setVisible(offered)
        self.offer_button.setEnabled(offered and (self._session.layer, self._found) != self._wanted)
        self._look_ahead()

    def _show_waiting(self) -> None:
        """Say what is being done before the first tiles, and for how long."""
        if self._run is None or not self.is_running or self._is_stopping or self._progress is not None:
            self._waiting.stop()
        else:
            self.progress_text.setText(self._of_slide(self._run.waiting))
            self.progress_text.show()

    def _of_slide(self, text: str) -> str:
        """Say of which slide a text about the run is, where that is another than the chosen one."""
        layer = None if self._run is None else self._run.layer
        return text if layer is None or layer is self._session.layer else f"{layer.name}: {text}"

    def _show_device(self) -> None:
        about = self._child.about
        where = f"{about['device']} ({about['precision']})" if about else "the model is being loaded…"
        self.device.setText(f"Runs on: {where}")

    def _show_progress(self, progress: Progress) -> None:
        self._progress = progress
        self.progress.setRange(0, max(1, progress.total))
        self.progress.setValue(progress.finished)
        if not self._is_stopping:
            self.progress_text.setText(self._of_slide(progress_text(progress)))

    def _on_ended(self, outcome: str, message: str) -> None:
        if outcome == "cancelled":
            so_far = f" after {tiles_text(self._progress)}" if self._progress else ""
            self.progress_text.setText(f"Stopped{so_far}. Run goes on from here.")
        elif outcome == "failed":
            self.progress_text.setText("")
            self.error.say(message)
        self._show_state()


def _abandon(run: AnalysisRun) -> None:
    run.abandon()
