"""The drawn teaching slide: the same for the same seed, seamless, and true to its truth."""

from __future__ import annotations

import json
import uuid
from functools import cache

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import binary_erosion
from skimage.draw import polygon2mask

from napari_dala.slide.teaching.slide import CLASSES, MPP, TRUTH_CELL, teaching_slide
from napari_dala.slide.teaching.tissue import SLIDE_WHITE, DrawnTissue

SIDE = 2103  # no multiple of a tile, a strip or a truth cell; odd, and so is its half


@pytest.fixture(scope="module")
def tissue():
    return DrawnTissue(SIDE, seed=3)


@pytest.fixture(scope="module")
def whole(tissue):
    return tissue.draw(0, 0, SIDE, SIDE).astype(int)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return teaching_slide(tmp_path_factory.mktemp("teaching") / "drawn.tiff", SIDE, seed=3)


@pytest.fixture(scope="module")
def pixels(slide):
    return tifffile.imread(slide.path)


@pytest.fixture(scope="module")
def truth(slide):
    return np.asarray(Image.open(slide.truth_png))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Give the small slide of a side, each drawn once and alone in its folder."""
    return cache(lambda side: teaching_slide(tmp_path_factory.mktemp("small") / "small.tiff", side, seed=1))


def cells(image):
    """Cut the whole truth cells out of an image: (rows, columns, px, channels)."""
    n = SIDE // TRUTH_CELL
    whole = image[: n * TRUTH_CELL, : n * TRUTH_CELL].reshape(n, TRUTH_CELL, n, TRUTH_CELL, 3)
    return whole.swapaxes(1, 2).reshape(n, n, -1, 3)


def area(ring):
    x, y = np.transpose(ring)
    return abs((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def test_the_seed_decides_every_pixel(small, tmp_path):
    once = small(1024)  # two strips of two blocks
    again = teaching_slide(tmp_path / "again.tiff", 1024, seed=1)
    pixels = tifffile.imread(once.path).astype(int)
    np.testing.assert_array_equal(tifffile.imread(again.path), pixels)
    assert again.truth_png.read_bytes() == once.truth_png.read_bytes()
    assert again.truth_geojson.read_bytes() == once.truth_geojson.read_bytes()
    other = DrawnTissue(1024, seed=2).draw(0, 0, 1024, 1024)
    assert np.abs(other - pixels).mean() > 10


def test_openslide_and_tifffile_read_it(slide, pixels):
    with openslide.OpenSlide(slide.path) as opened:
        assert opened.properties["openslide.vendor"] == "generic-tiff"
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(MPP)
        assert float(opened.properties["openslide.mpp-y"]) == pytest.approx(MPP)
        assert opened.level_dimensions == ((2103, 2103), (1051, 1051), (525, 525))
        region = np.asarray(opened.read_region((900, 700), 0, (300, 200)).convert("RGB"))
    np.testing.assert_allclose(region.astype(int), pixels[700:900, 900:1200], atol=3)
    with tifffile.TiffFile(slide.path) as file:
        assert [page.shape for page in file.pages] == [(2103, 2103, 3), (1051, 1051, 3), (525, 525, 3)]
        assert all(page.tile == (256, 256) for page in file.pages)


def test_the_file_holds_what_was_drawn_at_every_level(slide, pixels, tissue):
    assert np.abs(tissue.draw(300, 700, 1100, 400).astype(int) - pixels[700:1100, 300:1400]).mean() < 4  # JPEG
    finer = pixels
    for level, loss in ((1, 3), (2, 4)):  # JPEG's; a shift by one pixel makes it 6 and 9
        half = len(finer) // 2
        halved = finer[: 2 * half, : 2 * half].reshape(half, 2, half, 2, 3).mean((1, 3))
        finer = tifffile.imread(slide.path, key=level)
        assert np.abs(finer - halved).mean() < loss


@pytest.mark.parametrize("cut", [(0, 0, 1024, 1024), (500, 400, 1024, 700), (511, 511, 900, 901), (773, 641, 333, 407)])
def test_a_region_is_drawn_alike_as_part_of_any_block(tissue, whole, cut):
    left, top, width, height = cut
    difference = np.abs(tissue.draw(*cut) - whole[top : top + height, left : left + width])
    assert difference.mean() < 0.01  # float32 rounds otherwise in blocks of another size
    assert (difference > 3).mean() < 1e-4


def test_rows_join_blocks_without_a_seam(tissue, whole):
    drawn = tissue.rows(700, 600)
    assert drawn.shape == (600, SIDE, 3)
    assert (np.abs(drawn - whole[700:1300]) > 3).mean() < 1e-4


def test_truth_is_the_class_at_the_middle_of_each_cell(truth, tissue):
    assert truth.shape == (33, 33)
    assert truth.dtype == np.uint8
    middles = (np.arange(33) + 0.5) * TRUTH_CELL
    np.testing.assert_array_equal(truth, tissue.classes(middles, middles))
    assert set(np.unique(truth)) == {0, 1, 2}


def test_pixels_agree_with_the_truth(pixels, tissue):
    n = SIDE // TRUTH_CELL
    inside = tissue.classes(np.arange(n * TRUTH_CELL) + 0.5, np.arange(n * TRUTH_CELL) + 0.5)
    inside = cells(np.repeat(inside[..., None], 3, 2))[..., 0]
    pure = np.where((inside == inside[..., :1]).all(-1), inside[..., 0], 255)
    nuclei = (cells(pixels)[..., 0] < 130).mean(-1)  # only haematoxylin takes much of the red
    outside = binary_erosion(pure == 0, np.ones((3, 3)), border_value=1)  # frays cross the outline by some px
    assert np.abs(cells(pixels)[outside].astype(int) - SLIDE_WHITE).max() <= 12
    assert nuclei[pure == 2].mean() > 0.3
    assert nuclei[pure == 1].mean() < 0.12
    assert np.median(nuclei[pure == 2]) > np.quantile(nuclei[pure == 1], 0.95)
    benign = cells(pixels)[pure == 1]
    assert (np.median(benign, axis=1)[:, 1] < 225).mean() > 0.5  # stained


def test_polygons_follow_the_truth(slide, truth, tissue):
    collection = json.loads(slide.truth_geojson.read_text())
    assert collection["type"] == "FeatureCollection"
    features = collection["features"]
    assert len({uuid.UUID(feature["id"]) for feature in features}) == len(features)
    covered = dict.fromkeys(CLASSES, 0.0)
    drawn = np.zeros((SIDE // 4, SIDE // 4), np.uint8)
    for feature in features:
        assert feature["properties"]["objectType"] == "annotation"
        name, color = (feature["properties"]["classification"][key] for key in ("name", "color"))
        assert len(color) == 3
        exterior, *holes = (np.array(ring) for ring in feature["geometry"]["coordinates"])
        for ring in (exterior, *holes):
            assert ring.min() >= 0
            assert ring.max() <= SIDE
            assert (ring[0] == ring[-1]).all()
        covered[name] += area(exterior) - sum(map(area, holes))
        mask = polygon2mask(drawn.shape, exterior[:, ::-1] / 4 - 0.5)
        for hole in holes:
            mask &= ~polygon2mask(drawn.shape, hole[:, ::-1] / 4 - 0.5)
        drawn[mask] = CLASSES.index(name)
    for label in (1, 2):
        assert covered[CLASSES[label]] == pytest.approx((truth == label).sum() * TRUTH_CELL**2, rel=0.08)
    middles = (np.arange(SIDE // 4) + 0.5) * 4
    assert (drawn == tissue.classes(middles, middles)).mean() > 0.998


@pytest.mark.parametrize("side", [512, 1024])
def test_a_small_slide_has_both_classes_and_one_level(small, side):
    slide = small(side)
    assert {1, 2} <= set(np.unique(np.asarray(Image.open(slide.truth_png))))
    with openslide.OpenSlide(slide.path) as opened:
        assert opened.dimensions == (side, side)
        assert opened.level_count == 1
    assert len(list(slide.path.parent.iterdir())) == 3  # nothing temporary is left


def test_too_small_a_side_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 512"):
        teaching_slide(tmp_path / "tiny.tiff", 256)
    assert not list(tmp_path.iterdir())
