"""A job seen from outside: a folder, and a process of its own that outlives whoever started it.

    job.json         what is to be done: kind, config, created, version; written once
    state.json       where it stands
    progress.jsonl   one event a line, appended
    control          the last request: pause, resume or cancel
    log.txt          standard output and error
    checkpoints/     what a further start continues from
    result/          what came of it
    ...              files it was given
    lock             held by whoever runs it

`Job` is for the window and the command line, `napari_dala.jobs.run.JobRun` for the process that does the work.

Such folders lie on shared drives and are not trusted: one says what is to be done, never by which program (`PROGRAMS`),
and one that holds anything but ordinary files and folders (a link, a FIFO) is not opened.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import stat
import sys
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import AwareDatetime, BaseModel

from napari_dala.errors import JobError
from napari_dala.files import open_to_append, open_to_read, replacing, sweep, write_json, write_text
from napari_dala.jobs.process import ProcessMark, last_log_line, start_detached
from napari_dala.jobs.state import MOST_BYTES, JobState, Status, job_errors, run_lock
from napari_dala.validation import parse_json, read_as

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROGRAMS: dict[str, tuple[str, ...]] = {"finetune": ("-m", "napari_dala.cli", "finetune", "--out")}
"""By kind, what this Python is given before a job's folder to do the job; other kinds are read, but not run."""

_log = logging.getLogger(__name__)

_POLL_S = 0.1
_PATIENCE_S = 1.0  # for a process that has written its last state to let go of the lock
_UNFINISHED = re.compile(r"\..+-[0-9a-f]{8}")  # the folder of a job that is being made


class _Description(BaseModel):
    kind: str
    config: dict[str, Any]
    created: AwareDatetime
    version: str


