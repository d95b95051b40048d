"""Where the tissue is on a slide: a mask on its thumbnail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage

from napari_dala.slide.artefacts import ink_in
from napari_dala.slide.density import averaged, densities, grown, least, most, odd, without_small, working_step
from napari_dala.slide.mask import SlideMask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.slide.density import Bools

MIN_TISSUE = 0.1  # part of a tile that must be tissue

# Optical densities are log10 units relative to the glass: 0 is glass, 0.3 lets half of the light through.
_MIN_DENSITY = 0.08  # mean over the channels; shadows, vignetting and a second white stay below it
_MIN_COLOUR = 0.03  # densest minus clearest channel; glass has none, whatever its brightness
_MIN_FAINT_DENSITY = 0.02  # enough where the density varies: fat, pale stroma
_MIN_TEXTURE = 0.006  # its standard deviation over 7 px; glass with noise of 6 grey levels has 0.001
_LARGEST_HOLE = 0.002  # of the picture; a larger one stays glass


class HasThumbnail(Protocol):
    """What a tissue mask needs of a slide."""

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height in level-0 px."""

    def thumbnail(self, max_side: int) -> NDArray[np.uint8]:
        """Return the whole slide as (h, w, 3) uint8, its longer side at most `max_side`."""


def tissue_mask(slide: HasThumbnail, max_side: int = 2048) -> SlideMask:
    """Return the tissue of `slide`, found on its thumbnail; the last one of a slide is kept.

    Parameters
    ----------
    slide : Slide
        Anything with `dimensions` and `thumbnail`.
    max_side : int
        Longer side of the thumbnail, px.

    Returns
    -------
    SlideMask
        Of the thumbnail's shape.
    """
    known = _masks.get(slide)
    if known is not None and known[0] == max_side:
        return known[1]
    thumbnail = slide.thumbnail(max_side)
    height, width = thumbnail.shape[:2]
    mask = SlideMask(tissue_in(thumbnail), (slide.dimensions[0] / width, slide.dimensions[1] / height))
    _masks[slide] = max_side, mask
    return mask


_masks: WeakKeyDictionary[HasThumbnail, tuple[int, SlideMask]] = WeakKeyDictionary()  # each slide's last one


def tissue_in(rgb: NDArray[np.uint8]) -> Bools:
    """Return which pixels of a picture of a whole slide are tissue.

    Works on optical densities relative to the glass (`slide.density`). Tissue is what is dense, coloured or
    uneven; pen ink and black padding (`ink_in`) are taken out; gaps narrower than 1/128 of the longer
    side and holes under 0.2 % of the picture (fat, lumina) are closed, specks dropped.

    Parameters
    ----------
    rgb : (h, w, 3) uint8 array
        H&E or DAB with haematoxylin. Other stains that absorb red most (Alcian blue) look like ink.

    Returns
    -------
    (h, w) bool array

    Raises
    ------
    ValueError
        If `rgb` is not an (h, w, 3) uint8 array.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"expected an (h, w, 3) uint8 picture, not {rgb.shape} {rgb.dtype}")
    if rgb.size == 0:
        return np.zeros(rgb.shape[:2], np.bool_)
    step = working_step(rgb)
    small = averaged(rgb, step)
    side = max(small.shape[:2])
    red, green, blue = densities(small)
    ink = ink_in(red, green, blue)

    colour = ndimage.uniform_filter(most(red, green, blue) - least(red, green, blue), 3)
    density = ndimage.uniform_filter((red + green + blue) / 3, 3)
    uneven = ndimage.uniform_filter(np.square(density - ndimage.uniform_filter(density, 7)), 7) > _MIN_TEXTURE**2
    faint = (density > _MIN_FAINT_DENSITY) & uneven
    tissue = ((density > _MIN_DENSITY) | (colour > _MIN_COLOUR) | faint) & ~ink
    tissue = without_small(tissue, (side / 256) ** 2)
    tissue = _closed(tissue, odd(side / 128))
    tissue = ~without_small(~tissue, _LARGEST_HOLE * tissue.size) & ~ink
    return tissue.repeat(step, 0).repeat(step, 1)[: rgb.shape[0], : rgb.shape[1]]


def _closed(mask: Bools, window: int) -> Bools:
    """Return `mask` with gaps narrower than `window` closed (padded, for a border must not grow tissue)."""
    larger = grown(np.pad(mask, window), window)
    return ~grown(~larger, window)[window:-window, window:-window]
