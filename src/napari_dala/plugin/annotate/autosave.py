"""Saving what is drawn soon after each change, in a thread, so that no window waits for a disk."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_dala.annotations.files import save_for
from napari_dala.annotations.slides import remember_slide
from napari_dala.errors import DalaError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.slide import Slide

    Batch: TypeAlias = dict[str, tuple[AnnotationDocument, Slide, Path]]

QUIET_MS = 500  # after the last change
LATEST_MS = 1500  # after the first change that is not saved yet
LOOK_MS = 20  # whether it is written


class Autosave(QObject):
    """Writes the latest document of each slide, at most 1.5 s after a change, one file at a time."""

    saved = Signal()
    """Everything that was changed is on disk."""
    failed = Signal(str)
    """Why a document could not be written, one line; the next change tries again."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: Batch = {}
        self._since = 0.0
        self._running: dict[Future[dict[str, str]], Batch] = {}
        self._pool = ThreadPoolExecutor(1, "dala-autosave")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.begin)
        # Looked for, not told by the writing thread: the window, and this with it, may go while a callback runs.
        self._look = QTimer(self)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self._take_written)
        if (application := QCoreApplication.instance()) is not None:
            application.aboutToQuit.connect(self.flush)

    @property
    def is_dirty(self) -> bool:
        """True while something is not on disk."""
        return bool(self._pending or self._running)

    def later(self, document: AnnotationDocument, slide: Slide, folder: Path) -> None:
        """Save a document soon.

        Parameters
        ----------
        document
            In place of any of the same slide that is not written yet.
        slide
            On which it is drawn.
        folder
            The workspace.
        """
        if not self._timer.isActive():
            self._since = time.monotonic()
        self._pending[document.fingerprint] = (document, slide, folder)
        left = LATEST_MS - 1000 * (time.monotonic() - self._since)
        self._timer.start(max(0, min(QUIET_MS, round(left))))

    def begin(self) -> None:
        """Write what is pending now, without waiting for it."""
        self._timer.stop()
        if self._pending:
            self._submit()
            self._look.start()

    def flush(self) -> None:
        """Write what is pending and wait until it is on disk, or cannot be."""
        if self._pending:
            self._submit()
        wait(self._running)
        with suppress(RuntimeError):  # a window that closes may have taken the timers with it, and who is told
            self._timer.stop()
            self._take_written()

    def _submit(self) -> None:
        batch, self._pending = self._pending, {}
        self._running[self._pool.submit(_write, batch)] = batch

    def _take_written(self) -> None:
        for future in [one for one in self._running if one.done()]:
            batch = self._running.pop(future, None)
            if batch is not None:  # who is told of one may have waited for the others
                self._note(batch, future.result())
        if not self._running:
            self._look.stop()

    def _note(self, batch: Batch, problems: dict[str, str]) -> None:
        """Say how the writing of a batch ended; what was not written waits for the next change."""
        for fingerprint in problems:
            self._pending.setdefault(fingerprint, batch[fingerprint])
        for problem in problems.values():
            self.failed.emit(problem)
        if not problems and not self.is_dirty:
            self.saved.emit()


def _write(batch: Batch) -> dict[str, str]:
    """Save documents; return what went wrong by fingerprint."""
    problems = {}
    for fingerprint, (document, slide, folder) in batch.items():
        try:
            save_for(document, folder)
            remember_slide(slide, folder)
        except DalaError as error:
            problems[fingerprint] = str(error)
        except Exception as error:  # whatever it is, the user must hear that nothing was saved
            problems[fingerprint] = f"the annotations cannot be saved: {error}"
    return problems
