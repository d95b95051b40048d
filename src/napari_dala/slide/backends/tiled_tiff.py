"""SVS: OpenSlide says what the slide is, its JPEG tiles are read without it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.errors import SlideError
from napari_dala.slide.backends.jpeg_tiles import JpegTiles
from napari_dala.slide.backends.openslide import OpenSlideSlide
from napari_dala.slide.backends.stored_tiles import SharedFile
from napari_dala.slide.backends.tifffile import open_tiff
from napari_dala.slide.base import Slide

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.slide.base import Level

_SAME_COLOUR = 2.0  # grey levels between the means of one tile by two readers; a wrong colour space gives tens


class TiledTiffSlide(OpenSlideSlide):
    """A slide whose levels of JPEG tiles are decoded here; OpenSlide reads the others.

    OpenSlide draws every tile on a canvas of 4 bytes a pixel, which costs more than decoding it.
    """

    def __init__(self, path: Path, mpp: float | tuple[float, float] | None = None) -> None:
        super().__init__(path, mpp)
        self._shared = SharedFile(path)
        weakref.finalize(self, self._shared.close)
        stored = _stored_tiles(path, self._shared)
        self.jpeg_tiles = tuple(self._checked(_of_level(level, stored), i) for i, level in enumerate(self.levels))

    def _checked(self, tiles: JpegTiles | None, index: int) -> JpegTiles | None:
        """Return a level's tiles if the one with most in it has the colours that OpenSlide gives it."""
        if tiles is None or not tiles.counts.all():
            return None  # OpenSlide draws what is missing of an SVS level from a finer one
        row, column = np.unravel_index(np.argmax(tiles.counts), tiles.counts.shape)
        (wide, high), down = tiles.tile, self.levels[index].downsample
        box = (int(column) * wide, int(row) * high, wide, high)
        try:
            theirs = super()._read(round(box[0] * down), round(box[1] * down), wide, high, index)
            ours = tiles.read(box, self.facts.background)
        except Exception:  # damaged, or a kind of JPEG that is not decoded here
            return None
        return tiles if np.abs(ours.mean((0, 1)) - theirs.mean((0, 1))).max() < _SAME_COLOUR else None

    def corner(self, x: int, y: int, level: int) -> tuple[float, float]:
        """See `Slide.corner`."""
        return super().corner(x, y, level) if self.jpeg_tiles[level] is None else Slide.corner(self, x, y, level)

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> NDArray[np.uint8]:
        """See `Slide.read`."""
        if self.jpeg_tiles[level] is None:
            return super()._read(x, y, width, height, level)
        out = np.empty((height, width, 3), np.uint8)
        self._read_into(out, x, y, level)
        return out

    def _read_into(self, out: NDArray[np.uint8], x: int, y: int, level: int) -> None:
        """See `Slide.read_into`."""
        tiles = self.jpeg_tiles[level]
        if tiles is None:
            return super()._read_into(out, x, y, level)
        left, top = self.corner(x, y, level)
        try:
            tiles.read_into(out, int(left), int(top), self.facts.background)
        except (OSError, ValueError) as error:  # not asked again of OpenSlide, which shows some damage as grey
            raise SlideError(
                f"{self.name}: pixels at ({x}, {y}) of level {level} cannot be decoded ({error})"
            ) from error

    def close(self) -> None:
        """See `Slide.close`."""
        super().close()
        self._shared.close()


def _stored_tiles(path: Path, file: SharedFile) -> list[JpegTiles]:
    """Return the JPEG tiles of each page that has some."""
    try:
        with open_tiff(path) as (tiff, _):
            return [tiles for page in tiff.pages if (tiles := JpegTiles.of(page.aspage(), file)) is not None]
    except Exception:  # a page out of the ordinary can break tifffile anywhere
        return []


def _of_level(level: Level, stored: list[JpegTiles]) -> JpegTiles | None:
    """Return the only tiles of a level's size; two pages of one size are focal planes or worse."""
    fitting = [tiles for tiles in stored if (tiles.size, tiles.tile) == ((level.width, level.height), level.tile)]
    return fitting[0] if len(fitting) == 1 else None
