"""A slide as napari wants it: a list of lazy arrays, finest first, the coarsest small enough to draw at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import zarr
from PIL import Image

from napari_dala.errors import SlideError
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide

TOP_PX = 2048  # longest side of the coarsest level
STEP = 4  # between levels that the file lacks
_CHUNK = 512


def pyramid(slide: Slide, on_ready: Callable[[], None] | None = None) -> list[da.Array]:
    """Return the slide's levels as dask arrays whose chunks are the file's own tiles.

    Levels that the file lacks are computed once in a background thread and kept in the cache folder; until
    then they show the background colour.

    Parameters
    ----------
    slide
        Must stay open as long as the arrays are used.
    on_ready
        Called from the background thread when missing levels are there: take `pyramid(slide)` again.

    Returns
    -------
    list of (height, width, 3) uint8 dask arrays, finest first.
    """
    levels = [
        da.from_array(
            _LevelPixels(slide, index),
            chunks=(level.tile[1], level.tile[0], 3),
            name=f"{slide.fingerprint}-{index}",
            meta=np.empty((0, 0, 0), np.uint8),
            inline_array=True,
        )
        for index, level in enumerate(slide.levels)
    ]
    sizes = _missing_sizes(slide)
    if not sizes:
        return levels
    stored = _stored_levels(slide, sizes)
    ready = bool(stored[-1].attrs.get("complete"))
    if not ready and on_ready:
        threading.Thread(target=_build, args=(slide, stored, on_ready), daemon=True, name="dala-pyramid").start()
    for index, array in enumerate(stored):
        name = f"{slide.fingerprint}-coarse-{index}-{ready}"
        levels.append(da.from_array(array, chunks=(_CHUNK, _CHUNK, 3), name=name, inline_array=True))
    return levels


class _LevelPixels:
    """One level of a slide that is sliced like an array."""

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, slide: Slide, index: int) -> None:
        self._slide, self._index = slide, index
        level = slide.levels[index]
        self.shape = (level.height, level.width, 3)
        self._downsample = level.downsample

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        (top, bottom, _), (left, right, _) = (
            part.indices(size) for part, size in zip(key, self.shape[:2], strict=False)
        )
        x, y = round(left * self._downsample), round(top * self._downsample)
        try:
            pixels = self._slide.read(x, y, right - left, bottom - top, self._index)
        except SlideError:  # one bad tile must not take the viewer down; the analysis reports it
            pixels = np.full((bottom - top, right - left, 3), 128, np.uint8)
        return pixels[..., key[2]]


def _missing_sizes(slide: Slide) -> list[tuple[int, int]]:
    """Width and height of the levels to add below the file's coarsest one."""
    width, height = slide.levels[-1].width, slide.levels[-1].height
    sizes = []
    while max(width, height) > TOP_PX:
        width, height = max(1, width // STEP), max(1, height // STEP)
        sizes.append((width, height))
    return sizes


def _stored_levels(slide: Slide, sizes: list[tuple[int, int]]) -> list[zarr.Array[Any]]:
    """Open, or create empty, the cached levels of a slide."""
    root = zarr.open_group(cache_folder() / "pyramids" / f"{slide.fingerprint}.zarr", mode="a")
    return [
        root.require_array(
            str(index),
            shape=(height, width, 3),
            chunks=(_CHUNK, _CHUNK, 3),
            dtype=np.uint8,
            fill_value=slide.facts.background[0],
        )
        for index, (width, height) in enumerate(sizes)
    ]


def _build(slide: Slide, stored: list[zarr.Array[Any]], on_ready: Callable[[], None]) -> None:
    """Fill the missing levels, each from the one above it, a chunk at a time."""
    source: Any = _LevelPixels(slide, len(slide.levels) - 1)
    try:
        for target in stored:
            height, width = target.shape[:2]
            for top in range(0, height, _CHUNK):
                for left in range(0, width, _CHUNK):
                    bottom, right = min(height, top + _CHUNK), min(width, left + _CHUNK)
                    region = (slice(top * STEP, bottom * STEP), slice(left * STEP, right * STEP), slice(0, 3))
                    target[top:bottom, left:right] = np.asarray(Image.fromarray(source[region]).reduce(STEP))
            source = target
        stored[-1].attrs["complete"] = True
    except (OSError, ValueError):  # the slide was closed or the disk is full: the placeholder stays
        return
    on_ready()
