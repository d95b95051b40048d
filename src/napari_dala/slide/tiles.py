"""The regular grid of tiles over a slide, at the model's own resolution, and the reading of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide

CELL_PX = 32  # one cell of ResNet's layer4, hence of a CAM, in model pixels
BLOCK = 4  # tiles per side of a block: read at once, written as one chunk


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

    Every position is computed from its index, never accumulated, so that the far corner is exact. The last
    tile of a row is padded, never shifted.

    Attributes
    ----------
    slide_size
        Width and height of the slide, level-0 px.
    tile_px
        Tile side in model pixels, a multiple of 32.
    scale
        Level-0 pixels per model pixel (x, y).
    stride_cells
        Distance between neighbouring tiles in CAM cells of 32 model pixels.
    """

    slide_size: tuple[int, int]
    tile_px: int
    scale: tuple[float, float]
    stride_cells: int

    @classmethod
    def over(cls, slide: Measured, tile_px: int, mpp: float, overlap: float = 0.0) -> TileGrid:
        """Lay a grid over a slide.

        Parameters
        ----------
        slide
            Its `mpp` must be known.
        tile_px, mpp
            The model's tile side (px) and resolution (um/px).
        overlap
            Shared part of neighbouring tiles' sides, 0 to below 1; rounded to whole CAM cells.

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
        cells = tile_px // CELL_PX
        return cls(slide.dimensions, tile_px, scale, max(1, round(cells * (1 - overlap))))

    @property
    def cells(self) -> int:
        """CAM cells along a tile's side."""
        return self.tile_px // CELL_PX

    @property
    def stride_px(self) -> int:
        """Distance between neighbouring tiles in model pixels."""
        return self.stride_cells * CELL_PX

    @property
    def upsampled(self) -> bool:
        """True where the slide is coarser than the model, so that its pixels are enlarged."""
        return min(self.scale) < 0.99

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; along each side the last tile is at least half inside the slide."""
        columns, rows = (
            max(1, floor((size / scale - self.tile_px / 2) / self.stride_px + 1e-9) + 1)
            for size, scale in zip(self.slide_size, self.scale, strict=True)
        )
        return rows, columns

    @property
    def cam_shape(self) -> tuple[int, int]:
        """CAM cells of the whole grid, (rows, columns)."""
        rows, columns = self.shape
        return (rows - 1) * self.stride_cells + self.cells, (columns - 1) * self.stride_cells + self.cells

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
        """A picture of one pixel per tile: pixel side (y, x) and centre of its first pixel (y, x), level-0 px."""
        return self.stride[::-1], (self.tile_size[1] / 2, self.tile_size[0] / 2)

    @property
    def cell_frame(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """A picture of one pixel per CAM cell: pixel side (y, x) and centre of its first pixel (y, x), level-0 px."""
        side = (CELL_PX * self.scale[1], CELL_PX * self.scale[0])
        return side, (side[0] / 2, side[1] / 2)

    def origins(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Left edges (columns,) and top edges (rows,) of the tiles, level-0 px."""
        rows, columns = self.shape
        return np.arange(columns, dtype=np.float64) * self.stride[0], np.arange(rows, dtype=np.float64) * self.stride[1]

    def middles(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middles of the tiles, x (columns,) and y (rows,), level-0 px."""
        left, top = self.origins()
        return left + self.tile_size[0] / 2, top + self.tile_size[1] / 2

    def nearest(self, x: float, y: float) -> tuple[int, int]:
        """Return the tile (row, column) whose middle is nearest to a point, level-0 px."""
        middle_x, middle_y = self.middles()
        return int(np.abs(middle_y - y).argmin()), int(np.abs(middle_x - x).argmin())

    def has_tiles_of(self, other: TileGrid) -> bool:
        """Return whether tiles are of the same size and resolution on as large a slide; they may overlap otherwise."""
        same = self.slide_size == other.slide_size and self.tile_px == other.tile_px
        return same and bool(np.allclose(self.scale, other.scale, rtol=1e-6))

    def inside_fraction(self) -> NDArray[np.float64]:
        """Part of each tile's area that lies on the slide, (rows, columns)."""
        left, top = self.origins()
        along = [
            (np.minimum(size, edge + side) - edge) / side
            for edge, side, size in zip((left, top), self.tile_size, self.slide_size, strict=True)
        ]
        return along[1][:, None] * along[0][None, :]

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
    ((rows - 1) * stride_px + tile_px, (columns - 1) * stride_px + tile_px, 3) uint8; the tile (r, c) of the
    block starts at (r * stride_px, c * stride_px).

    Raises
    ------
    SlideError
        When any of these pixels cannot be decoded.
    """
    out = ((columns - 1) * grid.stride_px + grid.tile_px, (rows - 1) * grid.stride_px + grid.tile_px)
    index = slide.level_for(min(grid.scale))
    down = slide.levels[index].downsample
    left, top = column * grid.stride[0] / down, row * grid.stride[1] / down
    width, height = out[0] * grid.scale[0] / down, out[1] * grid.scale[1] / down
    x, y = (round((floor(edge) - 1) * down) for edge in (left, top))  # one pixel more than needed, for the filter
    begins = slide.corner(x, y, index)
    left, top = left - begins[0], top - begins[1]
    right, bottom = left + width, top + height
    pixels = slide.read(x, y, ceil(right) + 2, ceil(bottom) + 2, index)
    exact = (round(left), round(top), round(left) + out[0], round(top) + out[1])
    if np.abs(np.subtract((left, top, right, bottom), exact)).max() < 1e-3:
        return pixels[exact[1] : exact[3], exact[0] : exact[2]]
    resized = Image.fromarray(pixels).resize(out, Image.Resampling.BILINEAR, (left, top, right, bottom))
    return np.asarray(resized)
