"""One analysis in the warm child, followed from the main thread: its layers fill, and the view steers its order."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from napari.utils import cancelable_progress
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]
from superqt.utils import create_worker

from napari_dala.annotations.adoption import adopt_old_folder
from napari_dala.annotations.files import annotations_path
from napari_dala.annotations.slides import remember_slide
from napari_dala.errors import DalaError
from napari_dala.plugin.analyze.spinner import hold_spinner
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.slide_layers import file_of, view_of
from napari_dala.results.loaded import LoadedAnalysis, StoredBlock, load, read_news
from napari_dala.results.progress import Progress
from napari_dala.results.request import AnalysisRequest
from napari_dala.words import counted
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from napari.layers import Image
    from numpy.typing import NDArray
    from shapely import Polygon

    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.plugin.warm_child import WarmChild
    from napari_dala.slide import Slide

Outcome = Literal["done", "cancelled", "failed"]

_SHOW_MS = 200  # between updates of the layers, at first
_EAGER_S, _LATER_MS = 2.0, 1000  # and then: napari paints anew for each, without a graphics card on the same cores
_TELL_S = 1.0  # between updates of napari's activity dock
_PATIENCE_MS = 1500  # of who cancels: then the window goes on, and the process stops when it can
_LOOK_MS = 100  # between messages about where the user looks


class AnalysisRun(QObject):
    """Starts an analysis of a slide layer; it goes on until it is done or cancelled.

    Parameters
    ----------
    session, child
        The viewer's session; the process that computes.
    layer
        The slide's.
    asked
        Of the worker; see `request_for`.
    preview
        Show the results beside those that are there, see `Session.show`.
    name
        What the model is called; by default as its card says.
    """

    progressed = Signal(object)
    """The latest `Progress`, after its tiles were shown."""
    ended = Signal(str, str)
    """An `Outcome`, and one line of what went wrong."""

    def __init__(
        self,
        session: Session,
        child: WarmChild,
        layer: Image,
        asked: AnalysisRequest,
        *,
        preview: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.layer, self.preview, self.asked, self._name = layer, preview, asked, name
        self.is_running = True
        self._session, self._child = session, child
        self._doing = ""
        self._opened = False  # the store is there
        self._latest: Progress | None = None
        self._blocks: set[tuple[int, int]] = set()
        self._tissue_found = False  # since the layers were last brought up to date
        self._loading = False
        self._shown = self._dropped = False
        self._results: ResultLayers | None = None
        self._end: tuple[Outcome, str] | None = None
        self._begun = self._told = time.monotonic()
        self._about, self._updated = "", 0.0
        self._bar: cancelable_progress[Any] | None = None  # a sixth of a second, which the first tiles need not wait
        self._show_timer = _once(self, _SHOW_MS, self._show)
        self._look_timer = _once(self, _LOOK_MS, self._look)
        self._give_up_timer = _once(self, _PATIENCE_MS, partial(self._finish, "cancelled", ""))
        child.told.connect(self._on_event)
        viewer = session.viewer
        for name in ("center", "zoom"):
            getattr(viewer.scene.camera.events, name).connect(self._on_camera)
        viewer.layers.events.removed.connect(self._on_removed)
        session.runs.append(self)
        self._request = child.request("analyze", view=view_of(viewer, layer), asked=asked.as_json())

    @property
    def waiting(self) -> str:
        """What is being done before the first tiles, and since when."""
        doing = self._doing or ("Waiting for the analysis process" if self._child.about else "Loading the network")
        return f"{doing}… {duration(time.monotonic() - self._begun)}"

    def cancel(self) -> None:
        """Stop after the batch in hand; what was computed stays.

        Who waits is not kept waiting: before the first tiles it ends at once, later within two seconds.
        """
        if not self.is_running:
            return
        self._child.tell(self._request, "cancel")
        if self._latest is None:
            self._finish("cancelled", "")
        elif not self._give_up_timer.isActive():
            self._give_up_timer.start()

    def drop(self) -> None:
        """Cancel, and show no more of it."""
        self._dropped, self.preview = True, False
        self._blocks.clear()
        if self.is_running:  # it ends when the process says so: until then it may write
            self._child.tell(self._request, "cancel")

    def abandon(self) -> None:
        """Cancel and hear no more of it; for when nobody is left to be told."""
        if self.is_running:
            self._child.tell(self._request, "cancel")
        self._leave()
        with suppress(RuntimeError):  # the window is gone, its activity dock too
            self._close_bar()

    def _on_event(self, number: int, name: str, payload: dict[str, Any]) -> None:
        if not self.is_running:
            return
        if number == 0 and name == "died":
            self._stop("failed", f"The analysis process ended: {payload['reason']}. Run goes on where it stopped.")
        elif number != self._request:
            return
        elif name == "doing":
            self._doing = str(payload["what"])
        elif name == "opened":
            self._opened = True
            self._show_soon()
        elif name == "progress":
            self._opened, self._latest = True, Progress.from_json(payload)
            if not self._dropped:
                self._blocks.update(self._latest.blocks)
                self._tissue_found |= not self._latest.blocks
            self._show_soon()
        elif name == "error":
            self._stop("failed", payload["message"])
        elif name == "cancelled" or (name == "result" and payload.get("cancelled")):
            self._stop("cancelled", "")
        elif name == "result":
            self._stop("done", "")

    def _show_soon(self) -> None:
        """Bring the layers up to date: at once, where they have not just been."""
        if not self._show_timer.isActive():
            now = time.monotonic()
            rest = _SHOW_MS if now - self._begun < _EAGER_S else _LATER_MS
            self._show_timer.start(max(0, rest - round((now - self._updated) * 1000)))

    def _stop(self, outcome: Outcome, message: str) -> None:
        self._end = (outcome, message)
        self._show()

    def _show(self) -> None:
        """Bring layers and progress up to date; what is read from disk is read in a thread, however much is new."""
        if not self.is_running or self._loading:
            return
        if self._opened and not self._shown and not self._dropped:
            self._read(partial(load, name=self._name), self.asked.out, returned=self._on_loaded)
        elif self._has_news and self._results is not None:
            self._updated = time.monotonic()
            store, blocks, marks = self._results.analysis.store, self._blocks, self._tissue_found
            self._blocks, self._tissue_found = set(), False
            self._read(read_news, store, blocks, marks, yielded=self._on_blocks, returned=self._on_marks)
        else:
            self._tell()

    @property
    def _has_news(self) -> bool:
        """True where there is something to read; marks, which take longer, come with the first tiles or in the end."""
        return bool(self._blocks) or (self._tissue_found and self._end is not None)

    def _read(self, function: Callable[..., Any], *arguments: Any, **then: Callable[[Any], None]) -> None:
        self._loading = True
        create_worker(function, *arguments, _connect={**then, "errored": self._on_failed})

    def _on_loaded(self, loaded: LoadedAnalysis) -> None:
        self._loading, self._shown = False, True
        if self.is_running and not self._dropped:
            self._results = self._session.show(self.layer, loaded, self.preview)
        self._show()

    def _on_blocks(self, blocks: list[StoredBlock]) -> None:
        if blocks and self.is_running and self._results is not None:
            self._session.add(self._results, blocks)

    def _on_marks(self, status: NDArray[np.uint8] | None) -> None:
        self._loading = False
        if self.is_running and self._results is not None:
            if status is not None:
                self._session.mark(self._results, status)
            self._tell()

    def _on_failed(self, error: Exception) -> None:
        self._loading, self._shown = False, True
        self._child.tell(self._request, "cancel")
        self._stop("failed", str(error))

    def _tell(self) -> None:
        """Say how far it is, and that it has ended once everything is shown."""
        if self._latest is not None:
            self._show_progress(self._latest)  # napari handles events meanwhile: it may have ended, or be reading again
            if not self.is_running or self._loading:
                return
            self.progressed.emit(self._latest)
        if self._has_news and self._results is not None:
            self._show_soon()
        elif self._end is not None:
            self._finish(*self._end)

    def _show_progress(self, progress: Progress) -> None:
        """Show the run in napari's activity dock too, now and then: each time napari paints its window."""
        if time.monotonic() - self._told < _TELL_S and self._end is None:
            return
        self._told = time.monotonic()
        if self._bar is None and self._end is not None:
            return
        if self._bar is None:
            self._bar = cancelable_progress(
                total=progress.total, desc=f"Analysing {self.layer.name}", cancel_callback=self.cancel, leave=False
            )
            if not self.is_running:  # napari handled events meanwhile
                self._close_bar()
                return
            hold_spinner(self._session.viewer)
        about = "; Grad-CAM is approximate still" if progress.approximate else ""
        if about != self._about:  # napari handles events and draws for each change of its bar
            self._about = about
            self._bar.set_description(f"Analysing {self.layer.name}{about}")
        if self._bar.total != progress.total:
            self._bar.total = progress.total
        if progress.finished > self._bar.n:
            self._bar.update(progress.finished - self._bar.n)

    def _on_camera(self) -> None:
        if not self._look_timer.isActive():
            self._look_timer.start()

    def _look(self) -> None:
        if self.is_running:
            self._child.tell(self._request, "look_at", view=view_of(self._session.viewer, self.layer))

    def _on_removed(self) -> None:
        if self.is_running and self.layer not in self._session.viewer.layers:
            self.cancel()
            self._finish("cancelled", "")

    def _finish(self, outcome: Outcome, message: str) -> None:
        self._leave()
        for timer in (self._show_timer, self._look_timer, self._give_up_timer):
            timer.stop()
        self._close_bar()
        if self._results is not None and self._results is self._session.results:
            self._session.results_changed.emit()
        self.ended.emit(outcome, message)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _leave(self) -> None:
        self.is_running = False
        if self in self._session.runs:
            self._session.runs.remove(self)


