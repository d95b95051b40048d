"""Several batches in the network at a time, their results in the order in which they were given."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Tag = TypeVar("Tag")
Result = TypeVar("Result")


class Streams(Generic[Tag, Result]):
    """Threads that each take one batch at a time through a network.

    On the processor there is one for each of torch's threads, and each computes with one thread: nobody waits for
    another at the end of every layer, so that a reader that takes some time from one core costs that time and no more.
    On a GPU there are two, each with a CUDA stream: while one computes, the other's tiles and results are on their way.

    Parameters
    ----------
    device
        Where the network is.
    run
        Takes a batch through it, and returns when the result is there.
    """

    def __init__(self, device: torch.device, run: Callable[[Any], Result]) -> None:
        self.device, self._run = device, run
        self._threads = torch.get_num_threads()
        self.count = {"cpu": self._threads, "cuda": 2}.get(device.type, 1)
        self._running: deque[tuple[Tag, Future[Result]]] = deque()
        self._busy = 0.0  # seconds, of all threads together

    def __enter__(self) -> Streams[Tag, Result]:
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(self.count, "dala-network", begin_thread, (self.device,))
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self.device.type == "cpu":
            torch.set_num_threads(self._threads)

    def submit(self, tag: Tag, batch: Any) -> Iterator[tuple[Tag, Result]]:
        """Give a batch away; yield what is done, and wait while more would queue up than one for each thread."""
        self._running.append((tag, self._pool.submit(self._timed, batch)))
        while self._running and (len(self._running) > self.count or self._running[0][1].done()):
            yield self._next()

    def rest(self) -> Iterator[tuple[Tag, Result]]:
        """Yield the results of all batches that were given away."""
        while self._running:
            yield self._next()

    @property
    def stalled(self) -> float:
        """Part of the threads' time since the beginning in which they had no batch, 0 to 1."""
        return max(0.0, 1 - self._busy / (self.count * (time.perf_counter() - self._start)))

    def _timed(self, batch: Any) -> Result:
        start = time.perf_counter()
        try:
            return self._run(batch)
        finally:
            self._busy += time.perf_counter() - start

    def _next(self) -> tuple[Tag, Result]:
        tag, result = self._running.popleft()
        return tag, result.result()


def begin_thread(device: torch.device) -> None:
    """Make a thread ready: how many threads and which stream torch takes, it knows for each thread."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    elif device.type == "cuda":
        torch.cuda.set_stream(torch.cuda.Stream(device))


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what this thread gave it, so that other threads can use the results."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
