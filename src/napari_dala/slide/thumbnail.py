"""A slide drawn small, whatever of it can be decoded; kept, so that a list of many shows its pictures at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError, may_pass
from napari_dala.files import replacing
from napari_dala.slide.pictures import plain_picture
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide

SIDE_PX = 192
"""Longer side of a picture that is kept."""
_BLOCK_BYTES = 1 << 25


def draw_thumbnail(
    slide: Slide, max_side: int, *, unless_lost: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a slide with its longer side at most `max_side` px, (h, w, 3) uint8, and where it cannot be decoded.

    Raises
    ------
    SlideError
        `unless_lost`: where something of it cannot be read for the moment, see `may_pass`.
    """
    width, height = slide.dimensions
    shrink = max(1.0, max(width, height) / max_side)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    index = slide.level_for(shrink)
    level = slide.levels[index]
    factor = max(1, int(shrink / level.downsample))
    # In blocks: a slide of one level would not fit into memory as a whole. A few at a time, to decode faster.
    most = _BLOCK_BYTES // 3
    rows = max(1, min(512 * level.width, most) // (level.width * factor)) * factor
    columns = max(1, most // (rows * factor)) * factor

    lost: list[tuple[int, int, int, int]] = []  # left, top, right, bottom; px of the level

    def block(corner: tuple[int, int]) -> NDArray[np.uint8]:
        top, left = corner
        wide, high = min(columns, level.width - left), min(rows, level.height - top)
        pixels = _read_what_can_be(slide, (left, top, wide, high), index, lost, unless_lost)
        return np.asarray(Image.fromarray(pixels).reduce(factor))

    corners = product(range(0, level.height, rows), range(0, level.width, columns))
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        blocks = list(pool.map(block, corners))
    across = -(-level.width // columns)
    strips = [np.concatenate(blocks[at : at + across], axis=1) for at in range(0, len(blocks), across)]
    whole = np.concatenate(strips)
    undecoded = np.zeros(size[::-1], np.bool_)
    to_right, down = size[0] / level.width, size[1] / level.height
    for left, upper, right, lower in lost:
        undecoded[floor(upper * down) : ceil(lower * down), floor(left * to_right) : ceil(right * to_right)] = True
    return np.asarray(Image.fromarray(whole).resize(size, Image.Resampling.BILINEAR)), undecoded


def _read_what_can_be(
    slide: Slide,
    box: tuple[int, int, int, int],
    index: int,
    lost: list[tuple[int, int, int, int]],
    unless_lost: bool,
) -> NDArray[np.uint8]:
    """Read a box (pixels of the level) inside it; where that fails tile by tile, the bad ones from finer levels.

    What cannot be read there either is left as background, and added to `lost`.
    """
    level, (left, top, width, height) = slide.levels[index], box

    x, y = round(left * level.downsample), round(top * level.downsample)
    try:
        return slide.read(x, y, width, height, index)
    except SlideError as error:
        if unless_lost and may_pass(error):
            raise
        pixels = plain_picture(width, height, slide.facts.background)
    wide, high = level.tile
    for y in range(top // high * high, top + height, high):
        first, last = max(top, y), min(top + height, y + high)
        for x in range(left // wide * wide, left + width, wide):
            start, end = max(left, x), min(left + width, x + wide)
            at = round(start * level.downsample), round(first * level.downsample)
            tile = _read_at_any(slide, *at, end - start, last - first, index)
            if tile is None:
                lost.append((start, first, end, last))
            else:
                pixels[first - top : last - top, start - left : end - left] = tile
    return pixels


def _read_at_any(slide: Slide, x: int, y: int, width: int, height: int, index: int) -> NDArray[np.uint8] | None:
    """Read a rectangle of a level from it or from the next finer one that can be read; None where none can."""
    for finer in range(index, -1, -1):
        zoom = slide.levels[index].downsample / slide.levels[finer].downsample
        try:
            pixels = slide.read(x, y, round(width * zoom), round(height * zoom), finer)
        except SlideError:
            continue
        return pixels if finer == index else np.asarray(Image.fromarray(pixels).resize((width, height)))
    return None


def kept_thumbnail(pixels_id: str) -> Path | None:
    """Return a slide's small picture (PNG, longer side `SIDE_PX`) by `Slide.pixels_id`; None where there is none."""
    path = _kept_path(pixels_id)
    return path if path.is_file() else None


def keep_thumbnail(slide: Slide) -> Path:
    """Draw a slide small, once, and return the picture's file; label pictures are never in it.

    Raises
    ------
    OSError
        When it cannot be written.
    SlideError
        When the slide, or some of it, cannot be read for the moment: no picture of that is kept.
    """
    path = _kept_path(slide.pixels_id)
    if not path.is_file():
        picture = Image.fromarray(draw_thumbnail(slide, SIDE_PX, unless_lost=True)[0])
        with replacing(path) as temporary:
            picture.save(temporary, "PNG")
    return path


def _kept_path(pixels_id: str) -> Path:
    return cache_folder() / "thumbnails" / f"{pixels_id}.png"
