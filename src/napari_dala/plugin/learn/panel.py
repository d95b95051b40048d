"""The panel "Learn": from the drawn regions to a better model, and the choice whether it is one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_dala.annotations.slides import annotated_slide
from napari_dala.errors import DalaError, JobError
from napari_dala.jobs.state import Status
from napari_dala.plugin.learn.curves import LearningCurves
from napari_dala.plugin.learn.decision_panel import DecisionPanel
from napari_dala.plugin.learn.job_panel import JobPanel
from napari_dala.plugin.learn.jobs import new_model_name
from napari_dala.plugin.learn.learning import Learning
from napari_dala.plugin.learn.slide_list import SlideList
from napari_dala.plugin.parts.model_box import ModelBox
from napari_dala.plugin.parts.notes import RUN_STYLE, Note
from napari_dala.plugin.parts.scrolling import same_place, scroll_to
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.slide_layers import file_of
from napari_dala.plugin.warm_child import warm_child
from napari_dala.training.finetune.job import FinetuneConfig, FinetuneSettings, SlideExamples
from napari_dala.validation import checked

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image
    from qtpy.QtGui import QShowEvent

    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.catalog import ModelEntry
    from napari_dala.plugin.annotate.drawing import Drawing
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.slide import Slide

MODES = {
    "quick": ("Quick", "Some seconds. Attention and head learn from what the analysis has stored; the map follows."),
    "deep": ("Deep", "Some minutes. The last layers of the network learn too; then the slide is analysed again."),
    "full": ("Full", "Best on a graphics card, else hours. Every layer learns; then the slide is analysed again."),
}
FROM_SCRATCH = "Only the trunk of this model has learned yet: attention and head learn from your regions, from scratch."


class LearnPanel(QWidget):
    """Chooses slides, mode and parent model, starts and follows the learning, and shows before and after.

    Parameters
    ----------
    session
        Of the viewer.
    drawing
        What is drawn on the session's slide.
    """

    choice_changed = Signal()
    """Other slides are ticked, something was drawn, or another model is to begin with: see `chosen` and `entry`."""

    def __init__(self, session: Session, drawing: Drawing) -> None:
        super().__init__()
        self._session, self._drawing = session, drawing
        child = warm_child()
        child.hold(self)
        self.learning = Learning(session, child)
        self._layer: Image | None = None
        self._results: ResultLayers | None = None
        self.slides = SlideList(session.ticks)
        self.mode_box, self.model_box = QComboBox(), ModelBox()
        for mode, (title, _) in MODES.items():
            self.mode_box.addItem(title, mode)
        self.mode_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.mode_text, self.start_text = QLabel(), Note("offer")
        self.learn_button = QPushButton("Learn")
        self.learn_button.setStyleSheet(RUN_STYLE)
        self.reason, self.error = Note("offer"), Note("error")
        self.job, self.decision = JobPanel(self.learning), DecisionPanel(session, self.learning)
        self.curves = LearningCurves()
        self._in_sight: QWidget | None = None
        self._arrange()
        self._connect()
        self._list_models()
        self._follow_slide()
        self._refresh()

    def _arrange(self) -> None:
        self.mode_text.setWordWrap(True)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("How", self.mode_box)
        form.addRow(self.mode_text)
        form.addRow("From model", self.model_box.with_card(models=False))
        form.addRow(self.start_text)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("<b>Learn from</b>"))
        layout.addWidget(self.slides)
        layout.addLayout(form)
        layout.addWidget(self.learn_button)
        job, reason = QVBoxLayout(), QVBoxLayout()
        job.addWidget(self.job)
        reason.addWidget(self.reason)
        reason.addStretch()
        self._below_learn = same_place(job, reason)
        layout.addWidget(self._below_learn)
        for widget in (self.error, self.job.error, self.decision, self.curves):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.slides.ticked.connect(self._on_choice)
        self.mode_box.currentIndexChanged.connect(self._refresh)
        self.model_box.currentIndexChanged.connect(self._on_choice)
        self.learn_button.clicked.connect(self.learn)
        self._drawing.changed.connect(self._on_drawn)
        self._session.slides_changed.connect(self._follow_slide)
        self._session.results_changed.connect(self._follow_results)
        self._session.model_installed.connect(self._list_models)
        self.learning.changed.connect(self._refresh)
        self.learning.reported.connect(self.curves.take)
        self.learning.forgotten.connect(self.curves.clear)
        self.destroyed.connect(partial(_abandon, self.learning))

    # What is chosen

    @property
    def chosen(self) -> list[AnnotatedSlide]:
        """The slides to learn from."""
        return self.slides.chosen

    @property
    def entry(self) -> ModelEntry | None:
        """The model to begin with."""
        return self.model_box.entry

    @property
    def obstacle(self) -> str:
        """Why Learn cannot be pressed, one line, or empty."""
        slide, status = self._session.open_slide(), self.learning.status
        if self.learning.is_busy:
            return "One moment…"
        if self.learning.learned is not None:
            return "Accept or discard the new model first."
        if self.learning.is_live:
            return "A model is being learned on this slide."
        if status in (Status.INTERRUPTED, Status.QUEUED):
            return "Resume or cancel the interrupted learning first."
        if slide is None:
            return "Open a slide first."
        if slide.mpp is None:
            return "Enter the slide's resolution first (Analyze slide)."
        if not self.chosen:
            return "Tick a slide to learn from."
        if not any(one.regions for one in self.chosen):
            return "Draw a region of some class first."
        if self.entry is None or self.entry.card is None:
            return "Choose another model: this one cannot be read."
        return ""

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: D102
        self._list_models()
        self._follow_results()
        self._list_slides()
        super().showEvent(event)

    def _list_models(self, choose: str = "") -> None:
        self.model_box.read(choose)
        self._on_choice()

    def _follow_results(self) -> None:
        """Begin with the model whose results are shown, where it is known; a preview is no one's choice yet."""
        results = self._session.results
        overlays = self._session.overlays_of(self._layer) if self._layer else None
        if results is not self._results and overlays is not None and overlays.preview is None:
            self._results = results
            self.model_box.choose_card(results.analysis.card.name if results else None)
        self._refresh()

    def _follow_slide(self) -> None:
        if self._session.layer is not self._layer:
            self._layer = self._session.layer
            self._list_slides()

    def _list_slides(self) -> None:
        self.slides.show_slides(self._current, load_preferences().workspace)

    @property
    def _current(self) -> AnnotatedSlide | None:
        """The open slide with what is drawn on it now."""
        slide = self._session.open_slide()
        if slide is None:
            return None
        return annotated_slide(slide, self._drawing.document, load_preferences().workspace)

    def _on_drawn(self) -> None:
        self.slides.show_current(self._current)

    def _on_choice(self) -> None:
        self.choice_changed.emit()
        self._refresh()

    # What to do

    def learn(self) -> None:
        """Save what is drawn, and start a job that learns from the ticked slides."""
        slide, entry = self._session.open_slide(), self.entry
        if self.obstacle or slide is None or entry is None or entry.card is None:
            return
        preferences, mode = load_preferences(), self.mode_box.currentData()
        self.error.say("")
        self._drawing.flush()
        if not self._drawing.is_saved:
            self.error.say("What is drawn is not saved, so that nothing can learn from it.")
            return
        try:
            settings = checked(
                FinetuneSettings,
                JobError,
                mode=mode,
                device=preferences.device,
                precision=preferences.precision,
                threads=preferences.threads or None,
            )
            config = checked(
                FinetuneConfig,
                JobError,
                name=new_model_name(entry.card.name, mode, preferences.workspace),
                model=str(entry.path or entry.name),
                slides=tuple(_examples(one, slide, preferences.workspace) for one in self.chosen),
                settings=settings,
            )
        except (DalaError, OSError) as error:
            self.error.say(str(error))
            return
        self.learning.begin(config)

    # What is shown

    def _refresh(self) -> None:
        """Let what can be done now be seen and pressed."""
        self.mode_text.setText(MODES[self.mode_box.currentData()][1])
        self.start_text.say(FROM_SCRATCH if self.entry and self.entry.card and self.entry.card.trunk_only else "")
        obstacle, learning = self.obstacle, self.learning
        self.learn_button.setEnabled(not obstacle)
        self.learn_button.setToolTip(obstacle)
        self.reason.say("" if learning.learned or learning.is_live else obstacle)  # else it is plain to see below
        self._below_learn.setCurrentIndex(1 if learning.status is None and learning.run is None else 0)
        drawn = learning.is_live and not self.curves.isHidden()
        wanted = self.decision if learning.learned else self.curves if drawn else None
        if wanted is not self._in_sight:
            self._in_sight = wanted
            if wanted is not None:
                scroll_to(wanted)


def _examples(one: AnnotatedSlide, current: Slide, workspace: Path) -> SlideExamples:
    """Return what a job needs to know of a slide; pixels without a file are written to the workspace."""
    path = file_of(current, workspace) if one.fingerprint == current.fingerprint else one.path
    if path is None:
        raise DalaError(one.problem or f"{one.name}: its file is gone")
    return checked(
        SlideExamples,
        DalaError,
        slide=path,
        annotations=one.annotations,
        analysis=one.analysis,
        mpp=one.given_mpp,
        icc_profile=one.icc_profile,
    )


def _abandon(learning: Learning) -> None:
    learning.abandon()
