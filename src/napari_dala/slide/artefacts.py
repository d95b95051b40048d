"""What hides or spoils tissue on a slide's thumbnail: ink of pens, and what is out of focus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_dala.slide.density import (
    averaged,
    densities,
    glass_colour,
    grown,
    least,
    majority,
    most,
    odd,
    without_small,
    working_step,
)
from napari_dala.slide.mask import SlideMask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide
    from napari_dala.slide.density import Bools, Floats

_FLAT = 0.05  # part of the density that it varies by; no tissue of an ink's colour is as even at 2 um/px and more
_PADDING = 3  # grey levels
_FOCUS_UM = 1.6  # of a pixel; at finer ones sharp tissue looks smooth too
_FOCUS_BLOCK, _FOCUS_BLOCKS = 8, 5  # px of a square that is judged as one, with its neighbours: 5 squares wide
_BLURRED = 0.5  # Laplacian against density; see `_blur`
_MIN_CONTRAST = 0.01  # in density; without any texture nothing says whether it is sharp
_TISSUE_DENSITY = 0.05
_DENSITY_OF = np.maximum(-np.log10((np.arange(3 * 255 + 1) / 3 + 1) / 246), 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Artefacts:
    """What is not to be analysed of a picture of a slide.

    Attributes
    ----------
    ink
        (h, w) bool, pen strokes, over glass as over tissue.
    blur
        (h, w) bool, tissue out of focus; never where there is ink.
    """

    ink: Bools
    blur: Bools


def artefact_mask(rgb: NDArray[np.uint8], um_per_px: float | None = None) -> Artefacts:
    """Return what is ink and what is out of focus in a picture of a whole slide.

    *Ink* is what absorbs as no stain of haematoxylin with eosin or DAB does, or as evenly as no tissue does: see
    `ink_in` for the rules and for what they cannot tell. *Out of focus* is tissue in which neighbouring pixels differ
    little from each other against how much they differ over 40 px. It errs on the side of sharp: noise, a lack of any
    texture, and glass are never called blurred. A thumbnail cannot show a blur narrower than its own pixels: on real
    photographs a Gaussian of 4 um is found at up to 2.6 um/px and hardly at 4, one of 6 um at 4 and hardly at 8.

    Parameters
    ----------
    rgb
        (h, w, 3) uint8.
    um_per_px
        Of the picture; where it is not known, nothing is called out of focus.
    """
    step = working_step(rgb)
    small = averaged(rgb, step)
    ink = ink_in(*densities(small, glass_colour(small[::2, ::2]))) & ~_padding(small)
    blur = np.zeros_like(ink)
    if um_per_px is not None:
        coarser = max(1, math.ceil(_FOCUS_UM / (um_per_px * step)))
        clear = ~grown(ink, odd(4 * coarser))[::coarser, ::coarser]
        blur = _enlarged(_blur(averaged(small, coarser), clear), coarser, ink.shape)
    return Artefacts(*(_enlarged(mask, step, rgb.shape) for mask in (ink, blur)))


def artefacts_of(slide: Slide, max_side: int) -> tuple[SlideMask, SlideMask]:
    """Return what is ink and what is out of focus on a slide's thumbnail of `max_side` px."""
    picture = slide.thumbnail(max_side)
    scale = (slide.dimensions[0] / picture.shape[1], slide.dimensions[1] / picture.shape[0])
    um_per_px = None if slide.mpp is None else min(slide.mpp[0] * scale[0], slide.mpp[1] * scale[1])
    found = artefact_mask(picture, um_per_px)
    return SlideMask(found.ink, scale), SlideMask(found.blur, scale)


