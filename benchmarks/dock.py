"""Time the button: from pressing Learn (quick) in the dock to the new map of all tiles, in the real window.

    python -m benchmarks.quick m32.tiff --parent PARENT.safetensors --out FOLDER   # makes annotations.geojson
    xvfb-run -s "-screen 0 1600x1000x24" python -m benchmarks.dock m32.tiff \
        --parent PARENT.safetensors --annotations FOLDER/annotations.geojson [--repeats 3]

The workspace is a temporary one. The slide is analysed first, so that its features are cached; after each turn the new
model is discarded, and the map from before is back.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from scripts.screenshots import PLUGIN, SIZE, rest, wait_until


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--parent", type=Path, required=True, help="bundle to begin from")
    parser.add_argument("--annotations", type=Path, required=True, help="GeoJSON of the regions")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"], os.environ["DALA_WORKSPACE"] = "", folder
        (Path(folder) / "models").mkdir()
        shutil.copy(asked.parent, Path(folder) / "models" / "parent.safetensors")
        turns = measure(asked)
    print(f"from Learn to the new map: {median(turns):.1f} s, median of {', '.join(f'{turn:.1f}' for turn in turns)}")


def measure(asked: argparse.Namespace) -> list[float]:
    """Return the seconds of each turn."""
    import napari

    from napari_dala.annotations.files import read_annotations
    from napari_dala.plugin.viewer.session import session_of

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open(asked.slide, plugin=PLUGIN)
    session = session_of(viewer)
    _, analyze = viewer.window.add_plugin_dock_widget(PLUGIN, "Analyze slide")
    _, annotate = viewer.window.add_plugin_dock_widget(PLUGIN, "Annotate & learn", tabify=True)
    panel, drawing = annotate.learn, annotate.drawing
    analyze.model_box.setCurrentText("parent")
    wait_until(analyze.run_button.isEnabled)
    analyze.run_button.click()
    wait_until(lambda: not analyze.is_running)
    wait_until(lambda: drawing.document is not None)
    drawn = read_annotations(asked.annotations).annotations
    drawing.edit(replace(drawing.document, annotations=drawn))

    def coloured() -> int:
        return 0 if session.results is None else int(np.isfinite(session.results.probability.data).sum())

    tiles = coloured()
    print(f"{tiles} tiles, {len(drawn)} regions")

    def one_turn() -> float:
        old = session.results
        wait_until(panel.learn_button.isEnabled)
        started = time.perf_counter()
        panel.learn_button.click()
        wait_until(lambda: session.results is not old)
        wait_until(lambda: coloured() == tiles)
        seconds = time.perf_counter() - started
        wait_until(lambda: panel.learning.run is None)
        panel.decision.discard_button.click()
        rest(1)
        return seconds

    turns = [one_turn() for _ in range(asked.repeats)]
    viewer.close()
    return turns


if __name__ == "__main__":
    main()