@dataclass(frozen=True)
class Job:
    """A job's folder, whoever created it and whoever runs it.

    Make one with `Job.create` or `Job.open`. Every method may be called from any process; the folder is all they share.

    Attributes
    ----------
    folder
        Absolute path.
    kind
        What sort of job it is, such as "finetune".
    config
        What the job needs to know, as JSON.
    created
        When the folder was made.
    version
        The napari-dala that made it.
    """

    folder: Path
    kind: str
    config: dict[str, Any]
    created: datetime
    version: str

    @classmethod
    def create(
        cls,
        folder: str | Path,
        kind: str,
        config: Mapping[str, Any],
        *,
        files: Mapping[str, Path] | None = None,
    ) -> Job:
        """Make the folder of a new job, whole or not at all; nothing runs yet.

        Parameters
        ----------
        folder
            New or empty.
        kind, config
            As the attributes.
        files
            What to copy into the folder, which only the user may read: name in there -> file.

        Raises
        ------
        JobError
            If `folder` is there and not empty, or cannot be written.
        """
        folder = Path(os.path.expanduser(folder)).absolute()
        description = {
            "kind": kind,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
            "version": version("napari-dala"),
            "config": dict(config),
        }
        temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
        with job_errors(folder):
            if folder.exists():
                if not folder.is_dir() or any(folder.iterdir()):
                    raise JobError(f"{folder}: is there already and not empty; choose another folder")
            _sweep_unfinished(folder.parent)
            try:
                temporary.mkdir(parents=True, mode=0o700)
                with contextlib.ExitStack() as stack:
                    stack.enter_context(run_lock(temporary))  # else `_sweep_unfinished` would take it for abandoned
                    write_json(temporary / "job.json", description, private=True)
                    for name in ("checkpoints", "result"):
                        (temporary / name).mkdir()
                    for name, file in (files or {}).items():
                        with replacing(temporary / name, private=True) as copy:
                            shutil.copyfile(file, copy)
                    JobState(Status.QUEUED).write(temporary)
                    if folder.exists():
                        folder.rmdir()
                    if sys.platform == "win32":
                        stack.close()  # a folder with an open file cannot be renamed
                    temporary.rename(folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Job:
        """Open the folder of a job, running or not; `JobError` if it is not one."""
        folder = Path(os.path.expanduser(folder)).absolute()
        _refuse_all_but_files(folder)
        job = cls(folder, **dict(read_as(_Description, folder / "job.json", JobError, most=MOST_BYTES)))
        JobState.read(folder)
        return job

    @property
    def checkpoints(self) -> Path:
        """The folder that a further start continues from."""
        return self.folder / "checkpoints"

    @property
    def result(self) -> Path:
        """The folder of what came of the job."""
        return self.folder / "result"

    @property
    def state(self) -> JobState:
        """Where the job stands now, its process looked for: a job said to run whose process is gone is interrupted."""
        state = JobState.read(self.folder)
        while state.is_live and not (state.process and state.process.process()):
            again = JobState.read(self.folder)
            if again == state:
                begun = state.status is not Status.QUEUED
                status, what = (
                    (Status.INTERRUPTED, "ended unexpectedly") if begun else (Status.FAILED, "could not start")
                )
                return replace(state, status=status, message=f"{what}: {last_log_line(self.folder / 'log.txt')}")
            state = again  # it ended well, or was started again, while its process was looked for
        return state

    @property
    def status(self) -> Status:
        """Where the job stands now, in one word."""
        return self.state.status

    def start(self) -> None:
        """Do the job in a process of its own, at lowered priority; it outlives this one.

        After an interruption, a cancel or a failure this continues in the same folder.

        Raises
        ------
        JobError
            If the job runs already or is done, nothing here does jobs of its kind, or its folder cannot be written; the
            state is then as it was.
        """
        if self.kind not in PROGRAMS:
            raise JobError(f"{self.folder}: this napari-dala does no jobs of kind {self.kind[:40]!r}; start a new job")
        _refuse_all_but_files(self.folder)
        self._check_startable()
        with run_lock(self.folder, _PATIENCE_S):
            self._check_startable()
            log = self.folder / "log.txt"
            with job_errors(log):
                (self.folder / "control").unlink(missing_ok=True)
                output = open_to_append(log)
            command = (sys.executable, *PROGRAMS[self.kind], str(self.folder))
            try:
                with output:
                    process = start_detached(command, self.folder, output)
            except OSError as error:
                raise JobError(f"{command[0]}: cannot be run ({error.strerror or error})") from error
            try:
                JobState(Status.QUEUED, "starting", ProcessMark.of(process.pid)).write(self.folder)
            except BaseException:
                process.kill()
                process.wait()
                raise
        # Waited for, it leaves no zombie and Popen has nothing to warn of.
        threading.Thread(target=process.wait, daemon=True, name="dala-job").start()

    def pause(self) -> None:
        """Ask the process to hold still after the batch it is at; `JobError` if none runs."""
        state = self.state
        if not state.is_live:
            raise JobError(f"{self.folder}: this job is {state.status}, there is nothing to pause")
        self._ask("pause")

    def resume(self) -> None:
        """Go on: a paused job in its process, one that has stopped before its end in a new one."""
        if self.state.is_live:
            self._ask("resume")
        else:
            self.start()

    def cancel(self) -> None:
        """Ask the process to stop after the batch it is at; without one, give up a queued or interrupted job."""
        state = self.state
        if state.is_live:
            self._ask("cancel")
        elif state.status in (Status.QUEUED, Status.INTERRUPTED):
            with run_lock(self.folder):
                sweep_job(self.folder)
                replace(state, status=Status.CANCELLED, message="").write(self.folder)

    def kill(self) -> None:
        """End a process that does not answer, and its children, at once; a job that had begun is then interrupted."""
        state = self.state
        process = state.process.process() if state.is_live and state.process else None
        if process is None:
            return
        with contextlib.suppress(psutil.Error):
            family = [process, *process.children(recursive=True)]
            for one in family:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            psutil.wait_procs(family, timeout=5)

    def wait(self, timeout: float | None = None) -> Status:
        """Wait until the job no longer runs, `timeout` seconds at most, and return where it stands then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (state := self.state).is_live and (deadline is None or time.monotonic() < deadline):
            time.sleep(_POLL_S)
        return state.status

    def events(self, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Return what the process has reported, and where to read on.

        Parameters
        ----------
        since
            The offset that the last call returned; 0 for everything.

        Returns
        -------
        events : list of dict
            Each with the "time" (seconds since 1970) it was reported at. A line that is half-written is not among them.
        offset : int
            In bytes, for the next call.
        """
        path = self.folder / "progress.jsonl"
        data = b""
        with job_errors(path), contextlib.suppress(FileNotFoundError), open_to_read(path) as file:
            file.seek(since)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            with contextlib.suppress(JobError):  # a power cut may leave anything
                event = parse_json(line, path.name, JobError)
                if isinstance(event, dict):
                    events.append(event)
        return events, since + len(whole)

    def _check_startable(self) -> None:
        state = self.state
        if state.is_live:
            raise JobError(f"{self.folder}: this job is {state.status} already")
        if state.status is Status.DONE:
            raise JobError(f"{self.folder}: this job is done; make a new one to go further")

    def _ask(self, request: str) -> None:
        path = self.folder / "control"
        with job_errors(path):
            write_text(path, request)


def jobs_in(folder: str | Path, on_skip: Callable[[str], object] = _log.warning) -> list[Job]:
    """Return the jobs whose folders lie in `folder`, newest first.

    Parameters
    ----------
    folder
        May be absent.
    on_skip
        Told, in one line, about each damaged folder that is left out.
    """
    jobs = []
    folder = Path(folder)
    with job_errors(folder):
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
    for one in inside:
        if one.is_dir() and not one.name.startswith("."):
            try:
                jobs.append(Job.open(one))
            except JobError as error:
                on_skip(str(error))
    return sorted(jobs, key=lambda job: job.created, reverse=True)


def sweep_job(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a job's folder."""
    for inside in (folder, *(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())):
        sweep(inside)


def _sweep_unfinished(folder: Path) -> None:
    """Remove what a process that was killed while it made a job left in the folder of jobs."""
    for one in folder.iterdir() if folder.is_dir() else ():
        if _UNFINISHED.fullmatch(one.name) and (one / "lock").is_file():
            with contextlib.suppress(JobError), run_lock(one):
                shutil.rmtree(one, ignore_errors=True)


def _refuse_all_but_files(folder: Path) -> None:
    """Raise `JobError` where a job's folder, or a folder in it, holds a link, a FIFO, a socket or a device."""
    with job_errors(folder):
        for path in (*folder.glob("*"), *folder.glob("*/*")):
            with contextlib.suppress(FileNotFoundError):  # the temporary file of a process that is at work
                mode = path.lstat().st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    what = "a link" if stat.S_ISLNK(mode) else "not an ordinary file"
                    raise JobError(f"{path}: {what}, in the folder of a job, which is not used so; remove it")
