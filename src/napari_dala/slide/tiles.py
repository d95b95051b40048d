"""The grid of tiles over a slide, at the model's own resolution, and the reading of its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.slide.base import Level, Slide

CELL_PX = 32  # one cell of ResNet's layer4, hence of its CAM, in model pixels; other trunks have others
BLOCK = 4  # tiles per side of a block: read at once, written as one chunk
_LEAST_PX = 0.5  # model px beyond the last tile that are worth another one; less comes of a rounded resolution


class Measured(Protocol):
    """What a grid needs to know of a slide: a `Slide` knows it, and so do notes about one that is not open."""

    @property
    def name(self) -> str:
        """As errors call it."""

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height, level-0 px."""

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Micrometres per level-0 pixel (x, y)."""


@dataclass(frozen=True)
class TileGrid:
    """Tiles of `tile_px` model pixels, `stride_cells` CAM cells apart, starting at the slide's corner.

    Every position is computed from its index, never accumulated, so that the far corner is exact. The last row and
    column are moved back by whole CAM cells, until at most a part of a cell lies beyond the slide: they overlap their
    neighbours, cells lie on one lattice, and all of the slide is seen. A tile stands for its place in a regular grid,
    as far as that lies on the slide.

    Attributes
    ----------
    slide_size
        Width and height of the slide, level-0 px.
    tile_px
        Tile side in model pixels, a multiple of `cell_px`.
    scale
        Level-0 pixels per model pixel (x, y).
    stride_cells
        Distance between neighbouring tiles in CAM cells.
    to_the_edge
        False of what was stored until 2026-11-29: no tile is moved, the last is at least half inside the slide, and
        what lies beyond is not seen.
    cell_px
        Side of a CAM cell in model pixels: the stride of the model's trunk.
    """

    slide_size: tuple[int, int]
    tile_px: int
    scale: tuple[float, float]
    stride_cells: int
    to_the_edge: bool = True
    cell_px: int = CELL_PX

    @classmethod
    def over(
        cls, slide: Measured, tile_px: int, mpp: float, overlap: float = 0.0, *, cell_px: int = CELL_PX
    ) -> TileGrid:
        """Lay a grid over a slide.

        Parameters
        ----------
        slide
            Its `mpp` must be known.
        tile_px, mpp
            The model's tile side (px) and resolution (um/px).
        overlap
            Shared part of neighbouring tiles' sides, 0 to below 1; rounded to whole CAM cells.
        cell_px
            Side of the model's CAM cells (px).

        Raises
        ------
        SlideError
            When the slide has no mpp, or is more than twice as coarse as the model.
        """
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap {overlap}: must be at least 0 and below 1")
        if slide.mpp is None:
            raise SlideError(
                f"{slide.name}: the file does not say its resolution; give it as micrometres per pixel (--mpp)"
            )
        scale = (mpp / slide.mpp[0], mpp / slide.mpp[1])
        if min(scale) < 0.5:
            raise SlideError(
                f"{slide.name}: {max(slide.mpp):.3g} um/px is more than twice as coarse as the model's {mpp:.3g} um/px"
            )
        cells = tile_px // cell_px
        return cls(slide.dimensions, tile_px, scale, max(1, round(cells * (1 - overlap))), cell_px=cell_px)

    @property
    def cells(self) -> int:
        """CAM cells along a tile's side."""
        return self.tile_px // self.cell_px

    @property
    def stride_px(self) -> int:
        """Distance between neighbouring tiles in model pixels."""
        return self.stride_cells * self.cell_px

    @property
    def upsampled(self) -> bool:
        """True where the slide is coarser than the model, so that its pixels are enlarged."""
        return min(self.scale) < 0.99

    @property
    def regular(self) -> TileGrid:
        """The same without moved tiles, see `to_the_edge`."""
        return replace(self, to_the_edge=False)

    @cached_property
    def starts(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First CAM cells of the rows (rows,) and columns (columns,) of tiles."""
        columns, rows = (self._starts(size / scale) for size, scale in zip(self.slide_size, self.scale, strict=True))
        return rows, columns

    def _starts(self, length: float) -> NDArray[np.intp]:
        """Return the first cells of the tiles along a side of so many model pixels."""
        if not self.to_the_edge:
            count = floor((length - self.tile_px / 2) / self.stride_px + 1e-9) + 1
            return np.arange(max(1, count)) * self.stride_cells
        last = max(0, ceil((length - _LEAST_PX) / self.cell_px) - self.cells)
        return np.minimum(np.arange(ceil(last / self.stride_cells) + 1) * self.stride_cells, last)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        rows, columns = self.starts
        return len(rows), len(columns)

    @property
    def cam_shape(self) -> tuple[int, int]:
        """CAM cells of the whole grid, (rows, columns)."""
        rows, columns = self.starts
        return int(rows[-1]) + self.cells, int(columns[-1]) + self.cells

    @property
    def unseen(self) -> float:
        """Part of the slide's area that no tile covers; 0 if the grid goes `to_the_edge`."""
        ends = (cells * self.cell_px * scale for cells, scale in zip(self.cam_shape[::-1], self.scale, strict=True))
        seen = [min(1.0, end / size) for end, size in zip(ends, self.slide_size, strict=True)]
        return 0.0 if self.to_the_edge else 1 - seen[0] * seen[1]

    @property
    def tile_size(self) -> tuple[float, float]:
        """Width and height of a tile, level-0 px."""
        return self.tile_px * self.scale[0], self.tile_px * self.scale[1]

    @property
    def stride(self) -> tuple[float, float]:
        """Distance between neighbouring tiles (x, y), level-0 px."""
        return self.stride_px * self.scale[0], self.stride_px * self.scale[1]

    @property
    def tile_frame(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """A picture of one pixel per tile, at its place in a regular grid.

        Pixel side (y, x) and centre of its first pixel (y, x), level-0 px; the last ones may reach beyond the slide.
        """
        return self.stride[::-1], (self.tile_size[1] / 2, self.tile_size[0] / 2)

    @property
    def cell_frame(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """A picture of one pixel per CAM cell: pixel side (y, x) and centre of its first pixel (y, x), level-0 px."""
        side = (self.cell_px * self.scale[1], self.cell_px * self.scale[0])
        return side, (side[0] / 2, side[1] / 2)

    def origins(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Left edges (columns,) and top edges (rows,) of the tiles, level-0 px."""
        rows, columns = self.starts
        left, top = (
            cells.astype(np.float64) * self.cell_px * scale
            for cells, scale in zip((columns, rows), self.scale, strict=True)
        )
        return left, top

    def box(self, row: int, column: int, rows: int = 1, columns: int = 1) -> tuple[int, int, int, int]:
        """Return left, top, width and height of the rectangle around neighbouring tiles, model px."""
        top, left = int(self.starts[0][row]), int(self.starts[1][column])
        bottom, right = self.starts[0][row + rows - 1], self.starts[1][column + columns - 1]
        sides = (left, top, int(right) - left + self.cells, int(bottom) - top + self.cells)
        return sides[0] * self.cell_px, sides[1] * self.cell_px, sides[2] * self.cell_px, sides[3] * self.cell_px

    def middles(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middles of the tiles, x (columns,) and y (rows,), level-0 px."""
        left, top = self.origins()
        return left + self.tile_size[0] / 2, top + self.tile_size[1] / 2

    def middle(self, row: int, column: int) -> tuple[float, float]:
        """Return the middle (x, y) of a tile, level-0 px."""
        x, y = self.middles()
        return float(x[column]), float(y[row])

    def at(self, x: float, y: float) -> tuple[int, int] | None:
        """Return the tile (row, column) in whose place a point lies, level-0 px; None where none covers it."""
        tile = []
        for at, step, side, count, size in zip(
            (y, x), self.stride[::-1], self.tile_size[::-1], self.shape, self.slide_size[::-1], strict=True
        ):
            index = min(max(round((at - side / 2) / step), 0), count - 1)
            if not 0 <= at <= min(size, index * step + side):
                return None
            tile.append(index)
        return tile[0], tile[1]

    def nearest(self, x: float, y: float) -> tuple[int, int]:
        """Return the tile (row, column) whose middle is nearest to a point, level-0 px."""
        middle_x, middle_y = self.middles()
        return int(np.abs(middle_y - y).argmin()), int(np.abs(middle_x - x).argmin())

    def has_tiles_of(self, other: TileGrid) -> bool:
        """Return whether tiles are of the same size and resolution on as large a slide; they may overlap otherwise."""
        same = self.slide_size == other.slide_size and self.tile_px == other.tile_px
        return same and bool(np.allclose(self.scale, other.scale, rtol=1e-6))

    def places(self) -> tuple[NDArray[np.float64], ...]:
        """Where the tiles lie in a regular grid, cut to the slide: left (columns,), top (rows,), widths, heights."""
        left, top = (
            np.arange(count, dtype=np.float64) * step for count, step in zip(self.shape[::-1], self.stride, strict=True)
        )
        width, height = (
            np.minimum(side, size - edge)
            for edge, side, size in zip((left, top), self.tile_size, self.slide_size, strict=True)
        )
        return left, top, width, height

    def edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between what each tile stands for, x (columns + 1,) and y (rows + 1,), level-0 px, none beyond the slide.

        That is the box of one stride around the middle of its place, at the border all up to the edge, so that no area
        counts twice.
        """
        steps, firsts = self.tile_frame
        x, y = (
            np.clip(first - step / 2 + np.arange(count + 1, dtype=np.float64) * step, 0, size)
            for step, first, count, size in zip(
                steps[::-1], firsts[::-1], self.shape[::-1], self.slide_size, strict=True
            )
        )
        if self.to_the_edge:
            (x[0], y[0]), (x[-1], y[-1]) = (0, 0), self.slide_size
        return x, y

    def areas(self) -> NDArray[np.float64]:
        """Area between the edges of each tile, (rows, columns), level-0 px squared."""
        x, y = (np.diff(edges) for edges in self.edges())
        return y[:, None] * x[None, :]

    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks of 4 x 4 tiles."""
        return ceil(self.shape[0] / BLOCK), ceil(self.shape[1] / BLOCK)


def read_tiles(slide: Slide, grid: TileGrid, row: int, column: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """Read neighbouring tiles at once, as one picture at the model's resolution.

    Parameters
    ----------
    row, column
        First tile.
    rows, columns
        How many tiles.

    Returns
    -------
    (height, width, 3) uint8, of the size of `grid.box(row, column, rows, columns)`. What lies beyond the slide is of
    the background's colour if the slide is smaller than a tile, else mirrored: less than a cell of the last tile.

    Raises
    ------
    SlideError
        When any of these pixels cannot be decoded.
    """
    *start, across, high = grid.box(row, column, rows, columns)
    out = (across, high)
    index = slide.level_for(min(grid.scale))
    down = slide.levels[index].downsample
    left, top = (at * scale / down for at, scale in zip(start, grid.scale, strict=True))
    width, height = out[0] * grid.scale[0] / down, out[1] * grid.scale[1] / down
    x, y = (round((floor(edge) - 1) * down) for edge in (left, top))  # one pixel more than needed, for the filter
    begins = slide.corner(x, y, index)
    left, top = left - begins[0], top - begins[1]
    right, bottom = left + width, top + height
    read = slide.read(x, y, ceil(right) + 2, ceil(bottom) + 2, index)
    pixels: NDArray[np.uint8] = mirrored_at_edge(read, grid, slide.levels[index], *begins)
    exact = (round(left), round(top), round(left) + out[0], round(top) + out[1])
    if np.abs(np.subtract((left, top, right, bottom), exact)).max() < 1e-3:
        return pixels[exact[1] : exact[3], exact[0] : exact[2]]
    resized = Image.fromarray(pixels).resize(out, Image.Resampling.BILINEAR, (left, top, right, bottom))
    return np.asarray(resized)


def mirrored_at_edge(pixels: Any, grid: TileGrid, level: Level, left: float, top: float) -> Any:
    """Return pixels of a level with what lies right of the slide and below it mirrored at its edge.

    Parameters
    ----------
    pixels
        (h, w, 3) array or tensor.
    grid
        Of the slide. Along a side on which it has but one tile nothing is mirrored.
    left, top
        Where on the level they begin, in its pixels.
    """
    sides = zip((top, left), (level.height, level.width), pixels.shape, grid.shape, strict=False)
    for axis, (start, length, count, tiles) in enumerate(sides):
        inside = floor(length - start)  # whole pixels
        if grid.to_the_edge and tiles > 1 and 0 < inside < count:
            index = np.arange(count)
            index = np.minimum(index, 2 * inside - 1 - index).clip(0)
            pixels = pixels[index] if axis == 0 else pixels[:, index]
    return pixels
