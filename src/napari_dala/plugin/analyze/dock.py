"""The dock "Analyze slide": one button from a slide to its map."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari.layers import Shapes
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
)
from shapely import Polygon, box
from superqt.utils import create_worker, signals_blocked

from napari_dala.errors import DalaError
from napari_dala.plugin.analyze.result_panel import ResultPanel
from napari_dala.plugin.analyze.run import (
    AnalysisRun,
    analyses_folder,
    given_mpp,
    progress_text,
    request_for,
    tiles_text,
)
from napari_dala.plugin.parts.dock import Dock
from napari_dala.plugin.parts.model_box import ModelBox
from napari_dala.plugin.parts.notes import RUN_STYLE, Bar, Note
from napari_dala.plugin.parts.scrolling import keep_place, same_place, scrolling_layout
from napari_dala.plugin.viewer.plain_text import PlainLabel, TwoLines
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import selected_polygons, set_mpp, view_of
from napari_dala.plugin.warm_child import warm_child
from napari_dala.results.loaded import LoadedAnalysis, load, make_ready
from napari_dala.results.opening import has_results
from napari_dala.results.request import AnalysisRequest
from napari_dala.validation import MPP_LIMITS

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from qtpy.QtGui import QShowEvent

    from napari_dala.model.catalog import ModelEntry
    from napari_dala.results.progress import Progress

WHOLE, VIEW, SHAPE = "Whole slide", "Field in view", "Selected shape"
_SETTLED_MS = 1000  # after which the dock is there, and nobody will have pressed Run
_ASK_MPP = (
    "This picture does not say its resolution: enter micrometres per pixel to analyse it, "
    f"{MPP_LIMITS[0]:g} to {MPP_LIMITS[1]:g}."
)


class AnalyzeWidget(Dock):
    """Chooses model, slide and extent, runs the analysis in the warm child and shows what it found.

    Parameters
    ----------
    viewer
        Where the slide is.
    """

    title = "Analyze slide"

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._session = session_of(viewer)
        self._child = warm_child()
        self._child.hold(self)
        self._run: AnalysisRun | None = None
        self._progress: Progress | None = None
        self._is_stopping = False
        self._looked_at: AnalysisRequest | None = None
        self.model_box, self.layer_box, self.extent_box = ModelBox(), QComboBox(), QComboBox()
        self.extent_box.addItems([WHOLE, VIEW, SHAPE])
        self.model_summary = PlainLabel()
        self.model_summary.setWordWrap(True)
        self.model_warning, self.ask_mpp, self.error = Note("warning"), Note("warning"), Note("error")
        self.mpp_box = QDoubleSpinBox()
        self.mpp_box.setRange(0, MPP_LIMITS[1])
        self.mpp_box.setDecimals(4)
        self.mpp_box.setSingleStep(0.05)
        self.mpp_box.setSpecialValueText("unknown")
        self.mpp_box.setSuffix(" µm per pixel")
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
        form.addRow("Resolution", self.mpp_box)
        form.addRow("Where", self.extent_box)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.cancel_button)
        self.layer_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.device.setWordWrap(True)
        keep_place(self.progress)
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
        self.model_box.currentIndexChanged.connect(self._show_model)
        self.layer_box.activated.connect(self._choose_layer)
        self.mpp_box.valueChanged.connect(self._show_state)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.offer_button.clicked.connect(self._show_last)
        self._session.slides_changed.connect(self.refresh)
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
        if not self.is_running:
            self.error.say(
                self._session.problem if self._session.open_slide() is None and self._session.problem else ""
            )
        self._show_state()

    def _list_models(self, choose: str = "") -> None:
        self.model_box.read(choose)
        self._show_model()

    def _look_ahead(self) -> None:
        """Have the child find the tissue of the slide in hand, so that Run need not wait for it."""
        slide, entry = self._session.open_slide(), self.entry
        if slide is None or slide.path is None or slide.mpp is None or slide.is_photograph or entry is None:
            return
        wanted = AnalysisRequest.of(slide=slide.path, mpp=given_mpp(slide), model=str(entry.path or entry.name))
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
            if slide.mpp is None:
                set_mpp(self._session.viewer, layer, self.mpp_box.value())
            asked = request_for(slide, entry.path or entry.name, self._region(layer))
            self._run = AnalysisRun(self._session, self._child, layer, asked)
        except (DalaError, OSError) as error:
            self.error.say(str(error))
            return
        self.destroyed.connect(partial(_abandon, self._run))
        self._run.progressed.connect(self._show_progress)
        self._run.ended.connect(self._on_ended)
        self._progress, self._is_stopping = None, False
        self.progress.setRange(0, 1)  # a busy bar would have the whole window composed anew all the time
        self.progress.setValue(0)
        self.progress_text.setText("Waiting for the first tiles…" if self._child.about else "Loading the model…")
        self._show_state()

    def cancel(self) -> None:
        """Stop after the batch in hand; Run goes on from there."""
        if self._run is not None:
            self._run.cancel()
            self._is_stopping = True
            self.progress_text.setText("Stopping…")

    def _region(self, layer: Image) -> list[Polygon] | None:
        extent = self.extent_box.currentText()
        if extent == VIEW:
            return [box(*view_of(self._session.viewer, layer))]
        if extent == WHOLE:
            return None
        shapes = [other for other in self._session.viewer.layers if isinstance(other, Shapes) and other.selected_data]
        polygons = [polygon for other in shapes for polygon in selected_polygons(other, layer)]
        if not polygons:
            raise DalaError(
                "No shape is selected: draw one on a Shapes layer and select it, or choose the whole slide."
            )
        return polygons

    def _show_last(self) -> None:
        slide = self._session.open_slide()
        if slide is not None and self._session.layer is not None:
            self.offer_button.setEnabled(False)
            show = partial(self._on_loaded, self._session.layer)
            folder = analyses_folder(slide)
            create_worker(load, folder, _connect={"returned": show, "errored": self._on_not_loaded})

    def _on_loaded(self, layer: Image, loaded: LoadedAnalysis) -> None:
        if layer in self._session.slide_layers:
            self._session.show(layer, loaded)
        self._show_state()

    def _on_not_loaded(self, error: Exception) -> None:
        self.error.say(str(error))
        self._show_state()

    # What is shown

    def _show_model(self) -> None:
        entry = self.entry
        card = entry.card if entry else None
        self.model_summary.setText(card.summary if card else (entry.problem or "" if entry else ""))
        self.model_warning.say((card.warning or "").capitalize() if card else "")
        self._show_state()

    def _show_state(self) -> None:
        """Let what can be done now be seen and pressed."""
        slide, entry = self._session.open_slide(), self.entry
        unknown = slide is not None and slide.mpp is None
        self.ask_mpp.say(_ASK_MPP if unknown else "")
        self._form.setRowVisible(self.mpp_box, unknown)
        ready = slide is not None and entry is not None and entry.card is not None
        self.run_button.setEnabled(
            ready and not self.is_running and not (unknown and self.mpp_box.value() < MPP_LIMITS[0])
        )
        self.cancel_button.setEnabled(self.is_running)
        self.progress.setVisible(self.is_running)
        offered = (
            slide is not None
            and self._session.results is None
            and not self.is_running
            and has_results(analyses_folder(slide) / "analysis.zarr")
        )
        self.offer.say("This slide was analysed before." if offered else "")
        self._below_run.setCurrentIndex(int(offered))
        self.offer_button.setEnabled(offered)
        self._look_ahead()

    def _show_device(self) -> None:
        about = self._child.about
        where = f"{about['device']} ({about['precision']})" if about else "the model is being loaded…"
        self.device.setText(f"Runs on: {where}")

    def _show_progress(self, progress: Progress) -> None:
        self._progress = progress
        self.progress.setRange(0, max(1, progress.total))
        self.progress.setValue(progress.finished)
        if not self._is_stopping:
            self.progress_text.setText(progress_text(progress))

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
