"""The tiles or strips that a TIFF file stores of one level: any rectangle put together from them."""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_KEPT_BYTES = 48 << 20  # of decoded tiles; 256 of 256 px: what four blocks of tiles, one below the other, touch


class SharedFile:
    """A file that several threads read at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, fewer at the file's end."""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, offset)
        with self._lock:  # Windows has one position a file
            self._file.seek(offset)
            return self._file.read(count)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class Piece(NamedTuple):
    """Part of a tile, and where it goes: rows and columns in the tile and in the rectangle."""

    row: int
    column: int
    source: tuple[slice, slice]
    target: tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class StoredTiles(ABC):
    """The tiles of one level; strips are tiles as wide as the level.

    Attributes
    ----------
    file
        That holds them.
    size
        Width and height of the level, px.
    tile
        Width and height of a tile, px; the last ones of a row or column overhang the level.
    counts
        (rows, columns) int64, how many bytes a tile has; 0: not stored.
    """

    file: SharedFile
    size: tuple[int, int]
    tile: tuple[int, int]
    counts: NDArray[np.int64]

    def decode(self, row: int, column: int) -> NDArray[np.uint8] | None:
        """Return a tile's pixels, read-only (tile height, tile width, 3) uint8, None where none is stored.

        Raises
        ------
        ValueError
            When the tile is damaged.
        """
        return self._decoded(row, column)

    @cached_property
    def _decoded(self) -> Callable[[int, int], NDArray[np.uint8] | None]:
        """The decoder with what it decoded last: rectangles read one after another share tiles at their edges."""
        myself = weakref.ref(self)  # else it would keep itself, and what it decoded, until Python looks for cycles

        def decode(row: int, column: int) -> NDArray[np.uint8] | None:
            tiles = myself()
            assert tiles is not None
            return tiles._decode(row, column)

        return lru_cache(max(1, _KEPT_BYTES // (3 * self.tile[0] * self.tile[1])))(decode)

    @abstractmethod
    def _decode(self, row: int, column: int) -> NDArray[np.uint8] | None:
        """See `decode`."""

    def read(self, box: tuple[int, int, int, int], background: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Put a rectangle together, each tile decoded once.

        Parameters
        ----------
        box
            x, y, width and height in this level's pixels; may overhang it.
        background
            Colour of what is not there.

        Returns
        -------
        (height, width, 3) uint8

        Raises
        ------
        ValueError
            When one of the tiles is damaged.
        """
        out = np.empty((box[3], box[2], 3), np.uint8)
        self.read_into(out, box[0], box[1], background)
        return out

    def read_into(self, out: NDArray[np.uint8], x: int, y: int, background: tuple[int, int, int]) -> None:
        """Put a rectangle of `out`'s size together there; see `read`."""
        pieces, whole = self.pieces((x, y, out.shape[1], out.shape[0]))
        if not whole:
            out[:] = background
        for piece in pieces:
            pixels = self.decode(piece.row, piece.column)
            if pixels is not None:
                out[piece.target] = pixels[piece.source]

    def pieces(self, box: tuple[int, int, int, int]) -> tuple[list[Piece], bool]:
        """Return what parts of which tiles make up a rectangle, and whether they fill it; see `read`."""
        x, y, width, height = box
        left, right = np.clip((x, x + width), 0, self.size[0]).tolist()
        top, bottom = np.clip((y, y + height), 0, self.size[1]).tolist()
        if left == right or top == bottom:
            return [], False
        wide, high = self.tile
        rows, columns = range(top // high, -(-bottom // high)), range(left // wide, -(-right // wide))
        whole = (left, top, right, bottom) == (x, y, x + width, y + height)
        whole &= bool(self.counts[rows.start : rows.stop, columns.start : columns.stop].all())
        pieces = []
        for row in rows:
            first, last = max(top, row * high), min(bottom, (row + 1) * high)
            for column in columns:
                start, end = max(left, column * wide), min(right, (column + 1) * wide)
                source = slice(first - row * high, last - row * high), slice(start - column * wide, end - column * wide)
                pieces.append(Piece(row, column, source, (slice(first - y, last - y), slice(start - x, end - x))))
        return pieces, whole
