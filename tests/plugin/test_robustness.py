"""Closing napari, killing the child: nothing crashes, nothing is lost, and torch never enters napari's process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from napari_dala.results.analysis import Analysis
from napari_dala.slide import open_slide
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from pathlib import Path


def begin(qtbot: Any, docks: Any, slide: Path) -> Any:
    docks.viewer.open(slide, plugin="napari-dala")
    docks.analyze.run_button.click()
    results = docks.analyze._session
    qtbot.waitUntil(lambda: results.results is not None and results.results.analysis.analysed.any(), timeout=120_000)
    return results.results.analysis


def test_close_the_window_mid_run_and_go_on(
    qtbot: Any, docks: Any, large_slide: Path, child: Any, make_napari_viewer: Any
) -> None:
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

    viewer = make_napari_viewer(show=True)
    viewer.open(large_slide, plugin="napari-dala")
    _, analyze = viewer.window.add_plugin_dock_widget("napari-dala", "Analyze slide")
    assert "has run on this slide before" in analyze.offer.text()
    analyze.run_button.click()
    qtbot.waitUntil(lambda: analyze._session.results is not None, timeout=60_000)
    resumed = analyze._session.results.analysis
    was = np.isfinite(analysis.probability)
    np.testing.assert_array_equal(resumed.probability[was], analysis.probability[was])
    qtbot.waitUntil(lambda: resumed.summary().analysed > summary.analysed, timeout=60_000)


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
import napari
import numpy as np
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
wait(lambda: analyze._session.results is not None and analyze._session.results.analysis.analysed.any())
results = analyze._session.results
explain.strength.setValue(0.5)
explain.explain_at(results.probability.data_to_world(np.argwhere(results.analysis.analysed)[0]))
assert "benign" in explain.probabilities.text()
assert analyze.is_running
foreign = {"torch", "torchvision", "triton"} & set(sys.modules)
assert not foreign, foreign
print("fine")
"""


def test_a_fresh_process_opens_the_window_analyses_and_ends_mid_run(qapp: Any, large_slide: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(large_slide)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout.strip().endswith("fine"), done.stderr[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]
