"""Writing in a thread of its own, several things together: what comes while it waits is written with the next."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Item = TypeVar("Item")
WRITE_EVERY = 0.25  # seconds; what a crash costs at most, and how far behind a reader of the store may be
_WAITING = 256  # blocks, some 90 MB; more and the network waits for the disk


class Writer(Generic[Item]):
    """A thread that is given things one by one and writes all that are waiting at once, the first without delay.

    Parameters
    ----------
    write
        Writes some things, in the order in which they were given; called from the thread. Its failure is raised by
        `put`, or at the end.
    """

    def __init__(self, write: Callable[[list[Item]], None]) -> None:
        self._write = write
        self._waiting: deque[Item] = deque()
        self._writes: deque[Future[None]] = deque()
        self._ended = threading.Event()
        self._next = 0.0

    def __enter__(self) -> Writer[Item]:
        self._pool = ThreadPoolExecutor(1, "dala-writer")
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._pool.shutdown()
        if failure is None:
            self._raise_failures(0)

    def put(self, item: Item) -> None:
        """Give something away; wait while too much is waiting."""
        self._waiting.append(item)
        self._writes.append(self._pool.submit(self._write_waiting))
        self._raise_failures(_WAITING)

    def _raise_failures(self, left: int) -> None:
        while len(self._writes) > left or (self._writes and self._writes[0].done()):
            self._writes.popleft().result()

    def _write_waiting(self) -> None:
        if not self._waiting:
            return
        self._ended.wait(max(0.0, self._next - time.monotonic()))
        items = [self._waiting.popleft() for _ in range(len(self._waiting))]
        self._write(items)
        self._next = time.monotonic() + WRITE_EVERY
