"""Time what a user waits for in the real window: a slide, a dock, the first tiles after Run, a slider; prints JSON.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.window m256.tiff [--repeats 3] [--parts open run]
    xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.window m64.tiff --parts whole headless

Every part of every turn has a process and a workspace of its own. Seconds by the clock, beside them those of processor
time of the main thread where it does the work. `dala bench --gui` measures how smooth panning is meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from scripts.screenshots import PLUGIN, SIZE, rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import napari
    from numpy.typing import NDArray

    from napari_dala.plugin.viewer.session import Session
    from napari_dala.results.analysis import Analysis
    from napari_dala.results.progress import Progress
    from napari_dala.slide import Slide

ROOT = Path(__file__).resolve().parents[1]
VIEW_UM = (1000.0, 750.0)  # 2000 x 1500 px at 20x
SIDE = 320  # tiles along the painted analysis: 2240 cells
_POLL_MS = 5


def main() -> None:
    """Measure the parts asked for and print the medians of the turns, and each turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[part for part in PARTS if part not in LONG])
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # in this very process
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(PARTS[asked.part](asked.slide.absolute())), flush=True)
        os._exit(0)  # nobody looks at the window closing
    turns: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(asked.repeats):
        for part in asked.parts:
            for name, value in _in_a_process(part, asked.slide).items():
                turns[name].append(value)
    print(json.dumps({name: {"median": median(each), "turns": each} for name, each in turns.items()}, indent=2))