def request_for(slide: Slide, model: Path | str, region: Sequence[Polygon] | None = None) -> AnalysisRequest:
    """Return what is asked of the child, as chosen under Preferences.

    Parameters
    ----------
    slide
        Its mpp is known; pixels without a file are written to the workspace first.
    model
        Name of a model, or its bundle's file.
    region
        Polygons in level-0 px; None for the whole slide.
    """
    workspace = load_preferences().workspace
    path = file_of(slide, workspace)
    adopt_old_folder(slide, workspace)
    with suppress(DalaError):  # the list of slides knows it from now on
        remember_slide(slide, workspace)
    return asked_of(slide.fingerprint, path, given_mpp(slide), model, region, icc_profile=slide.uses_profile)


def asked_of(
    fingerprint: str,
    path: Path,
    mpp: tuple[float, float] | None,
    model: Path | str,
    region: Sequence[Polygon] | None = None,
    *,
    icc_profile: bool,
) -> AnalysisRequest:
    """Return what is asked of the child of a slide that need not be open; see `request_for`.

    Parameters
    ----------
    path
        The slide's file.
    mpp
        Micrometres per level-0 pixel (x, y) that the user gave, or None.
    icc_profile
        See `open_slide`: as the window shows the slide.
    """
    preferences = load_preferences()
    return AnalysisRequest.of(
        slide=path,
        mpp=mpp,
        model=str(model),
        out=slide_folder(fingerprint, preferences.workspace) / "analyses",
        annotations=annotations_path(fingerprint, preferences.workspace),
        region=region,
        icc_profile=icc_profile,
        device=preferences.device,
        precision=preferences.precision,
        threads=preferences.threads,
        local_copy=preferences.local_copies,
    )


