"""Closing napari, killing the child: nothing crashes, nothing is lost, and torch never enters napari's process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from napari_dala.analysis.result import Analysis
from napari_dala.slide import open_slide
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from pathlib import Path


def begin(qtbot: Any, docks: Any, slide: Path) -> Any:
    docks.viewer.open(slide, plugin="napari-dala")
    docks.analyze.run_button.click()
    results = docks.analyze._session
    qtbot.waitUntil(lambda: results.results and results.results.analysis.analysed.any(), timeout=120_000)
    return results.results.analysis


def test_close_the_window_mid_run_and_go_on(qtbot: Any, docks: Any, large_slide: Path, child: Any) -> None:
    begin(qtbot, docks, large_slide)
    run = docks.analyze._run
    docks.viewer.close()
    assert not run.is_running
    ended = []
    child.told.connect(lambda number, name, payload: ended.append((number, name)))
    qtbot.waitUntil(lambda: (run._request, "result") in ended, timeout=60_000)
    analysis = Analysis.open(slide_folder(open_slide(large_slide).fingerprint) / "analyses")
    summary = analysis.summary()
    assert summary.analysed > 0
    assert summary.todo > 0
    assert np.isfinite(analysis.cam(1)).sum() == summary.analysed * 49


def test_a_killed_child_is_reported_and_run_goes_on(
    qtbot: Any, docks: Any, large_slide: Path, child: Any, finished: Any
) -> None:
    before = begin(qtbot, docks, large_slide).probability.copy()
    process = psutil.Process(child._child._process.pid)
    process.kill()
    finished(docks.analyze)
    assert "analysis process ended" in docks.analyze.error.text()
    docks.analyze.run_button.click()
    qtbot.waitUntil(lambda: docks.analyze._run._shown, timeout=120_000)
    assert docks.analyze.error.text() == ""
    after = docks.analyze._session.results.analysis.probability
    was = np.isfinite(before)
    np.testing.assert_array_equal(after[was], before[was])
    docks.analyze.cancel_button.click()
    finished(docks.analyze)


FRESH = """
import sys, time
from pathlib import Path
import napari
from qtpy.QtWidgets import QApplication

def wait(until, seconds=200):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.01)

viewer = napari.Viewer(show=True)
viewer.open(sys.argv[1], plugin="napari-dala")
_, analyze = viewer.window.add_plugin_dock_widget("napari-dala", "Analyze slide")
_, explain = viewer.window.add_plugin_dock_widget("napari-dala", "Explain", tabify=True)
analyze.run_button.click()
wait(lambda: not analyze.is_running)
assert not analyze.error.text(), analyze.error.text()
explain.strength.setValue(0.5)
explain.explain_at((280, 280))
assert "benign" in explain.probabilities.text()
wait(lambda: viewer.window._qt_window.isVisible())
{end}
foreign = {{"torch", "torchvision", "triton"}} & set(sys.modules)
assert not foreign, foreign
print("fine")
"""


def fresh(slide: Path, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRESH.format(end=end), str(slide)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout.strip().endswith("fine"), done.stderr[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_fresh_process_opens_the_window_first_then_analyses(qapp: Any, small_slide: Path) -> None:
    fresh(small_slide, "viewer.close(); QApplication.processEvents()")


def test_the_process_may_end_without_closing_anything(qapp: Any, small_slide: Path) -> None:
    fresh(small_slide, "analyze._session.layer.metadata['dala_slide']; analyze.run_button.click()")
