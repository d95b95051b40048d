"""`dala bench --gui`: how late napari's event loop is while a slide is panned, alone and beside our work."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import shapely
from npe2 import PluginManager

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import write_annotations
from napari_dala.errors import DalaError
from napari_dala.plugin.bench.callback_times import CallbackTimes
from napari_dala.plugin.bench.event_loop import TURN_S, CameraPath, LatencyProbe, failures, wait_until
from napari_dala.plugin.preferences import PLUGIN
from napari_dala.plugin.viewer.session import session_of
from napari_dala.slide import open_slide
from napari_dala.training.finetune.job import FinetuneConfig, FinetuneSettings, SlideExamples
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_dala.plugin.analyze.dock import AnalyzeWidget
    from napari_dala.plugin.learn.learning import Learning

STATES = ("alone", "analysis", "job")
WINDOW = (1600, 1000)
_LEAST_S = 2.0  # of a state; a shorter one says nothing
_WORST = 12  # callbacks that are listed


class Bench:
    """One window with a slide and our docks, put into each state in turn.

    Parameters
    ----------
    slide
        Its file.
    model
        Name of a bundle in the dock's list.
    seconds
        How long each state is measured.
    """

    def __init__(self, slide: Path, model: str, seconds: float) -> None:
        self._path, self._model, self._seconds = slide, model, seconds
        self.times = CallbackTimes()
        self._stack = ExitStack()
        self._stack.enter_context(self.times)
        self._stack.enter_context(failures())
        self.viewer = napari.Viewer(title="napari-dala: bench")
        self._stack.callback(self.viewer.close)
        self.viewer.window.resize(*WINDOW)
        (self.layer,) = self.viewer.open(slide, plugin=PLUGIN)
        self.docks: dict[str, Any] = {}
        for widget in PluginManager.instance().get_manifest(PLUGIN).contributions.widgets or ():
            _, self.docks[widget.display_name] = self.viewer.window.add_plugin_dock_widget(
                PLUGIN, widget.display_name, tabify=bool(self.docks)
            )
        self.analyze: AnalyzeWidget = self.docks["Analyze slide"]
        self.analyze.model_box.setCurrentText(model)
        if not self.analyze.run_button.isEnabled():
            raise DalaError(f"{slide.name}: cannot be analysed with {model}; choose a slide that says its resolution")
        self._heart, self._wanderer = LatencyProbe(), CameraPath(self.viewer, self.layer)
        self._draws = 0
        self.viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(self._count)
        opened = session_of(self.viewer).open_slide()
        assert opened is not None
        self._fingerprint = opened.fingerprint

    def close(self) -> None:
        """Close the window."""
        self._stack.close()

    def warm_up(self) -> None:
        """Walk the path once, so that every round finds the same pixels cached, and wait for the child's model."""
        wait_until(lambda: bool(self.analyze._child.about))
        self._measure()
        self.times.calls.clear()

    def measure(self, state: str) -> dict[str, float]:
        """Put the window into a state, pan it, and return how late the event loop was and how often it drew."""
        with getattr(self, f"_{state}")() as goes_on:
            return self._measure(goes_on)

    @contextmanager
    def _alone(self) -> Iterator[Callable[[], bool]]:
        """Show the slide, and docks that do nothing."""
        yield lambda: True

    @contextmanager
    def _analysis(self) -> Iterator[Callable[[], bool]]:
        """Analyse from the beginning, and let the layers fill; hide them afterwards."""
        session = session_of(self.viewer)
        before = session.results
        self._show(True)  # for new results are shown as those before were
        shutil.rmtree(slide_folder(self._fingerprint) / "analyses", ignore_errors=True)
        self.analyze.run()
        wait_until(lambda: session.results is not before or not self.analyze.is_running)
        try:
            yield lambda: self.analyze.is_running
        finally:
            self.analyze.cancel()
            wait_until(lambda: not self.analyze.is_running)
            self._show(False)

    def _show(self, visible: bool) -> None:
        """Show or hide the results; Mesa 22.3 crashes when two pictures are removed at once and one is left."""
        results = session_of(self.viewer).results
        for layer in () if results is None else (results.probability, results.cam):
            layer.visible = visible

    @contextmanager
    def _job(self) -> Iterator[Callable[[], bool]]:
        """Train all of the network's layers on rectangles of the slide, in a job that the dock starts and follows."""
        learning: Learning = self.docks["Annotate & learn"].learn.learning
        with tempfile.TemporaryDirectory() as folder:
            learning.begin(self._lesson(Path(folder)))
            wait_until(lambda: learning.job is not None or bool(learning.problem))
            job = learning.job
            if job is None:
                raise DalaError(learning.problem)
            wait_until(lambda: bool(job.events()[0]) or not job.state.is_live)
            if not job.state.is_live:
                raise DalaError(f"the learning job ended: {job.state.message}")
            try:
                yield lambda: job.state.is_live
            finally:
                job.kill()
                wait_until(lambda: not learning.is_live)
                learning.cancel()  # nobody will resume it
                wait_until(lambda: learning.job is None)

    def _lesson(self, folder: Path) -> FinetuneConfig:
        width, height = self.layer.metadata["dala_slide"].dimensions
        entry = self.analyze.entry
        assert entry is not None
        assert entry.card is not None
        names = entry.card.class_names
        edges = np.linspace(0.2, 0.8, len(names) + 1) * width
        drawn = [
            Annotation.drawn(shapely.box(left, 0.3 * height, right, 0.7 * height), name)
            for name, left, right in zip(names, edges, edges[1:], strict=False)
        ]
        classes = tuple(AnnotationClass(each.name, each.color) for each in entry.card.classes)
        write_annotations(AnnotationDocument(self._fingerprint, classes, tuple(drawn)), folder / "drawn.geojson")
        return FinetuneConfig(
            name="bench",
            model=str(entry.path or entry.name),
            slides=(SlideExamples(slide=self._path, annotations=folder / "drawn.geojson"),),
            settings=FinetuneSettings(mode="full", epochs=1000),
        )

    def _measure(self, goes_on: Callable[[], bool] = lambda: True) -> dict[str, float]:
        self._draws = 0
        self._wanderer.start()
        self._heart.start()
        begun = time.perf_counter()
        wait_until(lambda: time.perf_counter() - begun > self._seconds or not goes_on())
        seconds = time.perf_counter() - begun
        late = self._heart.stop()
        self._wanderer.stop()
        if seconds < _LEAST_S:
            raise DalaError(f"{self._path.name}: the work is over in {seconds:.1f} s; measure on a larger slide")
        return {
            "median_ms": float(np.median(late)),
            "p95_ms": float(np.percentile(late, 95)),
            "max_ms": float(late.max()),
            "draws_per_s": self._draws / seconds,
            "seconds": seconds,
        }

    def _count(self, event: object) -> None:
        self._draws += 1


