"""A process that outlives the one that started it, and how to know it again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import psutil

from napari_dala.files import open_to_read

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLOCK_S = 2.0  # between two readings of one create time

_TAIL = 4096  # bytes of a log that are searched for its last line

_FLAGS = 0
if sys.platform == "win32":
    # A hidden console, not none: with none each data loader worker would open a window.
    _FLAGS = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS


@dataclass(frozen=True)
class ProcessMark:
    """A process of this machine that no other is taken for, once its pid is given out again.

    Attributes
    ----------
    pid
        Process id.
    created
        When the process started, seconds since 1970.
    start
        When it started, by a clock that nobody sets, and since which boot; None where the system tells only `created`,
        which it then does not change when the clock is set.
    """

    pid: int
    created: float
    start: str | None = None

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """Mark the process that has this id now, or had it a moment ago."""
        try:
            return cls(pid, psutil.Process(pid).create_time(), _start(pid))
        except psutil.NoSuchProcess:
            return cls(pid, time.time())

    def process(self) -> psutil.Process | None:
        """Return the process while it lives, else None; a zombie does not live."""
        try:
            found = psutil.Process(self.pid)
            if self.start is not None:
                same = _start(self.pid) == self.start
            else:
                same = abs(found.create_time() - self.created) < _CLOCK_S
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, ValueError, OverflowError):  # a state file may say anything
            return None


def _start(pid: int) -> str | None:
    """Return a process's start in ticks since the boot, and the boot's name; None where it is gone or not Linux.

    The create times of Linux are these ticks on top of the boot's time, which moves whenever the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {int(fields[19])}"
    except (OSError, IndexError):
        return None


def start_detached(command: Sequence[str], folder: Path, log: BinaryIO) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, at lowered priority.

    Parameters
    ----------
    command
        The program and its arguments.
    folder
        Where it runs; nothing in there is taken for a Python module.
    log
        Its standard output and error go here.

    Raises
    ------
    OSError
        If the program cannot be run.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        creationflags=_FLAGS,
    )
    lower_priority(process.pid)
    return process


def lower_priority(pid: int) -> None:
    """Let a process that was just started, and all that it will start, run where others leave the processor idle.

    The analysis and the learning jobs do so alike: neither starves the other, and the window comes before both.
    """
    with contextlib.suppress(psutil.Error, OSError):  # one that has died already is heard of
        psutil.Process(pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else 19)
        if sys.platform == "linux":  # whoever wakes up takes the processor from it at once
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def last_log_line(log: Path) -> str:
    """Say what the last line of a log is."""
    line = ""
    with contextlib.suppress(OSError), open_to_read(log) as file:
        line = last_line(file)
    return f"{log.name} ends with “{line}”" if line else f"{log.name} is empty"


def last_line(file: BinaryIO) -> str:
    """Return the last line that says something, among the last 4096 bytes of an open file; else nothing."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    lines = (line.strip() for line in reversed(file.read().decode(errors="replace").splitlines()))
    return next((line for line in lines if line), "")
