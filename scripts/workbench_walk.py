"""Walk through docs/workbench.md in the real window, and say how long each step takes.

xvfb-run -s "-screen 0 1600x1000x24" python scripts/workbench_walk.py FOLDER_OF_SLIDES [PICTURE.png]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dala.model.catalog import TEACHING

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer

SIZE = (1600, 1000)


def main(folder: Path, picture: Path | None) -> None:
    """Add the slides, analyse them, look at each, and export the table; print a line a step."""
    import napari

    from napari_dala.plugin.warm_child import warm_child

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Slides")
    dock.model_box.choose_card(TEACHING)
    wait_until(lambda: bool(warm_child().about))
    timed("add the folder", lambda: dock.add([folder]), lambda: dock.told.text().endswith("added."))
    timed("analyse all", dock.analyze, lambda: not dock.queue.is_running and is_read(dock))
    opened = [open_next(viewer, dock) for _ in range(dock.order.rowCount())]
    print(f"open the next slide: median {statistics.median(opened):.2f} s, longest {max(opened):.2f} s")
    print(f"layers in the window at the end: {len(viewer.layers)}")
    if picture is not None:
        rest(1.5)
        viewer.screenshot(str(picture), canvas_only=False, flash=False)
    with tempfile.TemporaryDirectory() as out:
        table = Path(out) / "slides.csv"
        timed("export the table", lambda: dock.export(table), lambda: dock.told.text().startswith("Written"))
        print(f"rows: {len(table.read_text().splitlines()) - 1}")
    viewer.close()


def is_read(dock: Any) -> bool:
    """Return whether the table shows what was found on every slide."""
    return all(row.summary is not None for row in dock.model.rows)


def open_next(viewer: Viewer, dock: Any) -> float:
    """Open the next slide; return the seconds until it is there with its map, painted."""
    before, start = viewer.layers[0] if viewer.layers else None, time.perf_counter()
    dock.step(1)
    wait_until(lambda: len(viewer.layers) > 1 and viewer.layers[0] is not before)
    viewer.window._qt_window.repaint()
    seconds = time.perf_counter() - start
    rest(0.5)
    return seconds


def timed(step: str, begin: Callable[[], object], is_done: Callable[[], bool]) -> None:
    """Take a step, wait for its end, and print how long it took."""
    start = time.perf_counter()
    begin()
    wait_until(is_done)
    print(f"{step}: {time.perf_counter() - start:.1f} s")


def wait_until(is_true: Callable[[], bool], seconds: float = 1800) -> None:
    """Let the window work until something holds."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds:.0f} s")
        rest(0.01)


def rest(seconds: float) -> None:
    """Let the window work for a while."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.002)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as workspace:  # napari's and our own settings as on a fresh machine
        os.environ["NAPARI_CONFIG"] = ""
        os.environ["DALA_WORKSPACE"] = workspace
        main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
