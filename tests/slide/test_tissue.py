"""The tissue mask finds tissue, and takes neither glass nor ink nor padding for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.data import immunohistochemistry
from skimage.io import imread

from napari_dala.slide.density import glass_colour
from napari_dala.slide.mask import SlideMask
from napari_dala.slide.tissue import tissue_in, tissue_mask
from tests.cost import cost_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parents[3] / "shared" / "data"
GLASSES = {"white": (250, 250, 250), "saturated": (255, 255, 255), "grey": (205, 205, 207), "greenish": (200, 224, 204)}
INKS = {
    "blue": (40, 70, 190),
    "green": (30, 140, 80),
    "black": (35, 35, 38),
    "grey": (70, 70, 72),
    "red": (215, 30, 45),
}
HERE = np.s_[100:612, 300:812]  # where `drawn_slide` has its tissue


def empty_glass(colour: tuple[int, int, int] = GLASSES["white"], noise: float = 1.5) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(colour, noise, (800, 1000, 3)), 0, 255).astype(np.uint8)


def drawn_slide(colour: tuple[int, int, int] = GLASSES["white"]) -> NDArray[np.uint8]:
    """Real tissue (DAB and haematoxylin, its own glass (236, 236, 234)) on glass of a colour."""
    slide = empty_glass(colour)
    light = immunohistochemistry() / (236, 236, 234) * colour
    slide[HERE] = np.clip(light, 0, 255).astype(np.uint8)
    return slide


def with_stroke(slide: NDArray[np.uint8], ink: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw across glass and tissue with a pen that takes its share of the light; and say where."""
    row, col = np.mgrid[: slide.shape[0], : slide.shape[1]]
    distance = np.abs(row - 0.6 * col - 50) / np.hypot(1, 0.6)
    cover = np.clip((14 - distance) / 3, 0, 1)[..., None]
    return (slide * (np.array(ink) / 250) ** cover).astype(np.uint8), distance < 14


@pytest.mark.parametrize("colour", GLASSES.values(), ids=GLASSES)
def test_tissue_is_found_on_any_glass(colour: tuple[int, int, int]) -> None:
    slide = drawn_slide(colour)
    mask = tissue_in(slide)
    assert mask.shape == slide.shape[:2]
    assert glass_colour(slide) == pytest.approx(colour, abs=2)
    assert mask[HERE].mean() > 0.93  # that picture has a lumen and its own corner of glass
    outside = mask.copy()
    outside[HERE] = False
    assert outside.sum() < 0.005 * mask.size


@pytest.mark.parametrize("noise", [0.0, 1.5, 4.0])
@pytest.mark.parametrize("colour", [*GLASSES.values(), (0, 0, 0)], ids=[*GLASSES, "black"])
def test_an_empty_slide_has_no_tissue(colour: tuple[int, int, int], noise: float) -> None:
    assert not tissue_in(empty_glass(colour, noise)).any()


def test_uneven_light_is_no_tissue() -> None:
    shade = 1 - 0.12 * np.linspace(-1, 1, 1000) ** 2
    assert not tissue_in((empty_glass() * shade[None, :, None]).astype(np.uint8)).any()


@pytest.mark.parametrize("zoom", [1, 2])
def test_a_picture_full_of_tissue_is_all_tissue(zoom: int) -> None:
    full = immunohistochemistry()[40:240, 60:260].repeat(zoom, 0).repeat(zoom, 1)
    assert tissue_in(full).mean() > 0.98


@pytest.mark.parametrize("ink", INKS.values(), ids=INKS)
def test_ink_is_not_tissue_on_glass_or_on_tissue(ink: tuple[int, int, int]) -> None:
    clean = tissue_in(drawn_slide())
    slide, stroke = with_stroke(drawn_slide(), ink)
    mask = tissue_in(slide)
    assert mask[stroke & ~clean].mean() < 0.01
    assert mask[stroke & clean].mean() < 0.05
    assert mask[clean & ~stroke].mean() > 0.95  # and the tissue beside it stays


@pytest.mark.parametrize("shade", [0, 255])
def test_scanner_padding_is_not_tissue(shade: int) -> None:
    slide = drawn_slide(GLASSES["grey"])
    alone = tissue_in(slide)
    slide[:, 850:] = shade
    slide[700:] = shade
    mask = tissue_in(slide)
    assert not mask[:, 850:].any()
    assert not mask[700:].any()
    assert (mask[:700, :850] == alone[:700, :850]).mean() > 0.99


def test_fat_inside_tissue_is_tissue() -> None:
    slide = empty_glass()
    slide[200:600, 200:800] = (205, 150, 190)
    rng = np.random.default_rng(1)
    holes = np.zeros(slide.shape[:2], bool)
    holes[rng.integers(230, 570, 200), rng.integers(230, 770, 200)] = True
    holes = ndimage.binary_dilation(holes, iterations=9)
    slide[holes] = empty_glass()[holes]
    mask = tissue_in(slide)
    assert mask[holes].mean() > 0.9
    assert not mask[:190].any()


