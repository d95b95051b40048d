"""A job seen from inside: what the process that does the work reports and is asked."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self

import psutil

from napari_dala.errors import DalaError, JobError
from napari_dala.jobs.job import Job
from napari_dala.jobs.process import ProcessMark
from napari_dala.jobs.state import JobState, Status, job_errors, one_line, run_lock

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType, TracebackType

_POLL_S = 0.1
_PATIENCE_S = 10.0  # for whoever starts the job to write its state

Request = Literal["go", "pause", "cancel"]


class JobRun:
    """Run a job in this process, as a context.

    Inside, the folder is locked and its state is "running"; on leaving, the state becomes "done", "cancelled" (it was
    asked for, or SIGTERM or Ctrl-C came) or "failed" with the reason in one line. An exception passes on.

    Parameters
    ----------
    folder
        Of a job made by `Job.create`, whether started by `Job.start` or by hand.

    Raises
    ------
    JobError
        If it is not a job's folder; on entering, if another process runs it, it is done or it cannot be written.

    Examples
    --------
    >>> with JobRun(folder) as run:  # doctest: +SKIP
    ...     for batch in batches:
    ...         loss = learn(batch)
    ...         run.report(loss=loss)
    ...         if run.should_stop():
    ...             break
    """

    def __init__(self, folder: str | Path) -> None:
        self.job = Job.open(folder)
        self._me = ProcessMark.of(os.getpid())
        self._message = ""
        self._cancelled = False
        self._request: Request = "go"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = self.job.folder
        with ExitStack() as stack:
            stack.enter_context(run_lock(folder, _PATIENCE_S))
            state = self.job.state
            if state.is_live and not (state.process and _descends_from(state.process)):
                raise JobError(f"{folder}: another process is running this job")
            if state.status is Status.DONE:
                raise JobError(f"{folder}: this job is done; make a new one to go further")
            path = folder / "progress.jsonl"
            with job_errors(path):
                if state.status is not Status.QUEUED:  # else `start` cleared it, and what it says now is for this run
                    (folder / "control").unlink(missing_ok=True)
                # Unbuffered: bytes that a full disk refused must not come out later, in the midst of a line.
                self._progress = stack.enter_context(path.open("ab+", buffering=0))
                self._progress.seek(0)
                self._progress.truncate(self._progress.read().rfind(b"\n") + 1)  # a crash may have torn the last line
            if threading.current_thread() is threading.main_thread():
                before = signal.signal(signal.SIGTERM, self._terminate)
                stack.callback(signal.signal, signal.SIGTERM, before or signal.SIG_DFL)
            self._write(Status.RUNNING)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            status, message = self._outcome(error)
            try:
                self._write(status, message)
            except JobError as unwritten:
                if error is None:
                    raise
                print(unwritten, file=sys.stderr)  # the log may still take it; `error` says why the job ends

    def report(self, **event: Any) -> None:
        """Append an event with the time of now.

        Numbers of numpy and torch become plain ones, those that are not finite null, what JSON has no word for text.
        """
        line = json.dumps(_plain({"time": time.time(), **event}), ensure_ascii=False, allow_nan=False)
        data = line.encode() + b"\n"
        size = os.fstat(self._progress.fileno()).st_size
        with job_errors(self.job.folder / "progress.jsonl"):
            try:
                while data:
                    data = data[self._progress.write(data) :]
            except OSError:
                self._progress.truncate(size)
                raise

    def say(self, message: str) -> None:
        """Set the state's message, one line for people such as "epoch 3 of 50"."""
        self._message = message
        self._write(Status.RUNNING)

    def poll(self) -> Request:
        """Return what was asked for last: "go", "pause" or "cancel", after which it stays "cancel"."""
        if not self._cancelled:
            try:
                asked = (self.job.folder / "control").read_text(encoding="utf-8", errors="replace").strip()
                self._request = "pause" if asked == "pause" else "go"
                self._cancelled = asked == "cancel"
            except FileNotFoundError:
                self._request = "go"
            except OSError:
                pass  # a share that is away for a moment: what was asked before still holds
        return "cancel" if self._cancelled else self._request

    def wait_while_paused(self) -> None:
        """Return at once if there is no pause, else when the job is resumed or cancelled."""
        if self.poll() != "pause":
            return
        self._write(Status.PAUSED)
        while self.poll() == "pause":
            time.sleep(_POLL_S)
        self._write(Status.RUNNING)

    def should_stop(self) -> bool:
        """Hold still while paused; then True if the job is cancelled. For once a batch: it reads one small file."""
        self.wait_while_paused()
        return self._cancelled

    def _outcome(self, error: BaseException | None) -> tuple[Status, str]:
        if isinstance(error, Exception):
            reason = one_line(str(error))
            named = reason if isinstance(error, DalaError) else f"{type(error).__name__}: {reason}"
            return Status.FAILED, named
        if isinstance(error, SystemExit) and error.code and not self._cancelled:
            return Status.FAILED, f"exit code {error.code}"
        # Lightning leaves on SIGTERM by a SystemExit without a code.
        return (Status.CANCELLED if self._cancelled or error else Status.DONE), self._message

    def _write(self, status: Status, message: str | None = None) -> None:
        JobState(status, self._message if message is None else message, self._me).write(self.job.folder)

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        if self._cancelled:
            raise SystemExit(128 + signum)  # it was asked before and does not look
        self._cancelled = True


def _descends_from(mark: ProcessMark) -> bool:
    """Tell whether this process was started, or launched by what was started: a shell, a venv's python.exe."""
    me = psutil.Process()
    return mark.pid in (me.pid, *(parent.pid for parent in me.parents()))


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it."""
    if hasattr(value, "item") and not isinstance(value, dict) and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value)
