"""What lies beneath a map: nuclei, other tissue, pale areas, the tile's edge. Measured by stain, not recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from napari_dala.slide.density import densities, least, most
from napari_dala.words import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NUCLEI, OTHER, PALE, RING = "haematoxylin-dark tissue", "other tissue", "pale areas", "the tile's outer ring"
PARTS = {
    NUCLEI: "pixels of tissue with more haematoxylin (colour deconvolution, Ruifrok and Johnston 2001) than Otsu's "
    "threshold of the tile: mostly nuclei, of whatever cells",
    OTHER: "the remaining tissue: stroma, cytoplasm, mucus, blood",
    PALE: "pixels nearly as bright and colourless as the brightest hundredth of the tile: glass, fat, lumina, and the "
    "palest stroma and mucus",
    RING: "the outermost cells of the map, whatever lies there: maps often gather at edges for no reason in the tissue",
}
"""What is measured beneath a map, and how."""

_MIN_DENSITY, _MIN_COLOUR = 0.08, 0.03  # optical densities from which tissue is tissue, as in `slide.tissue`
_MORE, _LESS = 1.25, 0.8  # times the share of the whole tile; between them is "about as much"


@dataclass(frozen=True)
class Share:
    """Part of a map's heat that lies on something, and the part of the whole tile that this is."""

    of_map: float
    of_tile: float

    def said(self) -> str:
        """Return how the map differs from one spread evenly: "more", "less" or "about as much"."""
        if self.of_map > _MORE * self.of_tile:
            return "more"
        return "less" if self.of_map < _LESS * self.of_tile else "about as much"


def parts_of(tile: NDArray[np.uint8], shape: tuple[int, int]) -> dict[str, Floats]:
    """Return the part of each of a map's cells that each of `PARTS` has, (h, w), 0 to 1.

    Parameters
    ----------
    tile
        (H, W, 3) uint8, H&E.
    shape
        Of the map, (h, w); H and W are multiples of it.
    """
    red, green, blue = densities(tile, tuple(np.percentile(tile, 99, axis=(0, 1)).tolist()))
    density = uniform_filter((red + green + blue) / 3, 3)
    colour = uniform_filter(most(red, green, blue) - least(red, green, blue), 3)
    pale = (density < _MIN_DENSITY) & (colour < _MIN_COLOUR)
    haematoxylin = rgb2hed(tile)[..., 0]
    tissue = haematoxylin[~pale]
    varied = tissue.size and np.ptp(tissue) > 0
    nuclei = ~pale & (haematoxylin > threshold_otsu(tissue)) if varied else np.zeros_like(pale)
    ring = np.ones(shape)
    ring[1:-1, 1:-1] = 0
    by_cell = {
        name: mask.reshape(shape[0], tile.shape[0] // shape[0], shape[1], -1).mean((1, 3))
        for name, mask in ((NUCLEI, nuclei), (OTHER, ~pale & ~nuclei), (PALE, pale))
    }
    return {**by_cell, RING: ring}


def shares(values: NDArray[np.floating], parts: Mapping[str, Floats]) -> dict[str, Share] | None:
    """Return what of a map's heat (h, w) lies on each part; None where the map is empty."""
    total = float(values.sum())
    if not total > 0:
        return None
    return {name: Share(float((values * part).sum()) / total, float(part.mean())) for name, part in parts.items()}


def place_in_words(values: NDArray[np.floating]) -> str:
    """Return in which ninth of the tile a map (h, w) is highest: "upper left", "middle", "lower middle"."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    down = ("upper", "", "lower")[int(3 * (row + 0.5) / values.shape[0])]
    across = ("left", "middle", "right")[int(3 * (column + 0.5) / values.shape[1])]
    return " ".join(filter(None, (down, across)))


def in_words(found: Mapping[str, Share]) -> str:
    """Return in a sentence where a map lies: only what was measured, no tissue is given a name of its own."""
    said = [
        f"{share.said()} on {name} ({percent(share.of_map)} of its heat, {percent(share.of_tile)} of the tile)"
        for name, share in found.items()
        if name != OTHER
    ]
    return f"Against a map spread evenly it lies {', '.join(said[:-1])} and {said[-1]}."
