"""A slide read by another process into memory that both share: Python's lock, which threads wait for, is not shared."""

from __future__ import annotations

import logging
import mmap
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.slide.open import open_quietly

if TYPE_CHECKING:
    from typing import IO

    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide

_DONE, _FAILED = b"+", b"-"
_log = logging.getLogger(__name__)


class ReaderProcess:
    """Reads a slide as `Slide.read_into` does. What the process does not do, this one does: it says what is wrong.

    Until the process has started, for the length of an import, this one reads too. For Linux.

    Parameters
    ----------
    slide
        With a file and with its halves; its process opens that anew.

    Raises
    ------
    OSError
        When the system gives no further process.
    """

    def __init__(self, slide: Slide) -> None:
        assert slide.file is not None
        self._slide = slide
        self._memory = _SharedMemory(os.memfd_create("dala-pixels"))
        profile = "icc" if slide.profile is not None else "stored"
        command = [sys.executable, "-m", __name__, str(slide.file), str(self._memory.file), profile, _known_by(slide)]
        try:
            self._process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[self._memory.file],
            )
        except OSError:
            os.close(self._memory.file)
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN | select.POLLHUP)
        self._has_begun = self._is_lost = False

    @classmethod
    def can_read(cls, slide: Slide) -> bool:
        """Return whether a process should have this slide: it has a file, and not to be decoded whole.

        The system must share memory by a handle.
        """
        return slide.file is not None and not slide.is_photograph and hasattr(os, "memfd_create")

    def read_into(self, out: NDArray[np.uint8], x: int, y: int, level: int = 0) -> None:
        """See `Slide.read_into`."""
        if not self._has_read(out, x, y, level):
            self._slide.read_into(out, x, y, level)

    def _has_read(self, out: NDArray[np.uint8], x: int, y: int, level: int) -> bool:
        if not self._has_begun and not self._is_lost and self._poll.poll(0):
            self._has_begun = self._is_done()
        if self._is_lost or not self._has_begun:
            return False
        pixels = self._memory.picture(out.shape[1], out.shape[0])
        with suppress(BrokenPipeError):
            self._requests.write(f"{x} {y} {out.shape[1]} {out.shape[0]} {level}\n".encode())
        if not self._is_done():
            return False
        out[:] = pixels
        return True

    def _is_done(self) -> bool:
        """Take an answer; a process that says anything else, or nothing, is asked no more."""
        answer = self._answers.read(1)
        if answer not in (_DONE, _FAILED):
            _log.warning("A process that should read %s has failed; the slide is read without it", self._slide.name)
            self._is_lost = True
            self._process.kill()
        return answer == _DONE

    def close(self) -> None:
        """End the process, whatever it is at."""
        self._requests.close()
        self._process.terminate()
        self._process.wait()
        self._answers.close()
        os.close(self._memory.file)

    def __enter__(self) -> ReaderProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _SharedMemory:
    """Memory behind an open file that grows as it is asked for."""

    def __init__(self, file: int) -> None:
        self.file = file
        self._bytes = np.empty(0, np.uint8)

    def picture(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return its first bytes as pixels, (height, width, 3) uint8."""
        count = width * height * 3
        if count > len(self._bytes):
            if count > os.fstat(self.file).st_size:
                os.ftruncate(self.file, count)
            self._bytes = np.frombuffer(mmap.mmap(self.file, count), np.uint8)
        return self._bytes[:count].reshape(height, width, 3)


def read_for(slide: Slide, memory: int, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Read what is asked for until nobody asks any more.

    Parameters
    ----------
    slide
        To read.
    memory
        Handle of the file whose memory is shared.
    requests
        A line each: x and y in level-0 px, width and height in px of the level, the level.
    answers
        A byte once the slide is open, and one for each request: whether its pixels are there.
    """
    shared = _SharedMemory(memory)
    answers.write(_DONE)
    for line in requests:
        x, y, width, height, level = map(int, line.split())
        answer = _FAILED
        with suppress(Exception):  # the other process reads it again, and says what is wrong
            slide.read_into(shared.picture(width, height), x, y, level)
            answer = _DONE
        answers.write(answer)


def _known_by(slide: Slide) -> str:
    """Return what two processes must agree on, so that the same request means the same pixels."""
    return f"{slide.fingerprint} {slide.levels}"


if __name__ == "__main__":
    path, handle, colours, known = sys.argv[1:]
    answering = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    opened = open_quietly(Path(path), icc_profile=colours == "icc").with_halves()
    if _known_by(opened) == known:
        with suppress(BrokenPipeError, KeyboardInterrupt):
            read_for(opened, int(handle), sys.stdin.buffer, answering)
