from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from napari_dala.slide import SlideError, open_slide
from napari_dala.slide.tiles import BLOCK, CELL_PX, TileGrid, read_tiles


def _slide(width: int, height: int, mpp: float):
    """A slide whose red and green say where a pixel is."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 2 * 255], -1)
    return open_slide(pixels.astype(np.uint8), mpp=mpp)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(40, 3000),
    height=st.integers(40, 3000),
    mpp=st.floats(0.2, 0.9),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.8]),
)
def test_the_grid_covers_the_slide_and_no_tile_is_less_than_half_inside(
    width: int, height: int, mpp: float, overlap: float
) -> None:
    grid = TileGrid((width, height), 224, (0.5 / mpp, 0.5 / mpp), max(1, round(7 * (1 - overlap))))
    left, top = grid.origins()
    assert (len(top), len(left)) == grid.shape
    for origins, side, size in ((left, grid.tile_size[0], width), (top, grid.tile_size[1], height)):
        if len(origins) > 1:
            assert origins[-1] + side / 2 <= size + 1e-6  # at least half inside
        assert origins[-1] + grid.stride[0] + side / 2 > size  # one more would not be
    assert grid.cam_shape == tuple((n - 1) * grid.stride_cells + 7 for n in grid.shape)


def test_the_far_corner_is_exact() -> None:
    grid = TileGrid((98_304, 98_304), 224, (1.7145, 1.7145), 5)
    rows, columns = grid.shape
    left, top = grid.origins()
    assert left[-1] == pytest.approx((columns - 1) * 5 * CELL_PX * 1.7145, abs=1e-6)
    assert top[-1] == pytest.approx((rows - 1) * 5 * CELL_PX * 1.7145, abs=1e-6)


@pytest.mark.parametrize("slide_mpp", [0.5, 0.37, 0.25, 0.9])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_pixels_come_from_where_the_grid_says(slide_mpp: float, overlap: float) -> None:
    slide = _slide(1500, 1100, slide_mpp)
    grid = TileGrid.over(slide, 64, 0.5, overlap)
    row, column = grid.shape[0] - 2, grid.shape[1] - 2
    tile = read_tiles(slide, grid, row, column, 1, 1)
    assert tile.shape == (64, 64, 3)
    left, top = (origins[index] for origins, index in zip(grid.origins(), (column, row), strict=True))
    middle = (left + grid.tile_size[0] / 2, top + grid.tile_size[1] / 2)
    found = tile[24:40, 24:40].reshape(-1, 3).mean(0)
    assert found[0] == pytest.approx(middle[0] * 255 / 1499, abs=1.0)
    assert found[1] == pytest.approx(middle[1] * 255 / 1099, abs=1.0)


def test_a_block_read_at_once_equals_its_tiles_read_alone() -> None:
    slide = _slide(900, 900, 0.31)
    grid = TileGrid.over(slide, 64, 0.5, 0.5)
    block = read_tiles(slide, grid, 2, 3, BLOCK, BLOCK).astype(int)
    for row in range(BLOCK):
        for column in range(BLOCK):
            y, x = row * grid.stride_px, column * grid.stride_px
            alone = read_tiles(slide, grid, 2 + row, 3 + column, 1, 1)
            assert np.abs(block[y : y + 64, x : x + 64] - alone).max() <= 1


def test_resolution_that_fits_is_read_without_resampling() -> None:
    slide = _slide(300, 300, 0.5)
    grid = TileGrid.over(slide, 64, 0.5)
    assert (read_tiles(slide, grid, 1, 2, 1, 1) == slide.read(128, 64, 64, 64)).all()


def test_edges_are_padded_with_background() -> None:
    slide = _slide(100, 64, 0.5)
    grid = TileGrid.over(slide, 64, 0.5)
    assert grid.shape == (1, 2)
    tile = read_tiles(slide, grid, 0, 1, 1, 1)
    assert (tile[:, 36:] == 255).all()
    assert (tile[:, :36] != 255).any()


def test_unknown_and_hopeless_resolutions_are_refused() -> None:
    with pytest.raises(SlideError, match="--mpp"):
        TileGrid.over(open_slide(np.zeros((9, 9, 3), np.uint8)), 224, 0.5)
    with pytest.raises(SlideError, match="twice as coarse"):
        TileGrid.over(_slide(50, 50, 1.1), 224, 0.5)
    assert TileGrid.over(_slide(50, 50, 0.9), 224, 0.5).upsampled
    assert not TileGrid.over(_slide(50, 50, 0.5), 224, 0.5).upsampled


def test_the_coarsest_level_that_is_fine_enough_is_read(mosaic) -> None:
    with open_slide(mosaic) as slide:
        assert slide.level_for(1.0) == 0
        assert slide.level_for(1.99) == 1  # within a hundredth of 2
        assert slide.level_for(2.5) == 1
        assert slide.level_for(4.0) == 2
        assert slide.level_for(0.7) == 0
