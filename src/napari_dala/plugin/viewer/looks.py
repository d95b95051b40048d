"""How layers of numbers are coloured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import Colormap

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def look_of_kinds(*colors: ArrayLike) -> dict[str, Any]:
    """Return the look of a layer of whole numbers: 0 is clear, 1 has the first colour, and so on."""
    table = np.vstack(((0, 0, 0, 0), *colors))
    stops = np.linspace(0, 1, len(table) + 1)
    limits = (-0.5, len(table) - 0.5)
    return {"colormap": Colormap(table, controls=stops, interpolation="zero"), "contrast_limits": limits}
