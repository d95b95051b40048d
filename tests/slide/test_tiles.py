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


OVERLAPS = st.sampled_from([0.0, 0.25, 0.5, 0.8])


def _grid(width: int, height: int, mpp: float, overlap: float = 0.0, cell_px: int = CELL_PX) -> TileGrid:
    cells = max(1, round(224 // cell_px * (1 - overlap)))
    return TileGrid((width, height), 224, (0.5 / mpp, 0.5 / mpp), cells, cell_px=cell_px)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.2, 0.9), OVERLAPS, st.sampled_from([32, 16, 14]))
def test_the_grid_covers_the_slide_and_less_than_a_cell_hangs_over(
    width: int, height: int, mpp: float, overlap: float, cell_px: int
) -> None:
    grid = _grid(width, height, mpp, overlap, cell_px)
    model_px = grid.scale[0]
    assert (len(grid.origins()[1]), len(grid.origins()[0])) == grid.shape == tuple(len(one) for one in grid.starts)
    for starts, origins, size in zip(grid.starts[::-1], grid.origins(), (width, height), strict=True):
        np.testing.assert_allclose(origins, starts * cell_px * model_px)
        assert starts[0] == 0
        steps = np.diff(starts)
        assert (steps[:-1] == grid.stride_cells).all()  # regular, but for the last
        assert (steps > 0).all()
        assert (steps <= grid.stride_cells).all()
        end = origins[-1] + grid.tile_size[0]
        assert end > size - 0.51 * model_px  # nothing is left over
        if len(starts) > 1:
            assert end < size + cell_px * model_px
    assert grid.cam_shape == tuple(starts[-1] + grid.cells for starts in grid.starts)
    assert grid.unseen == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.2, 0.9), OVERLAPS)
def test_what_tiles_stand_for_is_the_slide_once(width: int, height: int, mpp: float, overlap: float) -> None:
    grid = _grid(width, height, mpp, overlap)
    assert grid.areas().shape == grid.shape
    assert grid.areas().min() > 0
    assert grid.areas().sum() == pytest.approx(width * height)
    for edges, origins, side, size in zip(grid.edges(), grid.origins(), grid.tile_size, (width, height), strict=True):
        assert (np.maximum(origins, 0) <= edges[:-1] + 1e-6).all()  # within the tile that is read
        assert (edges[1:] <= np.minimum(origins + side, size) + 0.51 * grid.scale[0]).all()
    left, top, across, high = grid.places()
    assert min(across.min(), high.min()) > 0
    assert (left[-1] + across[-1], top[-1] + high[-1]) == pytest.approx((width, height), abs=0.51 * grid.scale[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(40, 3000), st.integers(40, 3000), st.floats(0.2, 0.9), OVERLAPS)
def test_what_was_stored_before_keeps_its_grid(width: int, height: int, mpp: float, overlap: float) -> None:
    grid = _grid(width, height, mpp, overlap).regular
    left, top = grid.origins()
    assert (len(top), len(left)) == grid.shape
    for origins, side, size in ((left, grid.tile_size[0], width), (top, grid.tile_size[1], height)):
        if len(origins) > 1:
            assert origins[-1] + side / 2 <= size + 1e-6  # at least half inside
        assert origins[-1] + grid.stride[0] + side / 2 > size  # one more would not be
    assert grid.cam_shape == tuple((n - 1) * grid.stride_cells + 7 for n in grid.shape)
    ends = [min(size, edge[-1] + side) for edge, side, size in zip((left, top), grid.tile_size, (width, height),
                                                                    strict=True)]  # fmt: skip
    assert grid.unseen == pytest.approx(1 - ends[0] * ends[1] / (width * height))
    assert grid.has_tiles_of(_grid(width, height, mpp, overlap))


@pytest.mark.parametrize(
    ("size", "starts"),
    [
        ((700, 460), ([0, 7, 8], [0, 7, 14, 15])),
        ((672, 448), ([0, 7], [0, 7, 14])),  # exactly 3 x 2 tiles
        ((673, 449), ([0, 7, 8], [0, 7, 14, 15])),  # a pixel more
        ((672 + 31, 448 + 33), ([0, 7, 9], [0, 7, 14, 15])),  # less and more than a cell
        ((100, 460), ([0, 7, 8], [0])),  # narrower than a tile
        ((700, 20), ([0], [0, 7, 14, 15])),  # narrower than a cell
        ((1, 1), ([0], [0])),
    ],
)
def test_where_the_last_tiles_lie(size: tuple[int, int], starts: tuple[list[int], list[int]]) -> None:
    grid = _grid(*size, 0.5)
    assert tuple(one.tolist() for one in grid.starts) == starts
    slide = _slide(*size, 0.5)
    whole = read_tiles(slide, grid, 0, 0, *grid.shape)
    assert whole.shape == (*(cells * CELL_PX for cells in grid.cam_shape), 3)
    assert (whole[: size[1], : size[0]] == slide.read(0, 0, *size)).all()
    for row, top in enumerate(starts[0]):
        for column, left in enumerate(starts[1]):
            y, x = top * CELL_PX, left * CELL_PX
            assert (read_tiles(slide, grid, row, column, 1, 1) == whole[y : y + 224, x : x + 224]).all()


def test_a_rounded_resolution_makes_no_tile() -> None:
    assert _grid(2240, 2240, 0.50003).shape == (10, 10)  # 2240.13 model px


def test_a_point_is_in_the_place_of_one_tile() -> None:
    grid = _grid(700, 460, 0.5)
    assert grid.at(0, 0) == (0, 0)
    assert grid.at(671, 447) == (1, 2)
    assert grid.at(673, 449) == grid.at(700, 460) == (2, 3)
    assert grid.middle(2, 3) == (15 * 32 + 112, 8 * 32 + 112)
    for outside in ((-1, 5), (701, 5), (5, -1), (5, 461)):
        assert grid.at(*outside) is None
    assert grid.regular.at(695, 455) is None
    assert grid.regular.at(671, 447) == (1, 2)


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


def test_a_slide_smaller_than_a_tile_is_padded_with_background_a_larger_one_mirrored() -> None:
    slide = _slide(100, 50, 0.5)
    grid = TileGrid.over(slide, 64, 0.5)
    assert grid.shape == (1, 2)
    tile = read_tiles(slide, grid, 0, 1, 1, 1)  # from 64 px on
    assert (tile[:50, :36] == slide.read(64, 0, 36, 50)).all()
    assert (tile[50:] == 255).all()
    assert (tile[:50, 36:] == tile[:50, 35:7:-1]).all()
    before = read_tiles(slide, grid.regular, 0, 1, 1, 1)
    assert (before[:, 36:] == 255).all()


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
