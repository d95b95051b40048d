"""The JPEG tiles that a TIFF slide stores: their bytes and their pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg

from napari_dala.slide.backends.stored_tiles import SharedFile, StoredTiles

if TYPE_CHECKING:
    import tifffile
    from numpy.typing import NDArray

_JPEG, _RGB, _YCBCR, _CONTIGUOUS = 7, 2, 6, 1  # TIFF's numbers for compression, photometric and planar configuration
_START = b"\xff\xd8"
_HOLDS_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # Adobe's marker: no transform to YCbCr


@dataclass(frozen=True, eq=False)
class JpegTiles(StoredTiles):
    """The tiles of one level, each a JPEG of its own; damage in part is noticed, where libjpeg itself goes on in grey.

    Attributes
    ----------
    offsets
        (rows, columns) int64, where in the file a tile's bytes begin.
    header
        How a tile's JPEG begins: with the tables that TIFF keeps once for all tiles, and a mark where it is not YCbCr.
    shrunk
        The tiles' JPEGs are so many times as large; libjpeg-turbo gives them smaller, from fewer of their frequencies.
    """

    offsets: NDArray[np.int64]
    header: bytes
    shrunk: int = 1

    @classmethod
    def of(cls, page: tifffile.TiffPage, file: SharedFile) -> JpegTiles | None:
        """Return a page's tiles, None where they are not 8-bit RGB or YCbCr JPEGs."""
        kind = (page.compression, page.planarconfig, page.samplesperpixel, page.bitspersample, page.imagedepth)
        if not page.is_tiled or kind != (_JPEG, _CONTIGUOUS, 3, 8, 1) or page.photometric not in (_RGB, _YCBCR):
            return None
        tables = page.jpegtables[len(_START) : -2] if page.jpegtables else b""
        shape = -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)
        return cls(
            file,
            (page.imagewidth, page.imagelength),
            (page.tilewidth, page.tilelength),
            np.array(page.databytecounts, np.int64).reshape(shape),
            np.array(page.dataoffsets, np.int64).reshape(shape),
            _START + (_HOLDS_RGB if page.photometric == _RGB else b"") + tables,
        )

    def halved(self) -> JpegTiles:
        """Return the same tiles at half their size, and the level with them, but for an odd last row or column."""
        size, tile = ((pair[0] // 2, pair[1] // 2) for pair in (self.size, self.tile))
        return replace(self, size=size, tile=tile, shrunk=2 * self.shrunk)

    def compressed(self, row: int, column: int) -> bytes:
        """Return a tile as a JPEG that any decoder reads; empty where none is stored."""
        count = int(self.counts[row, column])
        return self.header + self.file.read(int(self.offsets[row, column]), count)[len(_START) :] if count else b""

    def _decode(self, row: int, column: int) -> NDArray[np.uint8] | None:
        data = self.compressed(row, column)
        if not data:
            return None
        high, wide = simplejpeg.decode_jpeg_header(data)[:2]
        if (wide, high) != (self.tile[0] * self.shrunk, self.tile[1] * self.shrunk):  # before memory is taken for it
            raise ValueError(f"tile ({row}, {column}): a JPEG of {wide} x {high} px")
        smallest = (0, 0) if self.shrunk == 1 else self.tile
        pixels = np.asarray(simplejpeg.decode_jpeg(data, min_width=smallest[0], min_height=smallest[1]))
        pixels.setflags(write=False)
        return pixels