def look_for(slide: Slide, path: Path, model: Path | str) -> AnalysisRequest:
    """Return what is asked of the child before Run is pressed: to find the tissue of the slide in hand."""
    local_copy = load_preferences().local_copies
    how = {"local_copy": local_copy, "icc_profile": slide.uses_profile}
    return AnalysisRequest.of(slide=path, mpp=given_mpp(slide), model=str(model), **how)


def given_mpp(slide: Slide) -> tuple[float, float] | None:
    """Return um per level-0 pixel, (x, y), where the user gave it; None where the file says it."""
    return slide.mpp if slide.mpp_source == "given" else None


def analyses_folder(slide: Slide) -> Path:
    """Return the folder in the workspace that holds a slide's `analysis.zarr`."""
    workspace = load_preferences().workspace
    adopt_old_folder(slide, workspace)
    return slide_folder(slide.fingerprint, workspace) / "analyses"


def progress_text(progress: Progress) -> str:
    """Return how far an analysis that runs is, in one line."""
    parts = [tiles_text(progress)]
    if progress.tiles_per_s:
        parts.append(f"{progress.tiles_per_s:.1f} tiles/s")
    if progress.seconds_left is not None and progress.seconds_left >= 0.5:
        parts.append(f"{duration(progress.seconds_left)} left")
    if progress.approximate:
        parts.append(f"Grad-CAM still approximate on {progress.approximate}")
    return " · ".join(parts)


def tiles_text(progress: Progress) -> str:
    """Return how many tiles of an analysis are done: what is still true once it has stopped."""
    return f"{progress.done} of {counted(progress.total, 'tile')}"


def duration(seconds: float) -> str:
    """Return a duration in words."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _once(owner: QObject, interval: int, call: Any) -> QTimer:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(interval)
    timer.timeout.connect(call)
    return timer
