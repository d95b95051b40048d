"""While an analysis runs and its layers fill, none of our callbacks holds the window for 50 ms.

Their time is the shorter of the clock's and of this process's processor time, so that other programs do not count, and
of a callback's calls the longest but one is looked at, for a shared machine stalls now and then. `dala bench --gui`
lists the longest by the clock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QApplication

from napari_dala.model.catalog import TEACHING
from napari_dala.plugin.bench.callback_times import CallbackTimes
from napari_dala.plugin.bench.event_loop import CameraPath, LatencyProbe, wait_until
from tests.drawn_slides import write_repeated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timed

MOST_S = 0.05
# Once an analysis napari makes three layers with their controls.
NAPARIS_OWN = {"AnalysisRun._on_loaded", "ResultLayers._enter_next"}


@pytest.fixture(scope="module")
def wide_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn slide of 24 x 24 tiles of the drawing's model."""
    return write_repeated(tmp_path_factory.mktemp("slides") / "wide.tif", 4300)


@pytest.fixture
def times() -> Iterator[CallbackTimes]:
    with CallbackTimes() as times:
        yield times


def test_no_callback_holds_the_window_while_an_analysis_fills_its_layers(
    times: CallbackTimes, docks: Any, wide_slide: Path, qtbot: Any, finished: Any
) -> None:
    docks.viewer.open(wide_slide, plugin="napari-dala")
    session, camera = docks.analyze._session, docks.viewer.scene.camera
    docks.analyze.model_box.choose_card(TEACHING)  # whose tiles are small: there are some hundreds

    def pan() -> None:
        if time.monotonic() % 3 > 1:
            return  # the analysis gives way to a view that moves
        x, y = camera.center[-2:]
        camera.center = (0.0, x + 2, y - 2) if x < 1600 else (0.0, 600, 1600)

    panning = QTimer()
    panning.timeout.connect(pan)
    panning.start(30)
    times.calls.clear()
    for tiles in (50, 100):  # the second time the analysis goes on from what is there
        docks.analyze.run_button.click()
        run = docks.analyze._run
        qtbot.waitUntil(lambda run=run: run._shown, timeout=120_000)
        enough = session.results.analysis
        qtbot.waitUntil(lambda enough=enough, tiles=tiles: enough.analysed.sum() >= tiles, timeout=120_000)
        docks.analyze.cancel_button.click()
        finished(docks.analyze)
    panning.stop()
    assert {"AnalysisRun._on_blocks", "AnalysisRun._on_event", "AnalysisRun._look"} <= set(times.calls)
    slow = {}
    for name, calls in times.calls.items():
        seconds = sorted(call.own_s for call in calls)
        if name not in NAPARIS_OWN and seconds[-2:][0] >= MOST_S:
            slow[name] = seconds
    assert not slow


class Bell(QObject):
    """Rings with an argument, as a button does."""

    rung = Signal(bool)


def test_callbacks_are_timed_and_called_as_before(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_dala.plugin.parts import notes

    heard: list[object] = []

    def say(self: object, text: str = "") -> None:
        sum(range(200_000))
        heard.append(text)

    say.__module__, say.__qualname__ = notes.__name__, "Note.say"
    monkeypatch.setattr(notes.Note, "say", say)
    before = vars(notes.Note)["say"]
    with CallbackTimes() as times:
        note, bell = notes.Note("error"), Bell()
        qtbot.addWidget(note)
        heard.clear()
        times.calls.clear()
        bell.rung.connect(note.say)
        bell.rung.emit(True)
        QTimer.singleShot(0, note.say)
        qtbot.waitUntil(lambda: len(heard) == 2)
        assert heard == [True, ""]
        (first, second) = times.calls["Note.say"]
        assert 0 < first.own_s <= first.wall_s
        assert second.own_s > 0
    assert vars(notes.Note)["say"] is before


def test_events_that_are_handled_within_a_callback_are_not_its_own(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_dala.plugin.parts import notes

    def say(self: object, text: str = "") -> None:
        if text:
            time.sleep(0.1)
        else:
            QTimer.singleShot(0, lambda: note.say("within"))
            QApplication.processEvents()

    say.__module__, say.__qualname__ = notes.__name__, "Note.say"
    note = notes.Note("error")
    qtbot.addWidget(note)
    monkeypatch.setattr(notes.Note, "say", say)
    with CallbackTimes() as times:
        note.say()
        within, outer = times.calls["Note.say"]
    assert within.wall_s >= 0.1
    assert outer.wall_s < 0.1
    assert "processEvents" not in vars(QApplication)


def test_the_bench_feels_a_slow_loop_and_draws_the_way_it_wanders(viewer: Any, small_slide: Path) -> None:
    (layer,) = viewer.open(small_slide, plugin="napari-dala")
    heart, wanderer = LatencyProbe(), CameraPath(viewer, layer)
    draws: list[object] = []
    viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(draws.append)
    camera, places = viewer.scene.camera, set()
    stalled = QTimer()
    stalled.setSingleShot(True)
    stalled.timeout.connect(lambda: time.sleep(0.3))
    stalled.start(500)
    wanderer.start()
    heart.start()
    begun = time.monotonic()

    def enough() -> bool:
        places.add((*camera.center[-2:], camera.zoom))
        return time.monotonic() - begun > 3 and len(draws) > 5

    wait_until(enough)
    late = heart.stop()
    wanderer.stop()
    assert late.max() >= 295
    assert (late >= 0).all()
    assert len(places) > 3
    side = layer.extent.world[1]
    assert all(0 < y < side[0] and 0 < x < side[1] for y, x, _ in places)
