"""The two ramps of colour that maps are shown in, on the screen, in legends and in reports.

They do not depend on the class, for a class' own colour may be that of stained tissue. `benchmarks/contrast.py`
measures how far they stand out from it; docs/decisions.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.color import lab2rgb, rgb2lab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EOSIN = np.array((236, 214, 226)) / 255
"""Pale tissue, which legends lie on as maps do."""


@dataclass(frozen=True, eq=False)
class Ramp:
    """Colours of 0 to 1 that lie over tissue.

    Attributes
    ----------
    name
        Without spaces.
    colors
        (256, 4) float64, red, green, blue and opacity, 0 to 1.
    opacity
        Of the whole layer, over which `colors` counts.
    """

    name: str
    colors: NDArray[np.float64]
    opacity: float

    def rgba(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return values of 0 to 1, (...), in colours with the layer's opacity, (..., 4) uint8; NaN is transparent."""
        table = np.append(self.colors * (1, 1, 1, self.opacity), np.zeros((1, 4)), axis=0)
        index = np.where(np.isfinite(values), np.clip(np.nan_to_num(values), 0, 1) * 255 + 0.5, 256)
        return np.round(table * 255).astype(np.uint8)[index.astype(np.intp)]

    def over(self, values: NDArray[Any], tissue: NDArray[Any] = EOSIN) -> NDArray[np.float64]:
        """Return values over colours of tissue, (..., 3), 0 to 1, as they are seen."""
        rgba = self.rgba(values) / 255
        return np.asarray(rgba[..., :3] * rgba[..., 3:] + tissue * (1 - rgba[..., 3:]))


def _ramp(name: str, colors: Sequence[str], alpha: NDArray[np.float64], opacity: float) -> Ramp:
    """Return a ramp through colours at equal distances, blended in CIELAB."""
    stops = rgb2lab([[int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)] for color in colors])
    at = np.linspace(0, len(stops) - 1, 256)
    lab = np.column_stack([np.interp(at, np.arange(len(stops)), each) for each in stops.T])
    return Ramp(name, np.column_stack((np.clip(lab2rgb(lab), 0, 1), alpha)), opacity)


_VALUE = np.linspace(0, 1, 256)

PROBABILITY = _ramp("dala-probability", ("00a000", "ffff00"), np.clip(_VALUE / 0.75, 0, 1) ** 1.3, 0.42)
"""Of a class: clear, then green, then yellow."""
GRAD_CAM = _ramp("dala-grad-cam", ("0078ff", "0000ff"), _VALUE**0.6, 0.55)
"""Evidence for a class: from pale to deep blue, seen from the least that the dynamic threshold keeps."""
