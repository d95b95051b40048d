"""The writing thread: the first thing at once, the others together, failures told."""

from __future__ import annotations

import threading
import time

import pytest

from napari_dala.analysis import writing
from napari_dala.analysis.writing import Writer


def test_the_first_is_written_at_once_and_what_follows_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "WRITE_EVERY", 60)
    written: list[list[int]] = []
    first = threading.Event()

    def write(items: list[int]) -> None:
        written.append(items)
        first.set()

    start = time.monotonic()
    with Writer(write) as writer:
        writer.put(0)
        assert first.wait(10)
        for item in range(1, 6):
            writer.put(item)
        assert written == [[0]], "the others wait"
    assert written == [[0], [1, 2, 3, 4, 5]], "but not at the end"
    assert time.monotonic() - start < 30


def test_what_waits_is_written_though_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "WRITE_EVERY", 0.05)
    second = threading.Event()
    with Writer(lambda items: second.set() if 2 in items else None) as writer:
        writer.put(1)
        writer.put(2)
        assert second.wait(10), "a paused analysis shows what it has found"


def fail(_items: list[int]) -> None:
    raise OSError("disk full")


def put_all(writer: Writer[int], count: int, given: list[int]) -> None:
    with writer:
        for item in range(count):
            writer.put(item)
            given.append(item)
            time.sleep(0.01)


@pytest.mark.parametrize("count", [1, 1000])
def test_a_failure_is_raised_and_nothing_more_is_taken(count: int) -> None:
    given: list[int] = []
    with pytest.raises(OSError, match="disk full"):
        put_all(Writer(fail), count, given)
    assert len(given) < 1000


def put_and_fail(writer: Writer[int]) -> None:
    with writer:
        writer.put(1)
        raise ValueError("reader")


def test_another_failure_is_not_hidden_and_what_was_given_is_written() -> None:
    written: list[int] = []
    with pytest.raises(ValueError, match="reader"):
        put_and_fail(Writer(written.extend))
    assert written == [1]