def ink_in(red: Floats, green: Floats, blue: Floats) -> Bools:
    """Return pen strokes and black padding, from the optical densities of a thumbnail, (h, w) each.

    By how they absorb, where haematoxylin takes red and green about alike, eosin green, and DAB blue most (Ruifrok and
    Johnston 2001, figure 1): blue and green inks take red most, pale green red and blue, yellow and orange ones blue
    alone, red ink green and blue alike and hardly any red, black all alike. Ink over tissue adds up to more density in
    red than stained tissue has on a thumbnail. Single nuclei can look so too: a stroke fills most of a square of 1/160
    of the longer side. Close to the stains (blues beside haematoxylin, brown beside DAB, crimson beside eosin) a colour
    counts as ink only where it is as even as no tissue is, over an area of a square of 1/30 of the longer side.

    Violet and pink ink absorb as haematoxylin and eosin do and cannot be told from them, nor grey and pale ink from
    faded tissue. DAB that is out of focus at 2 um/px or finer can be as even as brown ink.
    """
    side = max(red.shape)
    window = odd(side / 160)
    vivid = (red > 1.3 * green) & (red - green > 0.15)
    vivid |= np.minimum(red, blue) - green > 0.1
    vivid |= (blue > 2.5 * np.maximum(red, green)) & (blue > 0.15)
    vivid |= (green > 0.45) & (blue > 0.8 * green) & (blue < 1.25 * green) & (red < 0.2 * green)
    vivid |= (green > 1) & (blue > 0.8) & (red < 0.35 * green)  # red over eosin
    vivid |= (red > 0.5) & (np.minimum(green, blue) > 0.5) & (least(red, green, blue) > 0.7 * most(red, green, blue))
    vivid |= red > 0.85
    close = (red > 0.3) & (red > 1.05 * green) & (red - green > 0.04)
    close |= (red > 0.3) & (red > 0.9 * green) & (blue < 0.35 * red)
    close |= (red > 0.7) & (red > 0.85 * green)  # dark blue over tissue
    close |= (blue > 0.25) & (blue > 1.15 * green)
    close |= (green > 1) & (red < 0.12 * green) | (green > 1.5)
    looks_so, least_area = vivid, (side / 30) ** 2
    if np.count_nonzero(close) >= least_area:
        looks_so |= without_small(close & _is_even(red + green + blue, max(5, window)), least_area)
    if np.count_nonzero(looks_so) <= window**2 / 2:  # as nearly always
        return np.zeros(red.shape, np.bool_)
    stroke = majority(looks_so, window)
    near = grown(stroke, 2 * window + 1)
    fringe = near & ((red > 1.1 * green + 0.02) | looks_so)
    return grown(stroke, window) | fringe


def _is_even(density: Floats, window: int) -> Bools:
    """Return where the density varies by little against itself over a square of `window` px."""
    mean = ndimage.uniform_filter(density, window)
    variance = ndimage.uniform_filter(np.square(density), window) - np.square(mean)
    return np.asarray(variance < np.square(_FLAT * mean))


def _padding(rgb: NDArray[np.uint8]) -> Bools:
    """Return the black with which scanners fill up the picture, from its border on, and a little around it."""
    black = rgb.max(2) <= _PADDING
    if not (black[[0, -1]].any() or black[:, [0, -1]].any()):
        return np.zeros_like(black)
    labels, _ = ndimage.label(black)
    rim = np.unique(np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()]))
    padding = np.isin(labels, rim[rim > 0])
    return grown(padding, odd(max(rgb.shape) / 40))


def _enlarged(mask: Bools, step: int, shape: tuple[int, ...]) -> Bools:
    """Return a mask of `step` px squares as one of single pixels."""
    return mask.repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]]


def _blur(rgb: NDArray[np.uint8], clear: Bools) -> Bools:
    """Return tissue out of focus, among what is clear of ink.

    The variance of the Laplacian (Pech-Pacheco et al. 2000), here of the optical density and within tissue, divided by
    that of the density itself, so that pale and dark, plain and crowded tissue are measured alike; so it does not
    matter what the glass is, which in a photograph full of tissue cannot be found.
    """
    density = _DENSITY_OF[rgb.sum(2, dtype=np.uint16)]
    block, (height, width) = _FOCUS_BLOCK, density.shape
    padded = np.pad(density, ((1, -height % block + 1), (1, -width % block + 1)), mode="edge")
    here = padded[1:-1, 1:-1]
    tissue = ndimage.minimum_filter(padded, 3)[1:-1, 1:-1] > _TISSUE_DENSITY
    tissue[:height, :width] &= clear
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * here

    def around(values: Floats) -> Floats:
        blocks = (values * tissue).reshape(here.shape[0] // block, block, -1, block).mean((1, 3))
        return np.asarray(ndimage.uniform_filter(blocks, _FOCUS_BLOCKS, mode="constant"))

    part = around(np.ones_like(here))
    share = np.maximum(part, 1e-6)
    contrast = around(here * here) / share - np.square(around(here) / share)
    sharpness = around(laplacian * laplacian) / share
    blurred = (part > 0.25) & (contrast > _MIN_CONTRAST**2) & (sharpness < _BLURRED**2 * contrast)
    return np.asarray((_enlarged(blurred, block, here.shape) & tissue)[:height, :width])
