"""Make the pictures of docs/images from the real window, over the drawn teaching slide.

xvfb-run -s "-screen 0 1600x1000x24" python scripts/screenshots.py [FOLDER]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy.ndimage import minimum_filter
from shapely import Polygon, box

from napari_dala.annotations.document import Annotation
from napari_dala.model.catalog import TEACHING
from napari_dala.slide.teaching.slide import TRUTH_CELL, cached_teaching_slide

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from numpy.typing import NDArray

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = (1600, 1000)
PLUGIN = "napari-dala"
SQUARES, SQUARE_PX = 8, 380  # of each class; level-0 px


def main(folder: Path) -> None:
    """Drive the docks as a user would and save the window after each step."""
    import napari

    folder.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open_sample(PLUGIN, "teaching")
    _, analyze = viewer.window.add_plugin_dock_widget(PLUGIN, "Analyze slide")
    shoot(viewer, folder / "open.png")
    analyze.model_box.choose_card(TEACHING)
    analysed(analyze)
    shoot(viewer, folder / "analyze.png")
    show_strongest_spot(viewer, analyze)
    shoot(viewer, folder / "spot.png")
    _, explain = viewer.window.add_plugin_dock_widget(PLUGIN, "Explain", tabify=True)
    explain.show_box.setCurrentIndex(1)
    explain.explain_at(tuple(viewer.scene.camera.center[-2:]))
    shoot(viewer, folder / "explain.png")
    review_tiles(viewer)
    shoot(viewer, folder / "review.png")
    paint(viewer)
    shoot(viewer, folder / "brush.png")
    list_regions(viewer, analyze)
    shoot(viewer, folder / "regions.png")
    viewer.close()

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open_sample(PLUGIN, "teaching")
    _, analyze = viewer.window.add_plugin_dock_widget(PLUGIN, "Analyze slide")
    analysed(analyze)  # with the default model, which knows real tissue
    shoot(viewer, folder / "unfamiliar.png")
    _, annotate = viewer.window.add_plugin_dock_widget(PLUGIN, "Annotate & learn", tabify=True)
    annotate.parent().raise_()
    learn_from_truth(annotate)
    shoot(viewer, folder / "learn.png")
    annotate.learn.learning.accept("learned")
    compare_models(viewer)
    shoot(viewer, folder / "compare.png")
    viewer.close()


def analysed(analyze: Any) -> None:
    """Press Run, and wait for the map."""
    wait_until(analyze.run_button.isEnabled)
    analyze.run_button.click()
    wait_until(lambda: not analyze.is_running)


def learn_from_truth(annotate: Any) -> None:
    """Draw some squares as the slide's truth has them, press Learn and wait for the preview."""
    wait_until(lambda: annotate.drawing.document is not None)
    annotations = tuple(Annotation.drawn(*square) for square in squares_of_truth())
    annotate.drawing.edit(replace(annotate.drawing.document, annotations=annotations))
    wait_until(annotate.learn.learn_button.isEnabled)
    annotate.learn.learn_button.click()
    learning = annotate.learn.learning
    wait_until(lambda: learning.learned is not None and learning.run is None)


def squares_of_truth() -> list[tuple[Polygon, str]]:
    """Return some squares of the teaching slide, each well inside one class."""
    truth = np.asarray(Image.open(cached_teaching_slide().with_suffix(".truth.png")))
    rng = np.random.default_rng(0)
    found = []
    for label, name in ((1, "benign"), (2, "malignant")):
        inside = np.argwhere(minimum_filter(truth == label, 7, mode="constant"))
        for row, column in rng.permutation(inside)[:SQUARES].tolist():
            middle = (column + 0.5) * TRUTH_CELL, (row + 0.5) * TRUTH_CELL
            found.append((box(*(at - SQUARE_PX / 2 for at in middle), *(at + SQUARE_PX / 2 for at in middle)), name))
    return found


