"""Pixels at the model's resolution: where the grid says, and as Pillow resamples them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_dala import open_slide
from napari_dala.inference.sampler import Sampler
from napari_dala.slide.tiles import BLOCK, TileGrid, read_tiles

CPU = torch.device("cpu")


def _slope(width: int, height: int) -> np.ndarray:
    """A picture whose red rises along x, green along y."""
    x, y = np.linspace(0, 255, width), np.linspace(0, 255, height)
    return np.stack(
        [np.tile(x, (height, 1)), np.tile(y[:, None], (1, width)), np.full((height, width), 9.0)], axis=2
    ).astype(np.uint8)


@pytest.mark.parametrize("slide_mpp", [0.5, 0.37, 0.25, 0.248, 0.9])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_pixels_come_from_where_the_grid_says(slide_mpp: float, overlap: float) -> None:
    slide = open_slide(_slope(1500, 1100), mpp=slide_mpp)
    grid = TileGrid.over(slide, 64, 0.5, overlap)
    row, column = grid.shape[0] - 3, grid.shape[1] - 3
    picture = Sampler(slide, grid, CPU).picture(row, column, 2, 2)
    side = grid.stride_px + 64
    assert picture.shape == (side, side, 3)
    assert picture.dtype == torch.uint8
    left, top = (origins[index] for origins, index in zip(grid.origins(), (column, row), strict=True))
    middle = (left + side * grid.scale[0] / 2, top + side * grid.scale[1] / 2)
    found = picture[side // 2 - 8 : side // 2 + 8, side // 2 - 8 : side // 2 + 8].reshape(-1, 3).double().mean(0)
    assert found[0] == pytest.approx(middle[0] * 255 / 1500, abs=1.0)
    assert found[1] == pytest.approx(middle[1] * 255 / 1100, abs=1.0)


@pytest.mark.parametrize("mpp", [0.4, 0.5, 1.1])
@pytest.mark.parametrize("place", [(3, 5), (6, 4)])
def test_tissue_looks_as_pillow_resamples_it(mosaic: Path, mpp: float, place: tuple[int, int]) -> None:
    with open_slide(mosaic) as slide:
        grid = TileGrid.over(slide, 224, mpp)
        row, column = (round(at * 0.4 / mpp) for at in place)
        ours = Sampler(slide, grid, CPU).picture(row, column, 2, 2).numpy().astype(int)
        pillows = read_tiles(slide, grid, row, column, 2, 2).astype(int)
    assert ours.std() > 10, "tissue"
    off = np.abs(ours - pillows)
    assert off.mean() < 1.0  # it lies up to half a pixel of the level aside, mostly far less
    shifted = np.abs(ours[:, 1:] - pillows[:, :-1]).mean()
    assert off.mean() < shifted / 4


def test_a_resolution_that_fits_is_not_resampled() -> None:
    slide = open_slide(_slope(700, 700), mpp=0.5)
    grid = TileGrid.over(slide, 64, 0.5)
    picture = Sampler(slide, grid, CPU).picture(1, 2, BLOCK, BLOCK)
    assert (picture.numpy() == slide.read(128, 64, 256, 256)).all()


def test_what_overhangs_the_slide_is_mirrored_and_of_a_smaller_one_background() -> None:
    black = np.zeros((130, 70, 3), np.uint8)  # 104 x 56 model px
    slide = open_slide(black, mpp=0.4)
    grid = TileGrid.over(slide, 64, 0.5)
    assert grid.shape == (2, 1)
    sampler = Sampler(slide, grid, CPU)
    picture = sampler.picture(0, 0, 2, 1).numpy()
    assert picture.shape == (128, 64, 3)
    assert (picture[1:, 1:54] == 0).all()
    assert (picture[:, 58:] == 255).all()
    before = Sampler(slide, grid.regular, CPU).picture(0, 0, 2, 1).numpy()
    assert (before[106:] == 255).all()
    np.testing.assert_array_equal(picture[:102], before[:102])


@pytest.mark.parametrize("mpp", [0.5, 0.4])
def test_the_edge_is_mirrored_where_it_lies(mpp: float) -> None:
    height = round(72 * 0.5 / mpp)  # model px: 64 and a quarter of a cell
    slide = open_slide(_slope(400, height), mpp=mpp)
    grid = TileGrid.over(slide, 64, 0.5)
    for tile in (Sampler(slide, grid, CPU).picture(1, 0, 1, 1).numpy(), read_tiles(slide, grid, 1, 0, 1, 1)):
        rows = tile[:, 8:56, 1].mean(1)  # from 32 px on; the slide ends at 72
        assert rows[39:41].max() == pytest.approx(255, abs=8)
        np.testing.assert_allclose(rows[30:40], rows[49:39:-1], atol=8)
