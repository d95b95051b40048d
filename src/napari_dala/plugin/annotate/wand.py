"""Where a wand touches the picture of a slide: the level in view, and what it says of the pixels there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_dala.annotations.paint.wand import similar_area
from napari_dala.plugin.viewer.slide_layers import to_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Image

    from napari_dala.annotations.document import Area


def wand_at(layer: Image, position: Sequence[float], reach: float, pixel: float) -> Callable[[], Area]:
    """Return what finds the area of similar colour around a point, level-0 px; it reads pixels, so in a thread.

    Parameters
    ----------
    layer
        Shows the slide.
    position
        The point in the world, (..., y, x).
    reach
        How far the area may grow, in the world's units.
    pixel
        Side of a pixel on the screen, in the world's units.
    """
    level = layer.data_level if layer.multiscale else 0
    pixels = layer.data[level] if layer.multiscale else layer.data
    step = layer.downsample_factors[level][:2] if layer.multiscale else np.ones(2)  # level-0 px (y, x)
    x, y = to_slide(layer, position)
    side = float(np.sqrt(abs(np.prod(layer.scale[-2:] * step))))  # of a pixel of the level, in the world's units
    shrink = max(1, int(pixel / side))
    return partial(_found, pixels, (x / step[1], y / step[0]), reach / side, shrink, (step[1], step[0]))


def _found(pixels: object, at: tuple[float, float], reach: float, shrink: int, step: tuple[float, float]) -> Area:
    return shapely.transform(similar_area(pixels, at, reach, shrink), lambda points: points * step)
