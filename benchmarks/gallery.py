"""Scroll through 10,000 tiles in the dock "Review tiles", in the real window; prints JSON.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.gallery m256.tiff [--tiles 10000] [--seconds 20]

The analysis is painted, the tiles' pixels are read from the slide. The list is scrolled from its beginning to its end
and back, as fast as the window allows; then labels are given and taken back with keys.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from scripts.screenshots import PLUGIN, SIZE, rest, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

    from napari_dala.plugin.bench.callback_times import CallbackTimes
    from napari_dala.plugin.review.dock import ReviewWidget

OURS = ("ReviewWidget", "TileModel", "TileDelegate", "TileGridView", "TilePictures", "TileLabels", "ListChoice")
_STEP_MS = 16  # between steps of the scroll bar


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, help="tiled; where it has too few tiles they overlap")
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20, help="from one end of the list to the other")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as workspace:
        os.environ["NAPARI_CONFIG"], os.environ["DALA_WORKSPACE"] = "", workspace
        print(json.dumps(measure(asked.slide, asked.tiles, asked.seconds, Path(workspace)), indent=2), flush=True)
        os._exit(0)  # nobody looks at the window closing


def measure(path: Path, tiles: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Return the figures."""
    import napari

    from napari_dala.plugin.bench.callback_times import CallbackTimes
    from napari_dala.plugin.viewer.session import session_of
    from napari_dala.results.loaded import load

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    with CallbackTimes() as times:
        (layer,) = viewer.open(path, plugin=PLUGIN)
        session = session_of(viewer)
        paint(folder, session.open_slide(), tiles)
        frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Review tiles")
        wait_until(lambda: dock.drawing.document is not None)
        session.show(layer, load(folder))
        wait_until(lambda: len(dock.model.tiles) == tiles and all_there(dock))
        rest(2)
        figures: dict[str, Any] = {"tiles": tiles, "seen at once": len(seen(dock)), "memory before, MB": memory()}
        times.calls.clear()
        figures["docked"] = scroll(dock, seconds)
        figures |= callbacks(times, "scrolling") | {"memory after, MB": memory()}
        figures["frames per second of a window in which one label is painted"] = label_frames(dock)
        frame.setFloating(True)
        frame.resize(420, 900)
        rest(1)
        figures["in a window of its own"] = scroll(dock, seconds)
        frame.setFloating(False)
        rest(1)
        times.calls.clear()
        for count in (1, 20, 200):
            figures[f"labelling {count}, ms by the clock"] = label(dock, count)
        figures |= callbacks(times, "labelling")
    return figures


def paint(folder: Path, slide: Any, tiles: int) -> None:
    """Write an analysis in which so many tiles of a slide were analysed, spread over it."""
    from napari_dala.model.card import UNTRAINED_CARD
    from napari_dala.results.opening import create_store
    from napari_dala.results.store import Setting
    from napari_dala.results.tile_results import TileStatus
    from napari_dala.slide.tiles import TileGrid

    card = UNTRAINED_CARD
    grids = [TileGrid.over(slide, card.tile_px, card.mpp, overlap) for overlap in (0, 0.5, 0.75)]
    grid = next((one for one in grids if one.shape[0] * one.shape[1] >= tiles), None)
    if grid is None:
        raise SystemExit(f"{slide.name}: has {grids[-1].shape} tiles, {tiles} are needed")
    store = create_store(
        folder / "analysis.zarr",
        Setting(slide.fingerprint, grid, "", ""),
        slide=slide.properties,
        bundle_hash="0" * 16,
        card=card.model_dump(mode="json"),
    )
    random = np.random.default_rng(0)
    there = np.zeros(grid.shape, np.bool_)
    there.flat[random.permutation(there.size)[:tiles]] = True
    malignant = random.random(grid.shape, np.float32)
    cam = random.random((grid.shape[0] * grid.cells, grid.shape[1] * grid.cells), np.float32) * 5
    status = np.where(there, TileStatus.DONE, TileStatus.BACKGROUND)
    values = {"probability": np.stack((1 - malignant, malignant)), "cam": np.stack((cam, cam)), "status": status}
    for name, value in (values | dict.fromkeys(("scored", "exact"), there)).items():
        store._arrays[name][:] = value


