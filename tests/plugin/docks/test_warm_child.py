"""The child process behind the docks: its events come to the main thread, and it can die, come back and end."""

from __future__ import annotations

import threading
from typing import Any

import psutil
from napari_dala.plugin.warm_child import WarmChild
from qtpy.QtCore import QObject

PATIENCE_MS = 120_000


def test_events_arrive_in_the_main_thread_and_a_dead_child_comes_back(qtbot: Any) -> None:
    heard: list[tuple[int, str, dict[str, Any], threading.Thread]] = []
    child = WarmChild()
    child.told.connect(lambda *event: heard.append((*event, threading.current_thread())))
    dock = QObject()
    child.hold(dock)
    try:
        qtbot.waitUntil(lambda: bool(child.about), timeout=PATIENCE_MS)
        assert heard[0][:2] == (0, "ready")
        assert heard[0][3] is threading.main_thread()
        assert {"device", "precision"} <= set(child.about)

        process = psutil.Process(child._child._process.pid)
        process.kill()
        qtbot.waitUntil(lambda: heard[-1][1] == "died", timeout=PATIENCE_MS)
        assert child.about == {}

        number = child.request("devices")
        qtbot.waitUntil(lambda: (number, "result") == heard[-1][:2], timeout=PATIENCE_MS)
        assert heard[-1][2]["devices"]
    finally:
        dock.deleteLater()
        qtbot.waitUntil(lambda: child._child is None, timeout=5000)
    qtbot.waitUntil(lambda: not any(thread.name == "dala-closing" for thread in threading.enumerate()), timeout=20_000)
    assert not [process for process in psutil.Process().children() if "analysis.worker" in " ".join(process.cmdline())][
        1:
    ]
