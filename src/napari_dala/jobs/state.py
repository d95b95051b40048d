"""What a job's folder says about its job: its state, and the lock that lets one process at a time run it."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO

from napari_dala.errors import JobError
from napari_dala.files import open_to_append, open_to_read, try_lock, write_json
from napari_dala.jobs.process import ProcessMark

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
_MOST_BYTES = 16_000_000  # of a JSON object that is read whole


class Status(StrEnum):
    """Where a job stands. `INTERRUPTED` is never stored: it is a job said to run whose process is gone."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"
    INTERRUPTED = "interrupted"


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
        stored = read_json(folder / "state.json")
        try:
            process = None
            if stored["pid"] is not None:
                started = stored.get("process_start")  # not written by older versions
                process = ProcessMark(int(stored["pid"]), float(stored["process_created"]), started)
            return cls(
                status=Status(stored["status"]),
                message=one_line(str(stored["message"])),
                process=process,
                updated=datetime.fromisoformat(stored["updated"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise JobError(f"{folder / 'state.json'}: not the state of a job ({error!r})") from error


def one_line(text: str) -> str:
    """Return the first line of `text` that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; `JobError` where there is none."""
    with job_errors(path), open_to_read(path) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise JobError(f"{path}: damaged, larger than {_MOST_BYTES // 1_000_000} MB")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise JobError(f"{path}: damaged, not JSON ({error})") from error
    if not isinstance(value, dict):
        raise JobError(f"{path}: damaged, not a JSON object")
    return value


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