def scroll(dock: ReviewWidget, seconds: float) -> dict[str, float]:
    """Scroll to the end of the list and back; count the frames that are painted, and how late the window answers."""
    from napari_dala.plugin.bench.event_loop import LatencyProbe

    viewport, bar = dock.grid.viewport(), dock.grid.verticalScrollBar()
    assert viewport is not None
    assert bar is not None
    most, begun, probe = bar.maximum(), time.perf_counter(), LatencyProbe()

    def step() -> None:
        part = (time.perf_counter() - begun) / seconds
        bar.setValue(round(most * (part if part < 1 else 2 - part)))

    probe.start()
    painted = frames(viewport, step, 2 * seconds)
    late = probe.stop()
    stopped = time.perf_counter()
    wait_until(lambda: all_there(dock))
    return {
        "frames per second": len(painted) / (2 * seconds),
        "between frames, 95th percentile, ms": float(np.percentile(np.diff(painted), 95) * 1000),
        "event loop late, 95th percentile, ms": float(np.percentile(late, 95)),
        "until all that is seen is there, s": time.perf_counter() - stopped,
    }


def label_frames(dock: ReviewWidget) -> float:
    """Return how often a second the window can be painted at all: one small label, and nothing else."""
    return len(frames(dock.count, dock.count.update, 5)) / 5


def frames(widget: QWidget, step: Callable[[], object], seconds: float) -> list[float]:
    """Do something every 16 ms, and return when a widget was painted, seconds."""
    from qtpy.QtCore import QEvent, QObject, QTimer

    painted: list[float] = []

    class Counter(QObject):
        def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
            if event is not None and event.type() == QEvent.Type.Paint:
                painted.append(time.perf_counter())
            return False

    counter, timer = Counter(), QTimer()
    widget.installEventFilter(counter)
    timer.timeout.connect(step)
    timer.start(_STEP_MS)
    rest(seconds)
    timer.stop()
    widget.removeEventFilter(counter)
    return painted


def label(dock: ReviewWidget, count: int) -> float:
    """Label the first tiles of the list with a key and take the labels back; return ms that the key took."""
    from qtpy.QtCore import QItemSelectionModel

    selection = dock.grid.selectionModel()
    assert selection is not None
    selection.clearSelection()
    for number in range(count):
        selection.select(dock.model.index(number), QItemSelectionModel.SelectionFlag.Select)
    begun = time.perf_counter()
    dock.label_digit(1)
    took = (time.perf_counter() - begun) * 1000
    rest(1)
    dock.drawing.undo()
    rest(1)
    return took


def callbacks(times: CallbackTimes, doing: str) -> dict[str, Any]:
    """Return how long our own callbacks held the window, ms."""
    ours = {
        name: [call.own_s * 1000 for call in calls]
        for name, calls in times.calls.items()
        if name.partition(".")[0] in OURS
    }
    every = np.concatenate([*ours.values()]) if ours else np.zeros(1)
    slowest = sorted(((max(each), name) for name, each in ours.items()), reverse=True)[:3]
    digits = ours.get("ReviewWidget.label_digit", [])
    return {
        **({"of which a key that labels takes, ms": digits} if digits else {}),
        f"callbacks while {doing}": len(every),
        f"their 95th percentile while {doing}, ms": float(np.percentile(every, 95)),
        f"the slowest while {doing}, ms": {name: most for most, name in slowest},
    }


def seen(dock: ReviewWidget) -> list[tuple[int, int]]:
    """Return the tiles that are seen."""
    viewport, model = dock.grid.viewport(), dock.model
    assert viewport is not None
    numbers = range(len(model.tiles))
    return [model.tile(at) for at in numbers if viewport.rect().intersects(dock.grid.visualRect(model.index(at)))]


def all_there(dock: ReviewWidget) -> bool:
    """Return whether every tile that is seen has its picture."""
    return all(dock.pictures._shown.get(tile) is not None for tile in seen(dock))


def memory() -> float:
    """Return this process' resident memory, MB."""
    return float(psutil.Process().memory_info().rss) / 1e6


if __name__ == "__main__":
    main()
