"""A job's folder followed from the window: what it reports and where it stands arrive as signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_dala.errors import JobError
from napari_dala.jobs.state import Status

if TYPE_CHECKING:
    from napari_dala.jobs.job import Job

POLL_MS = 250


class JobWatch(QObject):
    """Looks into a job's folder four times a second while the job is live; the process may be anyone's.

    The first look is at the next turn of the event loop, and reports everything from the job's beginning.

    Parameters
    ----------
    job
        Running or not.
    parent
        Owns the watch.
    """

    reported = Signal(dict)
    """Each event that the job has reported, in order."""
    state = Signal(object, str)
    """A `Status`, and one line for people; when either is another one than before."""
    ended = Signal()
    """The job does not run, after its last event; again after each time it was resumed."""

    def __init__(self, job: Job, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.job = job
        self._offset = 0
        self._said: tuple[Status, str] | None = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.look)
        self._timer.start(0)

    @property
    def is_live(self) -> bool:
        """True while the job may still report something."""
        return bool(self._timer.isActive())

    def look(self) -> None:
        """Tell what is new in the folder; under a millisecond."""
        if not self._timer.isActive():
            return
        self._timer.setInterval(POLL_MS)
        try:
            state = self.job.state  # first, so that what it reported before it ended is told before its end
            events, self._offset = self.job.events(self._offset)
        except JobError as error:  # a share that is away, perhaps for a moment
            self._say(self._said[0] if self._said else Status.INTERRUPTED, str(error))
            return
        for event in events:
            self.reported.emit(event)
        if not state.is_live:
            self._timer.stop()
        self._say(state.status, state.message)
        if not state.is_live:
            self.ended.emit()

    def pause(self) -> None:
        """Ask the job to hold still; `JobError` if it does not run."""
        self.job.pause()

    def resume(self) -> None:
        """Go on with a paused job, or start one again that has stopped before its end; `JobError` if it cannot be."""
        self.job.resume()
        self._timer.start(POLL_MS)

    def cancel(self) -> None:
        """Ask the job to stop, or give up one that nobody runs; `JobError` if the folder cannot be written."""
        self.job.cancel()
        self._timer.start(POLL_MS)

    def stop(self) -> None:
        """Look no more; the job goes on."""
        self._timer.stop()

    def _say(self, status: Status, message: str) -> None:
        if (status, message) != self._said:
            self._said = (status, message)
            self.state.emit(status, message)
