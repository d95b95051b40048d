"""The child process behind the docks: its events come to the main thread, and it can die, come back and end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psutil
from qtpy.QtCore import QObject

from napari_dala.plugin.warm_child import WarmChild

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

STUB = """
from napari_dala.jobs.child import serve
serve({"echo": lambda request, **arguments: arguments}, lambda: {"device": "none", "precision": "fp32"})
"""


def test_events_arrive_in_the_main_thread_and_a_dead_child_comes_back(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stub_worker.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    heard: list[tuple[int, str, dict[str, Any], threading.Thread]] = []
    child = WarmChild("stub_worker")
    child.told.connect(lambda *event: heard.append((*event, threading.current_thread())))
    docks = [QObject(), QObject()]
    for dock in docks:
        child.hold(dock)
    qtbot.waitUntil(lambda: bool(child.about), timeout=20_000)
    assert heard[0][:2] == (0, "ready")
    assert heard[0][3] is threading.main_thread()

    process = psutil.Process(child._child._process.pid)
    process.kill()
    qtbot.waitUntil(lambda: heard[-1][1] == "died", timeout=20_000)
    assert child.about == {}
    number = child.request("echo", answer=42)
    qtbot.waitUntil(lambda: heard[-1][:2] == (number, "result"), timeout=20_000)
    assert heard[-1][2] == {"answer": 42}

    process = psutil.Process(child._child._process.pid)
    for count, dock in enumerate(docks, 1):
        assert process.is_running()
        dock.deleteLater()
        qtbot.waitUntil(lambda count=count: child._holders == len(docks) - count, timeout=5000)
    qtbot.waitUntil(lambda: not process.is_running(), timeout=20_000)
    for thread in threading.enumerate():
        if thread.name == "dala-closing":
            thread.join(20)
    assert heard[-1][1] == "result", "a child that was asked to end does not die"
