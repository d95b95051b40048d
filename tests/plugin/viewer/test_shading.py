"""What is drawn of a layer: all that it shows, little of what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from qtpy.QtWidgets import QApplication
from scipy.ndimage import binary_dilation

from napari_dala.plugin.viewer.shading import DrawnPart, _runs

if TYPE_CHECKING:
    from napari.viewer import Viewer

SHAPES = st.tuples(st.integers(1, 200), st.integers(1, 200))


def covered(shown: Any) -> Any:
    """True where the middle of a pixel lies in a rectangle; none lies in two."""
    times = np.zeros(shown.shape, int)
    across, down = ((np.arange(side) + 0.5) / side for side in shown.shape[::-1])
    for left, top, right, bottom in _runs(shown):
        times += ((down >= top) & (down < bottom))[:, None] & ((across >= left) & (across < right))
    assert times.max() <= 1, "drawn twice, it would be twice as opaque"
    return times == 1


@given(SHAPES.flatmap(lambda shape: arrays(bool, shape)))
def test_all_that_is_shown_and_what_is_beside_it_is_drawn(shown: Any) -> None:
    wanted = binary_dilation(shown, np.ones((3, 3)))
    assert (covered(shown) | ~wanted).all()


def test_what_shows_nothing_is_not_drawn() -> None:
    shown = np.zeros((640, 1280), bool)
    assert not covered(shown).any()
    shown[300:310, 600:620] = True
    assert covered(shown).sum() <= (10 + 4 * 10) * (20 + 4 * 20)


@pytest.fixture
def seen(viewer: Viewer) -> Any:
    """How many pixels of the canvas are not black."""

    def count() -> int:
        QApplication.processEvents()
        return int((viewer.screenshot(canvas_only=True, flash=False)[..., :3] > 0).any(-1).sum())

    return count


def test_the_part_follows_what_becomes_of_the_layer(viewer: Viewer, seen: Any) -> None:
    values = np.zeros((100, 100), np.float32)
    clear = {"colors": [[1, 1, 1, 0], [1, 1, 1, 1]], "name": "clear"}
    layer = viewer.add_image(values, colormap=clear, contrast_limits=(0, 1), interpolation2d="nearest")
    part = DrawnPart(viewer, layer, (80, 100))
    assert seen() == 0
    values[10:20, 10:20] = 1
    layer.refresh()
    once = seen()
    assert once > 0
    values[70:90, 10:20] = 1  # half of it beyond the end
    layer.refresh()
    assert seen() == pytest.approx(2 * once, rel=0.05)
    layer.colormap = "green"
    assert seen() == pytest.approx(2 * once, rel=0.05), "black is drawn where nothing is, and is not seen"
    layer.contrast_limits = (-1, 1)
    assert seen() == pytest.approx(80 * once, rel=0.05), "what is 0 is green"
    part.end()
    layer.colormap = "gray"
    values[:] = np.nan
    layer.refresh()
    assert seen() == 0
