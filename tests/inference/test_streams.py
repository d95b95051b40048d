"""Several batches at a time: in order, each on one thread, and nothing lost."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from napari_dala.inference.streams import Streams

CPU = torch.device("cpu")


def test_results_come_in_order_and_batches_run_side_by_side() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    together = threading.Barrier(2, timeout=30)  # passed only where two batches are in hand at once
    threads: list[int] = []

    def run(batch: int) -> int:
        threads.append(torch.get_num_threads())
        together.wait()
        time.sleep(0.05 * (batch % 2 == 0))  # the earlier one of a pair is done last
        return batch * batch

    try:
        with Streams(CPU, run) as streams:
            found = [one for batch in range(6) for one in streams.submit(f"tag {batch}", batch)]
            found += streams.rest()
        assert found == [(f"tag {batch}", batch * batch) for batch in range(6)]
        assert set(threads) == {1}
        assert torch.get_num_threads() == 2, "given back"
    finally:
        torch.set_num_threads(before)


def test_no_more_than_one_batch_a_thread_waits() -> None:
    free = threading.Event()
    with Streams(CPU, lambda batch: free.wait(30)) as streams:
        for batch in range(streams.count):
            assert not list(streams.submit(batch, batch))
        threading.Timer(0.2, free.set).start()
        start = time.perf_counter()
        assert next(streams.submit(streams.count, 0)) == (0, True)
        assert time.perf_counter() - start > 0.1


def test_a_failure_is_raised_and_idle_threads_are_counted() -> None:
    def fail(batch: int) -> None:
        raise ValueError(batch)

    with Streams(CPU, fail) as streams:
        time.sleep(0.1)
        with pytest.raises(ValueError, match="7"):
            _ = [*streams.submit(None, 7), *streams.rest()]
        assert 0.5 < streams.stalled <= 1