def test_dust_is_not_tissue() -> None:
    slide = empty_glass()
    slide[::50, ::50] = 90
    assert not tissue_in(slide).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2), (2049, 3), (0, 5)])
def test_pictures_of_any_size(shape: tuple[int, int]) -> None:
    assert tissue_in(np.full((*shape, 3), 244, np.uint8)).shape == shape


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_picture_is_refused(wrong: NDArray) -> None:
    with pytest.raises(ValueError, match=r"expected an \(h, w, 3\) uint8 picture"):
        tissue_in(wrong)


def test_a_large_thumbnail_takes_less_than_its_hues_alone_by_a_library() -> None:
    slide = np.tile(drawn_slide(), (2, 2, 1))
    assert cost_ratio(lambda: tissue_in(slide), lambda: rgb2hsv(slide)) < 1  # 0.25 measured


@dataclass(eq=False)
class DrawnSlide:
    """A slide of 8000 x 6400 px whose thumbnail is `drawn_slide`."""

    dimensions: tuple[int, int] = (8000, 6400)

    def thumbnail(self, max_side: int) -> NDArray[np.uint8]:
        assert max_side == 1000
        return drawn_slide()


def test_the_mask_of_a_slide_knows_its_scale() -> None:
    tissue = tissue_mask(DrawnSlide(), max_side=1000)
    assert tissue.scale == (8.0, 8.0)
    inside, overhanging, off = tissue.fraction([3200, -800, 9000], [1000, 800, 9000], 1600, 1600)
    assert inside > 0.9
    assert overhanging == off == 0


@given(
    arrays(np.bool_, (5, 7)),
    st.tuples(st.floats(0.5, 9), st.floats(0.5, 9)),
    st.tuples(st.floats(-20, 70), st.floats(-20, 70), st.floats(0.1, 90), st.floats(0.1, 90)),
)
@settings(deadline=None)
def test_fractions_are_exact(mask: NDArray, scale: tuple[float, float], rectangle: tuple[float, ...]) -> None:
    x, y, width, height = rectangle
    rows = _overlap(y, height, scale[1], 5)
    cols = _overlap(x, width, scale[0], 7)
    expected = rows @ mask @ cols / (width * height)
    assert SlideMask(mask, scale).fraction(*rectangle) == pytest.approx(expected, abs=1e-9)


def _overlap(start: float, length: float, scale: float, count: int) -> NDArray[np.float64]:
    """Return how many level-0 px of each mask px lie between `start` and `start + length`."""
    edges = np.clip(np.arange(count + 1) * scale, start, start + length)
    return np.diff(edges)


def test_fractions_broadcast_and_refuse_empty_rectangles() -> None:
    tissue = SlideMask(np.ones((4, 4), bool), (2.0, 2.0))
    grid = tissue.fraction(np.arange(0, 8, 2), np.arange(0, 10, 2)[:, None], 2, 2)
    assert grid.shape == (5, 4)
    assert grid.min() == 0
    assert np.all(grid[:4] == 1)
    with pytest.raises(ValueError, match="above 0"):
        tissue.fraction(0, 0, 0, 5)


@pytest.mark.skipif(not (DATA / "slides").is_dir(), reason=f"no slides in {DATA}")
def test_a_scanned_slide() -> None:
    from openslide import OpenSlide

    with OpenSlide(DATA / "slides" / "CMU-1-Small-Region.svs") as slide:
        mask = tissue_in(np.asarray(slide.get_thumbnail((1024, 1024)).convert("RGB")))
    assert mask.shape == (1024, 766)
    assert 0.33 < mask.mean() < 0.45
    assert mask[700:900, 300:450].mean() > 0.99  # dermis
    assert not mask[550:, :120].any()  # glass
    assert not mask[20:280, 580:690].any()


@pytest.mark.skipif(not (DATA / "breakhis-100x").is_dir(), reason=f"no photographs in {DATA}")
def test_a_mosaic_of_photographs_has_its_true_outline() -> None:
    paths = sorted((DATA / "breakhis-100x").rglob("SOB_*.*"))[::6]
    rng = np.random.default_rng(0)
    row, col = np.mgrid[-1:1:14j, -1:1:14j]
    truth = row**2 + col**2 < 0.6
    mosaic = np.clip(rng.normal(243, 1.5, (14 * 64, 14 * 64, 3)), 0, 255).astype(np.uint8)
    for index, (r, c) in enumerate(np.argwhere(truth)):
        photograph = imread(paths[index % len(paths)])[:448, :448, :3]
        cell = photograph.reshape(64, 7, 64, 7, 3).mean((1, 3))
        mosaic[r * 64 : r * 64 + 64, c * 64 : c * 64 + 64] = cell
    truth = truth.repeat(64, 0).repeat(64, 1)
    mask = tissue_in(mosaic)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95