def review_tiles(viewer: Viewer) -> None:
    """Label the first tiles of a list, one otherwise than the model calls it, and show what it looked at."""
    _, review = viewer.window.add_plugin_dock_widget(PLUGIN, "Review tiles", tabify=True)
    review.parent().raise_()
    wait_until(lambda: len(review.model.tiles) > 6 and review.labels.of_tiles is not None)
    review.grid.setCurrentIndex(review.model.index(0))
    review.label_digit(1)
    for _ in range(4):
        review.agree()
    review.cam_check.setChecked(True)
    viewer.reset_view()


def paint(viewer: Viewer) -> None:
    """Paint a ring with the brush and take a piece out of it with the eraser, by mouse."""
    _, annotate = viewer.window.add_plugin_dock_widget(PLUGIN, "Annotate & learn", tabify=True)
    annotate.parent().raise_()
    wait_until(lambda: annotate.drawing.document is not None)
    annotate.drawing.choose_class("malignant")
    viewer.scene.camera.zoom = 0.4  # screen px per um
    rest(0.5)
    annotate.drawing.choose_tool("brush")
    turns = np.linspace(0, 2 * np.pi, 60)
    drag(viewer, 120 * np.stack([np.cos(turns), np.sin(turns)], axis=1))
    annotate.drawing.choose_tool("eraser")
    drag(viewer, np.linspace((50, -50), (130, -130), 20))


def drag(viewer: Viewer, way: NDArray[np.float64]) -> None:
    """Drag the mouse along a way over the canvas: screen px (x, y) from its middle."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    mouse: Any = QTest  # whose stubs take its functions for methods
    canvas = viewer.window._qt_viewer.canvas.native
    middle = canvas.rect().center()
    places = [middle + QPoint(round(x), round(y)) for x, y in way]
    mouse.mouseMove(canvas, places[0])
    mouse.mousePress(canvas, Qt.MouseButton.LeftButton, pos=places[0])
    for place in places[1:]:
        mouse.mouseMove(canvas, place)
        rest(0.02)
    mouse.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=places[-1])
    rest(0.5)


def list_regions(viewer: Viewer, analyze: Any) -> None:
    """Widen the band of doubt, and list what was found and drawn by its area."""
    analyze.parent().raise_()
    analyze.panel.doubt.setValue(0.1)
    fold = analyze.panel.regions_fold
    fold.button.click()
    wait_until(lambda: fold.content.model.rowCount() > 1)
    viewer.reset_view()


def compare_models(viewer: Viewer) -> None:
    """Hang the curtain between the model that has learned and the one made for the drawing."""
    _, compare = viewer.window.add_plugin_dock_widget(PLUGIN, "Compare", tabify=True)
    compare.parent().raise_()
    wait_until(lambda: compare.first.findText("learned") >= 0)
    for choice, name in ((compare.first, "learned"), (compare.second, TEACHING)):
        choice.setCurrentIndex(choice.findText(name))
    compare.compare_button.click()
    wait_until(compare.found.isVisible)


def show_strongest_spot(viewer: Viewer, analyze: Any) -> None:
    """Jump to the first spot of the list, near enough to see nuclei."""
    analyze.panel.next_button.click()
    viewer.scene.camera.zoom = 2.0  # screen px per um


def shoot(viewer: Viewer, path: Path) -> None:
    """Save the whole window once it has come to rest."""
    rest(1.5)
    window = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
    window.quantize(256, kmeans=2).save(path, optimize=True)  # a quarter of the size, for the repository's sake
    print(path)


def wait_until(true: Callable[[], bool], seconds: float = 600) -> None:
    """Let the window work until something holds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds:.0f} s")
        rest(0.1)


def rest(seconds: float) -> None:
    """Let the window work for a while."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    with ExitStack() as stack:  # napari's and our own settings as on a fresh machine
        os.environ["NAPARI_CONFIG"] = ""
        os.environ.setdefault("DALA_WORKSPACE", stack.enter_context(tempfile.TemporaryDirectory()))
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
