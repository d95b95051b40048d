"""An analysis that gives way to who moves the view: for a moment, never for long, and not where it would not help."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from napari_dala.analysis import control as module, worker
from napari_dala.analysis.control import RunControl

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(run: Callable[[], object]) -> float:
    start = time.monotonic()
    run()
    return time.monotonic() - start


def test_it_holds_as_long_as_was_said_and_no_longer() -> None:
    control = RunControl()
    control.give_way(0.3)
    assert seconds(control.wait_while_paused) >= 0.25
    assert seconds(control.wait_while_paused) < 0.2


def test_who_wanders_on_and_on_still_gets_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_WAY_S", 0.3)
    control = RunControl()
    control.give_way(60)
    assert 0.25 <= seconds(control.wait_while_paused) < 10


def test_a_cancel_ends_it() -> None:
    control = RunControl()
    control.give_way(60)
    control.cancel()
    assert seconds(control.wait_while_paused) < 1


@pytest.mark.parametrize(("cores", "device", "held"), [(2, "cpu", True), (4, "auto", True), (5, "cpu", False)])
def test_a_new_view_makes_it_give_way_on_few_cores(
    cores: int, device: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "usable_cores", lambda: cores)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    control = RunControl()
    worker._steer(control, device, "look_at", {"view": [0, 0, 10, 10]})
    assert control.view == (0, 0, 10, 10)
    assert (seconds(control.wait_while_paused) > 0.2) == held