def _in_a_process(part: str, slide: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as workspace:  # the child may write still
        environment = {**os.environ, "NAPARI_CONFIG": "", "DALA_WORKSPACE": workspace}
        command = [sys.executable, "-m", "benchmarks.window", str(slide.absolute()), "--part", part]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def opening(slide: Path) -> dict[str, float]:
    """Open the slide, the first picture of the process, and once more when all is imported."""
    figures: dict[str, float] = {}
    viewer = _window()
    for name in ("open_first", "open_again"):
        with _timed(figures, name):
            viewer.open(slide, plugin=PLUGIN)
        rest(1.5)
    return figures


def dock(name: str) -> Callable[[Path], dict[str, float]]:
    """Return what opens a dock beside a slide, the first of the process."""

    def opened(slide: Path) -> dict[str, float]:
        from qtpy.QtWidgets import QApplication

        figures: dict[str, float] = {}
        viewer = _window()
        viewer.open(slide, plugin=PLUGIN)
        rest(3)
        with _timed(figures, f"dock {name}"):
            viewer.window.add_plugin_dock_widget(PLUGIN, name)
            QApplication.processEvents()
        return figures

    return opened


def running(slide: Path) -> dict[str, float]:
    """Press Run over 1000 x 750 um in the slide's middle: to the layers, a coloured tile, all tiles of that view."""
    session, opened, begun = _run(slide)
    if opened.mpp is None:
        raise SystemExit(f"{slide}: says nothing of its um/px, so 1000 x 750 um of it mean nothing")
    middle = np.array(opened.dimensions) / 2

    def shown() -> NDArray[np.bool_]:
        results = session.results
        return np.zeros(1, np.bool_) if results is None else np.isfinite(results.probability.data)

    _wait(lambda: session.results is not None)
    figures = {"run_to_layers": time.perf_counter() - begun}
    _wait(lambda: bool(shown().any()))
    figures["run_to_first_tile"] = time.perf_counter() - begun
    analysis = _analysis_of(session)
    starts, sides = analysis.grid.origins(), analysis.grid.tile_size
    columns, rows = (
        np.nonzero(np.abs(start + side / 2 - at) < um / mpp / 2)[0]
        for start, side, at, um, mpp in zip(starts, sides, middle, VIEW_UM, opened.mpp, strict=True)
    )
    view = np.ix_(rows, columns)
    _wait(lambda: bool((shown()[view] | (analysis.status[view] == 3)).all()))
    figures["run_to_view_done"] = time.perf_counter() - begun
    return figures | {"view_tiles": float(shown()[view].sum())}


def whole(slide: Path) -> dict[str, float]:
    """Analyse the whole slide in the window, its layers following: tiles per second from the first on."""
    session, _, _ = _run(slide)
    told: list[Progress] = []
    session.runs[-1].progressed.connect(told.append)
    _wait(lambda: session.results is not None and not session.runs, 3600)
    return {"live_tiles_per_s": told[-1].tiles_per_s}


def headless(slide: Path) -> dict[str, float]:
    """Analyse the whole slide by `dala analyze`: the same rate, of a process without a window."""
    out = Path(os.environ["DALA_WORKSPACE"]) / "out"
    command = [sys.executable, "-m", "napari_dala.cli", "analyze", str(slide), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (record,) = out.glob("*/run.json")
    return {"headless_tiles_per_s": json.loads(record.read_text())["settings"]["tiles_per_s"]}


def _analysis_of(session: Session) -> Analysis:
    """Return what is analysed of the slide in hand; that something is was waited for."""
    if session.results is None:
        raise RuntimeError("the results went away")
    return session.results.analysis


def _run(slide: Path) -> tuple[Session, Slide, float]:
    """Press Run when the model is warm; return the session, the slide and when that was."""
    from napari_dala.plugin.viewer.session import session_of
    from napari_dala.plugin.viewer.slide_layers import slide_of, to_world

    viewer = _window()
    (layer,) = viewer.open(slide, plugin=PLUGIN)
    session, opened = session_of(viewer), slide_of(layer)
    _, analyze = viewer.window.add_plugin_dock_widget(PLUGIN, "Analyze slide")
    _wait(lambda: bool(analyze._child.about))
    height, width = viewer.canvas.size
    viewer.window.resize(SIZE[0], round(SIZE[1] - height + width * VIEW_UM[1] / VIEW_UM[0]))  # just this is in view
    rest(1)
    middle = np.array(opened.dimensions) / 2
    viewer.scene.camera.center = (0.0, *to_world(layer, *middle))
    viewer.scene.camera.zoom = min(np.array(viewer.canvas.size) / VIEW_UM[::-1])
    rest(3)
    begun = time.perf_counter()
    analyze.run_button.click()
    return session, opened, begun


def thresholding(_: Path) -> dict[str, float]:
    """Change the dynamic threshold of 100,000 painted tiles: to what is in view, and to the whole map."""
    import dask.array as da
    from qtpy.QtCore import QEventLoop

    from napari_dala.model.threshold import DynamicThreshold, Method, Scope
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.viewer.slide_layers import view_of
    from napari_dala.results.loaded import load

    _paint(Path(os.environ["DALA_WORKSPACE"]) / "analysis.zarr")
    viewer = _window()
    glass = [da.full((side, side, 3), 240, "u1") for side in (SIDE * 224, SIDE * 14)]
    layer = viewer.add_image(glass, rgb=True, multiscale=True, scale=(0.5, 0.5), units=("um", "um"))
    results = ResultLayers(viewer.layers, layer, load(os.environ["DALA_WORKSPACE"]))
    viewer.scene.camera.zoom *= 16
    rest(2)
    figures: dict[str, float] = {}
    for scope in get_args(Scope):
        for method in get_args(Method):
            for change, strength in (("method", 1.0), ("strength", 1.1)):
                loop, begun = QEventLoop(), time.perf_counter()

                def note(*_: Any, what: str = f"{change} {method} by {scope}", begun: float = begun) -> None:
                    figures[f"{what}, in view"] = time.perf_counter() - begun

                results._explainer.part_made.connect(note)
                results._explainer.made.connect(loop.quit)
                rule = DynamicThreshold(method, scope, strength)
                results.explain(replace(results.explanation, rule=rule), view_of(viewer, layer))
                loop.exec()
                figures[f"{change} {method} by {scope}, whole"] = time.perf_counter() - begun
                results._explainer.part_made.disconnect(note)
                rest(0.5)
    return figures


def _paint(path: Path) -> None:
    """Write an analysis of smooth random maps."""
    from scipy.ndimage import gaussian_filter

    from napari_dala.model.card import UNTRAINED_CARD
    from napari_dala.results.opening import create_store
    from napari_dala.results.store import Setting
    from napari_dala.slide.tiles import TileGrid

    grid = TileGrid((SIDE * 224, SIDE * 224), 224, (1.0, 1.0), 7)
    store = create_store(
        path,
        Setting("painted", grid, "", ""),
        slide={},
        bundle_hash="0" * 16,
        card=UNTRAINED_CARD.model_dump(mode="json"),
    )
    random = np.random.default_rng(0)
    probability = random.random((SIDE, SIDE))
    cam = np.maximum(gaussian_filter(random.standard_normal((SIDE * 7, SIDE * 7)), 3), 0)
    values = {"probability": np.stack([1 - probability, probability]), "cam": np.stack([cam, cam]) * 30}
    for name, value in (values | dict.fromkeys(("scored", "exact", "status"), 1)).items():
        store._arrays[name][:] = value


def _window() -> napari.Viewer:
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    rest(1.5)
    return viewer


@contextmanager
def _timed(figures: dict[str, float], name: str) -> Iterator[None]:
    wall, own = time.perf_counter(), time.thread_time()
    yield
    figures[name] = time.perf_counter() - wall
    figures[f"{name}, main thread"] = time.thread_time() - own


def _wait(fact: Callable[[], bool], most: float = 120) -> None:
    """Let the window work until something holds, looked at every 5 ms."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer, end = QEventLoop(), QTimer(), time.monotonic() + most
    timer.timeout.connect(lambda: loop.quit() if fact() or time.monotonic() > end else None)
    timer.start(_POLL_MS)
    loop.exec()
    if not fact():
        raise TimeoutError(f"not so after {most:.0f} s")


PARTS: dict[str, Callable[[Path], dict[str, float]]] = {
    "open": opening,
    "analyze": dock("Analyze slide"),
    "explain": dock("Explain"),
    "annotate": dock("Annotate & learn"),
    "run": running,
    "whole": whole,
    "headless": headless,
    "threshold": thresholding,
}
LONG = ("whole", "headless")


if __name__ == "__main__":
    main()
