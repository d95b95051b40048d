"""The tiles or strips of a TIFF page, of any compression and colours that tifffile decodes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from napari_dala.slide.backends.stored_tiles import SharedFile, StoredTiles
from napari_dala.slide.base import check_size
from napari_dala.slide.colours import TiffColours

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tifffile
    from numpy.typing import NDArray

_SEPARATE = 2  # planar configuration: one plane a sample
_WITH_A_HEADER = {6, 7, 33003, 33004, 33005, 34712, 34892, 34933, 50001}  # compressions: JPEG, JPEG 2000, PNG, WebP
_STRIP_BYTES = 1 << 20  # of pixels that lie in the file as they are, read at once


class _Plane(NamedTuple):
    """Where a sample, or all of them, lies: the page, the number of its first tile, and (rows, columns) int64."""

    page: tifffile.TiffPage
    first: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PageTiles(StoredTiles):
    """The tiles or strips of one level, transparency over the background.

    Attributes
    ----------
    planes
        One, or one a colour.
    colours
        What makes RGB of their samples.
    background
        Colour below transparent pixels.
    plain
        True where pixels lie in the file as they are, in rows: then any number of rows is a strip.
    """

    planes: tuple[_Plane, ...]
    colours: TiffColours
    background: tuple[int, int, int]
    plain: bool

    @classmethod
    def of(
        cls, pages: Sequence[tifffile.TiffPage], file: SharedFile, background: tuple[int, int, int], name: str
    ) -> PageTiles:
        """Return the tiles of a page, or of three that hold red, green and blue.

        Raises
        ------
        SlideError
            When their samples are no colours that are understood, or a tile is too large to be read at once.
        """
        page = pages[0]
        size = page.imagewidth, page.imagelength
        samples, each = page.samplesperpixel, page.bitspersample // 8
        plain = (
            (page.compression, page.predictor, page.fillorder, len(page.dataoffsets)) == (1, 1, 1, 1)
            and not page.is_tiled
            and each > 0
            and (page.planarconfig != _SEPARATE or samples == 1)
        )
        rows = page.rowsperstrip
        if plain:
            rows = max(1, min(page.imagelength, _STRIP_BYTES // (page.imagewidth * samples * each)))
        tile = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, rows)
        check_size(f"{name}: a tile or strip", tile, 2 * samples * max(1, each) + 3)
        shape = -(-size[1] // tile[1]), -(-size[0] // tile[0])
        planes = [plane for one in pages for plane in (_rows_of(one, shape[0], rows) if plain else _planes(one, shape))]
        counts = np.min([plane.counts for plane in planes], axis=0)
        for one in pages:
            one.init_decode()
        return cls(file, size, tile, counts, tuple(planes), TiffColours(name, page, len(pages)), background, plain)

    def _decode(self, row: int, column: int) -> NDArray[np.uint8] | None:
        if not self.counts[row, column]:
            return None
        pixels = self.colours.rgb(
            np.concatenate([self._samples(plane, row, column) for plane in self.planes], axis=-1), self.background
        )
        pixels.setflags(write=False)
        return pixels

    def _samples(self, plane: _Plane, row: int, column: int) -> NDArray[np.generic]:
        """Return what a tile stores, (h, w, samples); at the level's right and lower edge it may be cut to size."""
        count = int(plane.counts[row, column])
        data = self.file.read(int(plane.offsets[row, column]), count)
        if len(data) < count:
            raise ValueError("the file is cut short")
        page = plane.page
        if self.plain:
            kind = np.dtype(f"{page.parent.byteorder}u{page.bitspersample // 8}")
            return np.asarray(np.frombuffer(data, kind)).reshape(-1, page.imagewidth, page.samplesperpixel)
        index = plane.first + row * plane.counts.shape[1] + column
        if int(page.compression) in _WITH_A_HEADER:
            _refuse_larger(data, self.tile)
        pixels = page.decode(data, index, jpegtables=page.jpegtables)[0]
        if pixels is None:
            raise ValueError("an empty tile")
        return np.asarray(pixels).reshape(pixels.shape[1:])  # of depth 1


def _refuse_larger(data: bytes, tile: tuple[int, int]) -> None:
    """Refuse a picture within a tile that says it is larger than the tile, before memory is taken for it."""
    with suppress(UnidentifiedImageError), Image.open(BytesIO(data)) as picture:
        if picture.width > tile[0] or picture.height > tile[1]:
            raise ValueError(f"a tile of {tile[0]} x {tile[1]} px that holds one of {picture.width} x {picture.height}")


def _planes(page: tifffile.TiffPage, shape: tuple[int, int]) -> list[_Plane]:
    """Return a page's planes of `shape` (rows, columns) tiles."""
    many = page.samplesperpixel if page.planarconfig == _SEPARATE else 1
    offsets, counts = (
        np.array(values, np.int64).reshape(many, *shape) for values in (page.dataoffsets, page.databytecounts)
    )
    return [_Plane(page, plane * shape[0] * shape[1], offsets[plane], counts[plane]) for plane in range(many)]


def _rows_of(page: tifffile.TiffPage, strips: int, rows: int) -> list[_Plane]:
    """Cut the one strip of a page, whose pixels lie in the file as they are, into strips of so many rows."""
    row_bytes = page.imagewidth * page.samplesperpixel * page.bitspersample // 8
    first = np.arange(strips, dtype=np.int64) * rows
    counts = np.minimum(rows, page.imagelength - first) * row_bytes
    return [_Plane(page, 0, (page.dataoffsets[0] + first * row_bytes)[:, None], counts[:, None])]
