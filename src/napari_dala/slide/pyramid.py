"""A slide as napari wants it: a list of lazy arrays, finest first, the coarsest small enough to draw at once."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError, may_pass
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    import zarr
    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide

    Pixels = NDArray[np.uint8]
    Reader = Callable[[int, int, int, int], Pixels]

TOP_PX = 2048  # longest side of the coarsest level
STEP = 4  # between levels that the file lacks
_CHUNK = 512
_KEPT_BYTES = 1 << 28  # of decoded tiles, of all slides together: some screens full
_UNREADABLE = 128  # grey


def pyramid(slide: Slide, on_ready: Callable[[], None] | None = None) -> list[LazyLevel]:
    """Return the slide's levels as lazy arrays that read the file's own tiles.

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
    list of (height, width, 3) uint8 arrays, finest first.
    """
    levels = []
    for index, level in enumerate(slide.levels):
        shape, chunks = (level.height, level.width, 3), (level.tile[1], level.tile[0], 3)
        levels.append(LazyLevel(shape, chunks, f"{slide.pixels_id}-{index}", _reader_of(slide, index)))
    sizes = _missing_sizes(slide)
    if not sizes:
        return levels
    stored = _stored_levels(slide, sizes)
    ready = bool(stored[-1].attrs.get("complete"))
    if not ready and on_ready:
        threading.Thread(target=_build, args=(slide, stored, on_ready), daemon=True, name="dala-pyramid").start()
    for index, (array, (width, height)) in enumerate(zip(stored, sizes, strict=True)):
        name = f"{slide.pixels_id}-coarse-{index}-{ready}"
        levels.append(LazyLevel((height, width, 3), (_CHUNK, _CHUNK, 3), name, _reader_in(array)))
    return levels


class LazyLevel:
    """Pixels that are sliced like a (height, width, 3) array and read as they are asked for, tile by tile.

    napari takes it as it takes a dask array, which would cost a third of a second to import and a millisecond a tile.

    Parameters
    ----------
    shape
        Height, width and 3.
    chunks
        Height, width and depth of a tile.
    name
        Of these pixels: what was read of a name is kept for the next frame.
    read
        `read(top, bottom, left, right)` gives a rectangle; called from several threads.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(
        self,
        shape: tuple[int, int, int],
        chunks: tuple[int, int, int],
        name: str,
        read: Reader,
    ) -> None:
        self.shape, self.chunks, self.name = shape, chunks, name
        self._read = read

    def __getitem__(self, key: Any) -> Pixels:
        """Read what numpy's basic slicing would give."""
        key = key if isinstance(key, tuple) else (key,)
        if ... in key:
            at = key.index(...)
            key = key[:at] + (slice(None),) * (4 - len(key)) + key[at + 1 :]
        spans, within = [], []
        for part, size in zip((*key[:2], *(slice(None),) * (2 - len(key[:2]))), self.shape, strict=False):
            picked = range(size)[part] if isinstance(part, slice) else range(size)[part : part + 1 or None]
            low, high = (min(picked), max(picked) + 1) if picked else (0, 0)
            spans.append((low, high))
            within.append(slice(None, None, picked.step) if isinstance(part, slice) else 0)
        return self._rectangle(*spans[0], *spans[1])[(*within, *key[2:])]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[:], dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def _rectangle(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """Put a rectangle together from tiles."""
        high, wide = self.chunks[:2]
        out = np.empty((bottom - top, right - left, 3), np.uint8)
        if not out.size:
            return out
        places = [
            (row, column)
            for row in range(top // high, -(-bottom // high))
            for column in range(left // wide, -(-right // wide))
        ]
        kept = {place: tile for place in places if (tile := _kept.get((self.name, *place))) is not None}
        missing = [place for place in places if place not in kept]
        kept.update(zip(missing, _readers.map(self._tile, missing), strict=True))
        for (row, column), tile in kept.items():
            first, last = max(top, row * high), min(bottom, (row + 1) * high)
            start, end = max(left, column * wide), min(right, (column + 1) * wide)
            part = tile[first - row * high : last - row * high, start - column * wide : end - column * wide]
            out[first - top : last - top, start - left : end - left] = part
        return out

    def _tile(self, place: tuple[int, int]) -> Pixels:
        """Read a tile and keep it; one that is lost for the moment is grey, and read again the next time."""
        high, wide = self.chunks[:2]
        top, left = place[0] * high, place[1] * wide
        bottom, right = min(self.shape[0], top + high), min(self.shape[1], left + wide)
        try:
            tile = self._read(top, bottom, left, right)
        except SlideError:
            return np.full((bottom - top, right - left, 3), _UNREADABLE, np.uint8)
        _kept.put((self.name, *place), tile)
        return tile


class _Kept:
    """The tiles that were used last, up to so many bytes; for any thread."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._tiles: OrderedDict[tuple[str, int, int], Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int, int]) -> Pixels | None:
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: tuple[str, int, int], tile: Pixels) -> None:
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._bytes += tile.nbytes
            while self._bytes > self._most:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes


_kept = _Kept(_KEPT_BYTES)
_readers = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "dala-tiles")


def _reader_of(slide: Slide, index: int) -> Reader:
    """Return what reads a level that the file has.

    What cannot be decoded is grey, and the analysis reports it; what is lost for the moment raises SlideError.
    """
    downsample = slide.levels[index].downsample

    def read(top: int, bottom: int, left: int, right: int) -> Pixels:
        x, y = round(left * downsample), round(top * downsample)
        try:
            return slide.read(x, y, right - left, bottom - top, index)
        except SlideError as error:
            if may_pass(error):
                raise
            return np.full((bottom - top, right - left, 3), _UNREADABLE, np.uint8)

    return read


def _reader_in(stored: zarr.Array[Any]) -> Reader:
    """Return what reads a level in the cache folder."""
    return lambda top, bottom, left, right: np.asarray(stored[top:bottom, left:right])


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
    import zarr  # a tenth of a second, which a slide that lacks no level need not wait

    root = zarr.open_group(cache_folder() / "pyramids" / f"{slide.pixels_id}.zarr", mode="a")
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
    read = _reader_of(slide, len(slide.levels) - 1)
    try:
        for target in stored:
            height, width = target.shape[:2]
            for top in range(0, height, _CHUNK):
                for left in range(0, width, _CHUNK):
                    bottom, right = min(height, top + _CHUNK), min(width, left + _CHUNK)
                    pixels = read(top * STEP, bottom * STEP, left * STEP, right * STEP)
                    target[top:bottom, left:right] = np.asarray(Image.fromarray(pixels).reduce(STEP))
            read = _reader_in(target)
        stored[-1].attrs["complete"] = True
    except (SlideError, OSError, ValueError):  # the slide was closed or is lost, or the disk is full: not complete
        return
    on_ready()
