"""Many slides analysed one after another in the warm child; none of them needs to be open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import create_worker

from napari_dala.annotations.slides import open_known
from napari_dala.errors import DalaError
from napari_dala.plugin.analyze.run import asked_of, duration, tiles_text
from napari_dala.results.progress import Progress
from napari_dala.words import counted, percent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.catalog import ModelEntry
    from napari_dala.plugin.warm_child import WarmChild

_TELLING = 0.2  # slides, after which a guess of the time left is worth something


class AnalysisQueue(QObject):
    """The slides that are to be analysed by one model; what an earlier run did is not done again.

    Parameters
    ----------
    child
        The process that computes.
    """

    changed = Signal()
    """How far it is, or what waits."""
    finished = Signal(object)
    """Of this `AnnotatedSlide` there are results now, or as many as there will be."""
    ended = Signal()
    """Nothing is left to do, or it was stopped."""

    def __init__(self, child: WarmChild) -> None:
        super().__init__()
        self._child = child
        self._waiting: list[AnnotatedSlide] = []
        self._now: AnnotatedSlide | None = None
        self._model = ""
        self._request = 0
        self._progress: Progress | None = None
        self._total = self._done = 0
        self._begun = 0.0
        self._is_stopped = False
        self.failures: dict[str, str] = {}
        """Why slides could not be analysed, by fingerprint."""
        child.told.connect(self._on_event)

    @property
    def is_running(self) -> bool:
        """True until the last slide is done."""
        return self._now is not None

    def begin(self, slides: Iterable[AnnotatedSlide], entry: ModelEntry) -> None:
        """Analyse slides in this order; only where nothing is being done."""
        if self.is_running:
            return
        self._waiting, self._model = list(slides), str(entry.path or entry.name)
        self._total, self._done, self._begun = len(self._waiting), 0, time.monotonic()
        self._is_stopped, self.failures = False, {}
        self._next()

    def cancel(self) -> None:
        """Stop after the batch in hand; what was computed stays."""
        if self.is_running:
            self._is_stopped = True
            self._waiting.clear()
            if self._request:
                self._child.tell(self._request, "cancel")
            self.changed.emit()

    # How far it is

    @property
    def states(self) -> dict[str, str]:
        """What each slide is doing, by fingerprint, in a word or two."""
        found = dict.fromkeys(self.failures, "failed") | {slide.fingerprint: "waiting" for slide in self._waiting}
        if self._now is not None:
            found[self._now.fingerprint] = f"running {percent(self._share)}"
        return found

    @property
    def share(self) -> float:
        """How much of all is done, 0 to 1."""
        return (self._done + self._share) / self._total if self._total else 0.0

    @property
    def text(self) -> str:
        """How far it is, or how it ended, one or two lines."""
        if self._now is not None:
            if self._is_stopped:
                return "Stopping…"
            parts = [f"Slide {self._done + 1} of {self._total}: {self._now.name}"]
            parts += [tiles_text(self._progress)] if self._progress and self._progress.total else []
            done = self._done + self._share
            if done > _TELLING:
                parts.append(f"about {duration((self._total / done - 1) * (time.monotonic() - self._begun))} left")
            return " · ".join(parts)
        if not self._total:
            return ""
        text = f"{counted(self._done - len(self.failures), 'slide')} of {self._total} analysed."
        if self._is_stopped:
            text = f"Stopped: {text} It goes on from here."
        return text

    @property
    def _share(self) -> float:
        """How much of the slide in hand is done."""
        progress = self._progress
        return progress.finished / progress.total if progress and progress.total else 0.0

    # What the child says

    def _next(self) -> None:
        self._now, self._progress, self._request = None, None, 0
        if self._waiting:
            self._now = self._waiting.pop(0)
            create_worker(_checked, self._now, _connect={"returned": self._ask, "errored": self._on_unfit})
        self.changed.emit()
        if self._now is None:
            self.ended.emit()

    def _ask(self, slide: AnnotatedSlide) -> None:
        if self._is_stopped:
            self._leave(slide, is_done=False)
            return
        assert slide.path is not None
        try:
            asked = asked_of(slide.fingerprint, slide.path, slide.given_mpp, self._model, icc_profile=slide.icc_profile)
        except DalaError as error:
            self._on_unfit(error)
        else:
            self._request = self._child.request("analyze", asked=asked.as_json())

    def _on_unfit(self, error: Exception) -> None:
        if self._now is not None:
            self.failures[self._now.fingerprint] = str(error)
            self._leave(self._now)

    def _on_event(self, number: int, name: str, payload: dict[str, Any]) -> None:
        if self._now is None or not self._request:
            return
        if (number, name) == (0, "died"):
            self._on_unfit(DalaError(f"{self._now.name}: the analysis process ended: {payload['reason']}"))
        elif number != self._request:
            return
        elif name == "progress":
            self._progress = Progress.from_json(payload)
            self.changed.emit()
        elif name == "error":
            self._on_unfit(DalaError(payload["message"]))
        elif name == "result":
            self._leave(self._now, is_done=not payload.get("cancelled"))

    def _leave(self, slide: AnnotatedSlide, is_done: bool = True) -> None:
        self._done += is_done
        self.finished.emit(slide)
        self._next()


def _checked(slide: AnnotatedSlide) -> AnnotatedSlide:
    """Make sure that a slide's file still holds it: what is found is kept under its name."""
    open_known(slide).close()
    return slide