def bench_gui(slide: Path, model: str = "default", *, rounds: int = 5, seconds: float = TURN_S) -> dict[str, Any]:
    """Measure the event loop in rounds of napari alone, an analysis and a learning job, in a workspace of its own.

    The docks are open in every state, so that the canvas has the same size; alone they do nothing.

    Parameters
    ----------
    slide
        Large enough to be analysed for `seconds`; it must say its resolution.
    model
        Name of a bundle.
    rounds
        Each has all three states; every other round in the opposite order.
    seconds
        Of each state.

    Returns
    -------
    dict with, for each state, `gui_p95_ms_<state>`, `gui_median_ms_<state>` and `draws_per_s_<state>` (medians over
    the rounds) and `gui_max_ms_<state>`, `ratio_analysis` and `ratio_job` (p95 over that of napari alone, medians
    over the rounds), `callbacks` (name: calls, longest by the clock and of processor time, ms), `rounds`, `cores`.

    Raises
    ------
    DalaError
        When the slide cannot be analysed, or is done too soon.
    """
    open_slide(slide).close()  # what is wrong with it is said before a window opens
    with tempfile.TemporaryDirectory(prefix="dala-bench-") as workspace, _environment(DALA_WORKSPACE=workspace):
        bench = Bench(slide.absolute(), model, seconds)
        try:
            bench.warm_up()
            measured: dict[str, list[dict[str, float]]] = {state: [] for state in STATES}
            for number in range(rounds):
                for state in STATES[:: -1 if number % 2 else 1]:
                    measured[state].append(bench.measure(state))
            return _figures(measured, bench.times)
        finally:
            bench.close()


def _figures(measured: dict[str, list[dict[str, float]]], times: CallbackTimes) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for state, each in measured.items():
        for name, label in (("p95_ms", "gui_p95_ms"), ("median_ms", "gui_median_ms"), ("draws_per_s", "draws_per_s")):
            figures[f"{label}_{state}"] = round(median(one[name] for one in each), 1)
        figures[f"gui_max_ms_{state}"] = round(max(one["max_ms"] for one in each), 1)
    for state in STATES[1:]:
        ratios = [a["p95_ms"] / b["p95_ms"] for a, b in zip(measured[state], measured["alone"], strict=True)]
        figures[f"ratio_{state}"] = round(median(ratios), 3)
    longest = sorted(times.calls.items(), key=lambda item: -max(call.own_s for call in item[1]))[:_WORST]
    figures["callbacks"] = {
        name: {
            "calls": len(calls),
            "longest_ms": round(max(call.wall_s for call in calls) * 1000, 1),
            "longest_cpu_ms": round(max(call.own_s for call in calls) * 1000, 1),
        }
        for name, calls in longest
    }
    return figures | {"rounds": len(measured["alone"]), "cores": os.cpu_count()}


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
