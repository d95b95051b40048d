from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_dala.model.threshold import DynamicThreshold
from napari_dala.results.report.pictures import (
    cam_overview,
    cut_of,
    explain_figure,
    heat,
    overview,
    probability_rgba,
    thresholded_cam,
)
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from PIL import Image

    from napari_dala.slide import Slide


@pytest.fixture
def slide() -> Slide:
    return open_slide(np.full((700, 1000, 3), 220, np.uint8), mpp=0.25)


def changed(picture: Image.Image, size: tuple[int, int], grey: int = 220) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that an overlay changed, within the slide's part of a picture."""
    pixels = np.asarray(picture)[: size[1], : size[0]].astype(int)
    rows, columns = np.nonzero(np.abs(pixels - grey).max(-1) > 2)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_probability_has_one_pixel_per_tile(slide: Slide, paint_analysis: Any) -> None:
    analysis = paint_analysis(slide, 0.9, background=((0, 0),))
    rgba = probability_rgba(analysis, 1)
    assert rgba.shape == (*analysis.grid.shape, 4)
    assert rgba[0, 0, 3] == 0
    assert np.all(rgba[1:, :, 3] > 100)
    assert np.all(probability_rgba(analysis, 0)[..., 3] < 20)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize("max_side", [1600, 333])
def test_far_corner_tile_is_drawn_where_it_lies(
    slide: Slide, paint_analysis: Any, overlap: float, max_side: int
) -> None:
    def corner(grid: Any) -> Any:
        malignant = np.zeros(grid.shape)
        malignant[-1, -1] = 1
        return malignant

    analysis = paint_analysis(slide, corner, overlap=overlap)
    grid = analysis.grid
    zoom = min(1, max_side / 1000)
    size = (round(1000 * zoom), round(700 * zoom))
    left, top, right, bottom = changed(overview(slide, analysis, max_side), size)
    margin = (grid.tile_size[0] - grid.stride[0]) / 2
    x, y = ((count - 1) * grid.stride[0] + margin for count in grid.shape[::-1])  # whatever was moved back
    assert (left, top) == pytest.approx((x * zoom, y * zoom), abs=1)
    assert (right, bottom) == size


def test_dt_grad_cam_is_drawn_where_it_lies(slide: Slide, paint_analysis: Any) -> None:
    def one(grid: Any) -> Any:
        malignant = np.zeros(grid.shape)
        malignant[3, 6] = 1
        return malignant

    analysis = paint_analysis(slide, one)
    thresholded = thresholded_cam(analysis, DynamicThreshold(min_area_um2=0))
    assert list(map(tuple, np.argwhere(thresholded.mask))) == [(7, 13)]  # the painted CAM's last cell
    left, top, right, bottom = changed(cam_overview(slide, analysis, thresholded), (1000, 700))
    side = 64  # level-0 px of a cell; bilinear enlarging spreads it by half a cell
    assert side <= right - left <= 2 * side
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((13.5 * side, 7.5 * side), abs=2)


def test_small_cells_are_not_lost_in_a_small_picture(slide: Slide, paint_analysis: Any) -> None:
    def one(grid: Any) -> Any:
        malignant = np.zeros(grid.shape)
        malignant[2, 2] = 1
        return malignant

    analysis = paint_analysis(slide, one)
    thresholded = thresholded_cam(analysis, DynamicThreshold(min_area_um2=0))
    changed(cam_overview(slide, analysis, thresholded, max_side=6), (6, 4))


def test_gaps_and_warnings_are_shown(slide: Slide, paint_analysis: Any, small_tiles: Any) -> None:
    plain = overview(slide, paint_analysis(slide, 0.0))
    assert np.all(np.asarray(plain)[:700, :1000] == 220)
    analysis = paint_analysis(slide, 0.0, todo=((1, 1),))
    assert changed(overview(slide, analysis), (1000, 700)) == (128, 128, 256, 256)
    analysis = paint_analysis(slide, 0.0, unreadable=((2, 3),))
    assert changed(overview(slide, analysis), (1000, 700)) == pytest.approx((384, 256, 512, 384), abs=3)
    untrained = paint_analysis(slide, 0.0, card=small_tiles.model_copy(update={"trained": False}))
    warned = overview(slide, untrained)
    assert warned.height > plain.height
    strip = np.asarray(warned)[700:].astype(int)
    assert np.any((strip[..., 0] > 150) & (strip[..., 1:].max(-1) < 20))  # the warning's red


def test_legend_marks_the_threshold(slide: Slide, paint_analysis: Any) -> None:
    analysis = paint_analysis(slide, 0.0)
    low, high, default = (np.asarray(overview(slide, analysis, threshold=at))[700:] for at in (0.2, 0.8, None))
    assert np.any(low != high)
    np.testing.assert_array_equal(default, np.asarray(overview(slide, analysis, threshold=0.5))[700:])


@pytest.mark.parametrize("shape", [(40, 30), (30, 4000), (3000, 20)])
def test_any_shape_of_slide_has_a_picture(paint_analysis: Any, shape: tuple[int, int]) -> None:
    slide = open_slide(np.full((*shape, 3), 220, np.uint8), mpp=0.25)
    analysis = paint_analysis(slide, 0.9)
    assert overview(slide, analysis).width >= 700
    assert cam_overview(slide, analysis, thresholded_cam(analysis)).width >= 700


def test_heat_covers_the_image_from_edge_to_edge(slide: Slide) -> None:
    from PIL import Image

    values = np.zeros((7, 7), np.float32)
    values[0, 6] = 1
    left, top, right, bottom = changed(heat(Image.new("RGB", (224, 224), (220,) * 3), values), (224, 224))
    assert (right, top) == (224, 0)
    assert left > 224 - 2 * 32
    assert bottom < 2 * 32


def test_explain_figure_shows_three_pictures() -> None:
    cam = np.zeros((7, 7), np.float32)
    cam[2:5, 2:5] = 3
    thresholded = DynamicThreshold(scope="tile")(cam, cell_um=16, tile_cells=7)
    image = np.full((224, 300, 3), 200, np.uint8)
    figure = explain_figure(image, thresholded, class_name="malignant", probability=0.87)
    pixels = np.asarray(figure)
    height = round(448 * 224 / 300)
    panels = [pixels[16 : 16 + height, left : left + 448] for left in (16, 480, 944)]
    assert np.all(panels[0] == 200)
    for panel in panels[1:]:
        assert np.any(panel[height // 2, 224] != 200)
        assert np.all(panel[:20, :20] == 200)
    warned = explain_figure(image, thresholded, class_name="malignant", probability=0.87, warnings=["untrained"])
    assert warned.height > figure.height


def test_cut_in_words() -> None:
    cam = np.zeros((7, 7), np.float32)
    rule = DynamicThreshold(scope="tile")
    assert cut_of(rule(cam, cell_um=16, tile_cells=7)) == "nothing stands out"
    cam[2:5, 2:5] = 3
    assert cut_of(rule(cam, cell_um=16, tile_cells=7)) == "threshold T = 0.50, kept 18%"
