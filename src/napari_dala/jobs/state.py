"""What a job's folder says about its job: its state, and the lock that lets one process at a time run it."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, BinaryIO

from pydantic import AwareDatetime, BaseModel, Field

from napari_dala.errors import JobError
from napari_dala.files import open_to_append, try_lock, write_json
from napari_dala.jobs.process import ProcessMark
from napari_dala.validation import read_as

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WHY = {
    errno.ENOSPC: "the disk is full; free some space and start the job again",
    errno.EDQUOT: "your disk quota is used up; free some space and start the job again",
    errno.EROFS: "the folder is read-only; choose a workspace that can be written to",
    errno.EACCES: "permission denied; choose a workspace that can be written to",
    errno.ELOOP: "a link, which is not written to; remove it",
}

MOST_BYTES = 16 << 20  # of a description of a job or its state: a folder may hold many jobs


class Status(StrEnum):
    """Where a job stands. `INTERRUPTED` is never stored: it is a job said to run whose process is gone."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"
    INTERRUPTED = "interrupted"


class _Stored(BaseModel):
    status: Status
    message: str
    pid: Annotated[int, Field(strict=True, gt=0, lt=2**31)] | None
    process_created: Annotated[float, Field(allow_inf_nan=False)] | None
    process_start: str | None = None  # not written by older versions
    updated: AwareDatetime


@dataclass(frozen=True)
class JobState:
    """The content of `state.json`.

    Attributes
    ----------
    status
        Where the job stands.
    message
        One line for people: how far it is, why it failed.
    process
        Who runs it or ran it last; None before the first start.
    updated
        When the state was written.
    """

    status: Status
    message: str = ""
    process: ProcessMark | None = None
    updated: datetime | None = None

    @property
    def is_live(self) -> bool:
        """True if a process is at work on the job, is about to be, or is paused."""
        starting = self.status is Status.QUEUED and self.process is not None
        return starting or self.status in (Status.RUNNING, Status.PAUSED)

    def write(self, folder: Path) -> None:
        """Replace the folder's state, whole or not at all, with the time of now."""
        path = folder / "state.json"
        with job_errors(path):
            write_json(
                path,
                {
                    "status": self.status,
                    "message": one_line(self.message),
                    "pid": self.process and self.process.pid,
                    "process_created": self.process and self.process.created,
                    "process_start": self.process and self.process.start,
                    "updated": datetime.now(UTC).isoformat(timespec="milliseconds"),
                },
            )

    @classmethod
    def read(cls, folder: Path) -> JobState:
        """Read what the folder says, whether or not the process still lives."""
        stored = read_as(_Stored, folder / "state.json", JobError, most=MOST_BYTES)
        process = None
        if stored.pid is not None and stored.process_created is not None:
            process = ProcessMark(stored.pid, stored.process_created, stored.process_start)
        return cls(stored.status, one_line(stored.message), process, stored.updated)


def one_line(text: str) -> str:
    """Return the first line of `text` that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


@contextmanager
def job_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the body into a `JobError` of one line that names `path`."""
    try:
        yield
    except OSError as error:
        reason = _WHY.get(error.errno or 0) or error.strerror or str(error)
        raise JobError(f"{path}: {reason}") from error


@contextmanager
def run_lock(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the folder's lock, which only one process at a time can.

    The operating system holds it and drops it when the process ends in whatever way, so a lock is never stale.
    Whoever starts a job holds it until `state.json` names the new process, which then holds it while it runs.

    Parameters
    ----------
    folder
        Of the job.
    patience_s
        How long to wait for another holder before raising `JobError`.
    """
    path = folder / "lock"
    with job_errors(path):
        file = open_to_append(path)
    with file:
        deadline = time.monotonic() + patience_s
        while True:
            with job_errors(path):
                if try_lock(file.fileno()):
                    break
            if time.monotonic() >= deadline:
                raise JobError(f"{folder}: another process is running this job")
            time.sleep(0.02)
        _held.add(file)
        try:
            yield
        finally:
            _held.remove(file)


_held: set[BinaryIO] = set()


def _forget_locks() -> None:
    for file in _held:
        file.close()


if sys.platform != "win32":  # a forked data loader worker would hold its parent's lock beyond the parent's death
    os.register_at_fork(after_in_child=_forget_locks)
