"""Paint with the mouse in the real window; prints JSON: milliseconds of processor time of the main thread.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.annotate [SLIDE] [--strokes 500]

Parts, each in a window of its own: `apart` paints as many regions as there are strokes; `joined` paints and erases in
one place, so that all becomes one region with holes; `wand` drags the wand. A move or a release is timed until the
window is back in its event loop; drawing the frame comes after it and is napari's.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from scripts.screenshots import PLUGIN, SIZE, rest, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

STEPS = 4  # moves of the mouse within a stroke
SPACING, SMALL = 32, -5  # screen px between regions that lie apart, and how much smaller the brush is made for them


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?", help="the drawn teaching slide if none is given")
    parser.add_argument("--strokes", type=int, default=500)
    parser.add_argument("--parts", nargs="+", choices=("apart", "joined", "wand"), default=("apart", "joined", "wand"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["NAPARI_CONFIG"], os.environ["DALA_WORKSPACE"] = "", folder
        for part in asked.parts:
            figures = measure(asked.slide, part, asked.strokes)
            print(json.dumps({part: figures}, indent=2), flush=True)


def measure(slide: Path | None, part: str, strokes: int) -> dict[str, float]:
    """Return percentiles over the strokes of a part, and what was drawn in the end."""
    import napari

    from napari_dala.plugin.annotate.brush import BRUSH, WAND
    from napari_dala.slide.teaching.slide import cached_teaching_slide

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open(slide or cached_teaching_slide(), plugin=PLUGIN)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Annotate & learn")
    drawing = dock.drawing
    wait_until(lambda: drawing.document is not None)
    drawing.edit(replace(drawing.document, annotations=()))  # what a part before it left
    drawing.choose_tool(WAND if part == "wand" else BRUSH)
    if part == "apart":
        drawing.painter.brush.resize(SMALL)
    viewer.reset_view()
    rest(2)
    times: defaultdict[str, list[float]] = defaultdict(list)
    for number, way in enumerate(_ways(part, strokes, np.array(viewer.canvas.size[::-1]))):
        _drag(viewer, way, part == "joined" and number % 5 == 4, times)
    wait_until(lambda: not drawing.painter.brush.is_busy)
    times["undo"] = [_timed(drawing.undo) for _ in range(20)]
    areas = [item.area for item in drawing.document.annotations]
    viewer.close()
    figures = {
        f"{name} {label}": round(float(np.percentile(each, at)), 1)
        for name, each in times.items()
        for label, at in (("median", 50), ("95th", 95), ("most", 100))
    }
    corners = int(shapely.get_num_coordinates(areas).sum())
    return figures | {"regions": len(areas), "corners": corners, "holes": int(sum(map(_holes, areas)))}


def _ways(part: str, strokes: int, size: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """Give where the mouse goes, (n, 2) screen px (x, y)."""
    random = np.random.default_rng(0)
    if part == "apart":
        columns = int(size[0] - 2 * SPACING) // SPACING
        for number in range(strokes):
            row, column = divmod(number, columns)
            start = SPACING * np.array([column + 1, (row + 1) % (size[1] // SPACING - 1)])
            yield start + np.linspace((0, 0), (6, 4), STEPS)
    else:
        at = size / 2
        for _ in range(strokes):
            way = at + np.cumsum(random.uniform(-30, 30, (STEPS, 2)), axis=0)
            yield np.clip(way, 0.15 * size, 0.85 * size)
            at = way[-1] if np.all(np.abs(way[-1] / size - 0.5) < 0.35) else size / 2


def _drag(viewer: Any, way: NDArray[np.float64], erases: bool, times: defaultdict[str, list[float]]) -> None:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    mouse: Any = QTest  # whose stubs take its functions for methods
    canvas = viewer.window._qt_viewer.canvas.native
    left = Qt.MouseButton.LeftButton
    held = Qt.KeyboardModifier.AltModifier if erases else Qt.KeyboardModifier.NoModifier
    first, *rest_of_way = (QPoint(*map(round, place)) for place in way.tolist())
    mouse.mouseMove(canvas, first)
    times["press"].append(_timed(lambda: mouse.mousePress(canvas, left, held, first)))
    for place in rest_of_way:
        times["move"].append(_timed(lambda place=place: mouse.mouseMove(canvas, place)))
        QApplication.processEvents()
    times["release"].append(_timed(lambda: mouse.mouseRelease(canvas, left, held, rest_of_way[-1])))
    QApplication.processEvents()


def _timed(call: Any) -> float:
    """Return the processor time of the main thread that a call takes, ms."""
    begun = time.thread_time()
    call()
    return 1000 * (time.thread_time() - begun)


def _holes(area: Any) -> int:
    return sum(len(part.interiors) for part in shapely.get_parts(area))


if __name__ == "__main__":
    main()
