"""The current slide's learning: its job is followed, its model's map shown as a preview, and kept or dropped."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import create_worker

from napari_dala.errors import BundleError, DalaError
from napari_dala.jobs.state import Status
from napari_dala.model.catalog import check_new_name, free_name, install_file
from napari_dala.plugin.analyze.run import AnalysisRun, analyses_folder, request_for
from napari_dala.plugin.learn.job_watch import JobWatch
from napari_dala.plugin.learn.jobs import Learned, decide, new_job_folder, open_job
from napari_dala.plugin.preferences import load_preferences
from napari_dala.results.loaded import LoadedAnalysis, load
from napari_dala.results.model_check import PAGE_FILE
from napari_dala.results.opening import for_bundle
from napari_dala.training.finetune.job import FinetuneConfig, create_finetune_job, event_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Image

    from napari_dala.jobs.job import Job
    from napari_dala.model.catalog import ModelEntry
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.plugin.warm_child import WarmChild


class Learning(QObject):
    """One learning job at a time, of the session's current slide; it outlives this object and napari.

    Parameters
    ----------
    session, child
        The viewer's session; the process that analyses.

    Attributes
    ----------
    status, message
        Where the job stands; None where there is no job that is not settled.
    learned
        What came of it, while it waits for a decision.
    is_busy
        True while a job is being made or a model installed.
    problem
        What went wrong last, one line, or empty.
    """

    changed = Signal()
    """Any of the attributes is another."""
    reported = Signal(object)
    """The job has reported a `FinetuneEvent`."""
    forgotten = Signal()
    """What was reported before is no longer of interest: another job is followed, or none."""
    progressed = Signal(object)
    """The preview's analysis is further: the payload of its progress event."""

    def __init__(self, session: Session, child: WarmChild) -> None:
        super().__init__()
        self._session, self._child = session, child
        self._layer: Image | None = None
        self._watch: JobWatch | None = None
        self.status: Status | None = None
        self.message = self.problem = ""
        self.learned: Learned | None = None
        self._thresholds: dict[Path, float] = {}
        self.is_busy = self._is_abandoned = False
        session.slides_changed.connect(self.follow)
        self.follow()

    @property
    def job(self) -> Job | None:
        """The job that is followed."""
        return self._watch.job if self._watch else None

    @property
    def threshold(self) -> float | None:
        """The operating threshold that the user chose for the job's model; None for its own."""
        return self._thresholds.get(self.job.folder) if self.job else None

    def choose_threshold(self, threshold: float) -> None:
        """Let the job's model have this operating threshold if it is accepted; its preview follows."""
        if self.job is not None:
            self._thresholds[self.job.folder] = threshold
            self.changed.emit()

    @property
    def run(self) -> AnalysisRun | None:
        """The preview's analysis, while it is under way."""
        return next((run for run in self._session.runs if run.preview and run.layer is self._layer), None)

    @property
    def is_live(self) -> bool:
        """True while a process works on the job, or is about to."""
        return self._watch is not None and self._watch.is_live

    def follow(self) -> None:
        """Find the current slide's job, where that is another slide than before."""
        if self._is_abandoned or self._session.layer is self._layer:
            return
        self._forget()
        self._layer, slide = self._session.layer, self._session.open_slide()
        self.problem = ""
        if slide is not None:
            try:
                job = open_job(slide.fingerprint, load_preferences().workspace)
            except DalaError as error:
                self.problem = str(error)
            else:
                if job is not None:
                    self._follow(job)
        self.changed.emit()

    def begin(self, config: FinetuneConfig) -> None:
        """Make a job and start it, in a thread."""
        slide = self._session.open_slide()
        assert slide is not None
        self._forget()
        self.is_busy, self.problem = True, ""
        folder = new_job_folder(slide.fingerprint, load_preferences().workspace)
        layer = self._layer
        self._work(_started, folder, config, then=lambda job: self._on_started(job, layer))
        self.changed.emit()

    def pause(self) -> None:
        """Ask the job to hold still."""
        self._ask(JobWatch.pause)

    def resume(self) -> None:
        """Go on with a job that is paused, or was stopped before its end."""
        self._ask(JobWatch.resume)

    def cancel(self) -> None:
        """Give the job up."""
        self._ask(JobWatch.cancel)

    def show_preview(self) -> None:
        """Let the new model score the slide, beside the results that are there; without any, the parent's are read."""
        layer, slide = self._layer, self._session.open_slide()
        if layer is None or slide is None or self.learned is None or self._has_preview:
            return
        if self._session.results is None:
            parent = self.learned.report["parent"]
            then = partial(self._on_parent, layer)
            self._work(load, analyses_folder(slide), parent, then=then, otherwise=lambda _: self._preview(layer))
        else:
            self._preview(layer)

    @property
    def proposed_name(self) -> str:
        """A free name for the job's model, which says what it was made from, how and when."""
        return "" if self.job is None else free_name(str(self.job.config["name"]), load_preferences().workspace)

    def name_problem(self, name: str) -> str:
        """Return why the model cannot be accepted under a name, one line, or empty."""
        try:
            check_new_name(name.strip(), load_preferences().workspace)
        except BundleError as error:
            return str(error)
        return ""

    def accept(self, name: str) -> None:
        """Install the new model in the workspace under a name, in a thread, and keep its results."""
        if self.learned is None or self.job is None or self.is_busy or self.name_problem(name):
            return
        self.is_busy = True
        then = partial(self._on_installed, self.job, self._layer)
        bundle, workspace = self.learned.bundle, load_preferences().workspace
        self._work(_installed, self.job, bundle, name.strip(), workspace, self.threshold, then=then)
        self.changed.emit()

    def discard(self) -> None:
        """Put back the results from before; the job's folder keeps the model."""
        if self.job is None or self._layer is None:
            return
        overlays = self._session.overlays_of(self._layer)
        before, after = (
            part and part.analysis.store for part in (overlays and overlays.standing, overlays and overlays.preview)
        )
        restore = before.make_latest if before else after.unset_latest if after else None
        if run := self.run:
            if restore is not None:  # again once it has ended: it may be about to begin
                run.ended.connect(partial(_quietly, restore))
            run.drop()
        self._session.drop_preview(self._layer)
        try:
            if restore is not None:
                restore()
            decide(self.job, None)
        except (DalaError, OSError) as error:
            self.problem = str(error)
        self._forget()
        self.changed.emit()

    def abandon(self) -> None:
        """Look no more; for when nobody is left to be told."""
        self._is_abandoned = True
        if self._watch is not None:
            self._watch.stop()
        for run in [run for run in self._session.runs if run.preview]:
            run.abandon()

    # The job

    def _follow(self, job: Job) -> None:
        self._watch = JobWatch(job, self)
        self.status, self.message = Status.QUEUED, ""
        self._watch.reported.connect(self._on_reported)
        self._watch.state.connect(self._on_state)
        self._watch.ended.connect(self._on_ended)

    def _forget(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch.deleteLater()
        self._watch = self.status = self.learned = None
        self.message = ""
        self.forgotten.emit()

    def _ask(self, request: Any) -> None:
        try:
            self.problem = ""
            if self._watch is not None:
                request(self._watch)
        except DalaError as error:
            self.problem = str(error)
        self.changed.emit()

    def _on_started(self, job: Job, layer: Image | None) -> None:
        self.is_busy = False
        if layer is self._layer and self._watch is None:
            self._follow(job)
        self.changed.emit()

    def _on_state(self, status: Status, message: str) -> None:
        self.status, self.message = status, message
        self.changed.emit()

    def _on_ended(self) -> None:
        if self.status is Status.CANCELLED:
            self._forget()
        elif self.status is Status.DONE and self.job is not None:
            try:
                self.learned = Learned.of(self.job)
            except DalaError as error:
                self.problem = str(error)
            self.show_preview()
        self.changed.emit()

    # The preview

    @property
    def _has_preview(self) -> bool:
        overlays = self._session.overlays_of(self._layer) if self._layer else None
        return self.run is not None or (overlays is not None and overlays.preview is not None)

    def _on_parent(self, layer: Image, loaded: LoadedAnalysis) -> None:
        if layer in self._session.slide_layers and self._session.results_of(layer) is None:
            self._session.show(layer, loaded)
        self._preview(layer)

    def _preview(self, layer: Image) -> None:
        """Start the analysis; one that runs on the slide gives way, for what it would do this one does too."""
        slide = self._session.open_slide()
        if layer is not self._layer or slide is None or self.learned is None or self._has_preview:
            return
        for run in list(self._session.runs):
            if run.layer is layer:
                run.cancel()
        try:
            asked = request_for(slide, self.learned.bundle)
            run = AnalysisRun(self._session, self._child, layer, asked, preview=True, name=self.proposed_name)
        except (DalaError, OSError) as error:
            self.problem = str(error)
        else:
            run.progressed.connect(self.progressed)
            run.ended.connect(self._on_previewed)
        self.changed.emit()

    def _on_reported(self, reported: dict[str, Any]) -> None:
        if (event := event_of(reported)) is not None:
            self.reported.emit(event)

    def _on_previewed(self, outcome: str, message: str) -> None:
        if outcome == "failed":
            self.problem = message
        self.changed.emit()

    def _on_installed(self, job: Job, layer: Image | None, entry: ModelEntry) -> None:
        self.is_busy = False
        for run in self._session.runs:
            if run.layer is layer:
                run.preview = False  # what it goes on with stands now
        if layer is not None:
            self._session.keep_preview(layer)
            results = self._session.results_of(layer)
            if results is not None:
                results.name_model(entry.name)
            if results is not None and entry.card is not None and job.folder in self._thresholds:
                analysis = results.analysis  # the slide opens again with the threshold that was chosen
                for_bundle(analysis.store, analysis.store.bundle_hash, entry.card.model_dump(mode="json"))
        if job is self.job:
            self._forget()
        self._session.model_installed.emit(entry.name)
        self.changed.emit()

    # Threads

    def _work(self, function: Any, *asked: Any, then: Any, otherwise: Any = None) -> None:
        def tell(call: Any, result: Any) -> None:
            if not self._is_abandoned:
                call(result)

        ends: dict[str, Any] = {"returned": partial(tell, then), "errored": partial(tell, otherwise or self._on_failed)}
        create_worker(function, *asked, _connect=ends)

    def _on_failed(self, error: Exception) -> None:
        self.is_busy, self.problem = False, str(error)
        self.changed.emit()


def _started(folder: Path, config: FinetuneConfig) -> Job:
    job = create_finetune_job(folder, config)
    job.start()
    return job


def _installed(job: Job, bundle: Path, name: str, workspace: Path, threshold: float | None) -> ModelEntry:
    entry = install_file(bundle, name, workspace, threshold=threshold, page=bundle.with_name(PAGE_FILE))
    decide(job, entry.name)
    return entry


def _quietly(restore: Callable[[], None], *_: str) -> None:
    with suppress(OSError):
        restore()
