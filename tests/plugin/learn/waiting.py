"""Waiting for what the learning dock does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_dala.jobs.state import Status

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 240_000  # ms, on a busy machine


def until(qtbot: Any, panel: Any, condition: Callable[[], object]) -> None:
    """Wait for a condition, and for no longer than until the panel says that something went wrong."""
    learning = panel.learning

    def trouble() -> str:
        failed = learning.status is Status.FAILED
        return learning.problem or panel.error.text() or (learning.message if failed else "")

    qtbot.waitUntil(lambda: bool(condition() or trouble()), timeout=LONG)
    assert not trouble()
