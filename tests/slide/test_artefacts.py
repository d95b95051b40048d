"""Ink and blur are told from tissue, and tissue from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.data import immunohistochemistry
from skimage.io import imread

from napari_dala.slide.artefacts import artefact_mask
from napari_dala.slide.tissue import tissue_in
from tests.cost import cost_ratio

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Y, X = np.mgrid[:800, :800]
DISC = (X - 400) ** 2 + (Y - 400) ** 2 < 150**2
INKS = {
    "pure blue": (0, 0, 255), "ink blue": (20, 40, 160), "royal blue": (65, 105, 225), "ball pen": (60, 80, 200),
    "blue": (40, 60, 190), "dark blue": (40, 50, 140), "cyan": (30, 150, 210), "green": (30, 140, 70),
    "black": (30, 30, 32), "red": (200, 30, 40), "orange": (240, 140, 30), "yellow": (240, 225, 60),
    "brown": (120, 70, 40), "navy": (0, 0, 128), "cobalt": (80, 100, 200), "violet blue": (70, 70, 180),
    "steel": (90, 110, 170), "teal": (0, 128, 128), "lime": (50, 205, 50), "highlighter": (170, 230, 140),
    "pale yellow": (250, 245, 150), "mustard": (200, 160, 40), "amber": (255, 190, 0), "tomato": (255, 99, 71),
    "crimson": (220, 20, 60), "maroon": (128, 0, 0), "sienna": (160, 82, 45), "chocolate": (210, 105, 30),
}  # fmt: skip
STAINS = {
    "pale": (235, 215, 230), "eosin": (220, 150, 190), "deep eosin": (200, 90, 140), "pink": (240, 130, 160),
    "orange eosin": (225, 130, 140), "violet": (150, 100, 180), "haematoxylin": (85, 80, 150),
    "pale haematoxylin": (160, 155, 200), "dark haematoxylin": (70, 50, 110),
}  # fmt: skip


def drawn(stain: tuple[int, int, int] = STAINS["eosin"]) -> NDArray[np.uint8]:
    picture = np.full((800, 800, 3), 244.0)
    picture[DISC] = stain
    return np.clip(picture + np.random.default_rng(0).normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("row", [100, 400], ids=["over glass", "over tissue"])
@pytest.mark.parametrize("ink", INKS.values(), ids=INKS)
def test_a_flat_stroke_is_ink_and_no_tissue(ink: tuple[int, int, int], row: int) -> None:
    picture, stroke = drawn(), (abs(Y - row) < 14) & (X > 100) & (X < 700)
    picture[stroke] = ink
    tissue, artefacts = tissue_in(picture), artefact_mask(picture, 20.0)
    assert tissue[stroke].mean() < 0.001  # at most its corners
    assert artefacts.ink[stroke].mean() > 0.999
    assert tissue[DISC & (abs(Y - row) > 40)].all()
    assert not artefacts.blur.any()


@pytest.mark.parametrize("stain", STAINS.values(), ids=STAINS)
def test_stained_tissue_is_no_ink_however_even(stain: tuple[int, int, int]) -> None:
    picture = drawn(stain)
    assert tissue_in(picture)[DISC].mean() > 0.98
    artefacts = artefact_mask(picture, 20.0)
    assert not artefacts.ink.any()
    assert not artefacts.blur.any()


def test_dark_blue_that_lets_tissue_through_is_ink() -> None:
    picture, stroke = drawn(), (abs(Y - 400) < 14) & (X > 100) & (X < 700)
    picture[stroke] = (picture[stroke] * (np.array((40, 50, 140)) / 244)).astype(np.uint8)
    assert artefact_mask(picture).ink[stroke].mean() > 0.998


@pytest.mark.parametrize("shade", [0, 255])
def test_padding_is_no_ink(shade: int) -> None:
    picture = drawn()
    picture[700:], picture[:, 760:] = shade, shade
    assert not artefact_mask(picture, 20.0).ink.any()
    assert not tissue_in(picture)[700:].any()


def blurred(picture: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return ndimage.gaussian_filter(picture.astype(np.float32), (sigma, sigma, 0)).round().astype(np.uint8)


def test_tissue_out_of_focus_is_told_where_the_resolution_is_known() -> None:
    sharp = immunohistochemistry()[..., [1, 2, 0]]  # violet: brown as even as this would be an ink
    assert not artefact_mask(sharp, 0.5).blur.any()
    soft = blurred(sharp, 4 / 0.5)
    assert artefact_mask(soft, 0.5).blur.mean() > 0.8
    assert not artefact_mask(soft).blur.any()
    half = sharp.copy()
    half[:256] = soft[:256]
    blur = artefact_mask(half, 0.5).blur
    assert blur[:200].mean() > 0.8
    assert not blur[312:].any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (1, 2049)])
def test_pictures_of_any_size(shape: tuple[int, int]) -> None:
    found = artefact_mask(np.full((*shape, 3), 150, np.uint8), 1.0)
    assert found.ink.shape == found.blur.shape == shape


def test_a_thumbnail_takes_less_than_its_hues_alone_by_a_library() -> None:
    picture = np.pad(drawn(), ((0, 224), (0, 224), (0, 0)), mode="edge")
    assert cost_ratio(lambda: artefact_mask(picture, 2.0), lambda: rgb2hsv(picture)) < 1  # 0.5 measured


def test_real_photographs_are_in_focus_and_keep_their_tissue(shared_data: Path) -> None:
    paths = sorted((shared_data / "breakhis-100x").rglob("SOB_*-100-*.*"))[::12]
    found = []
    for path in paths:
        picture = imread(path)[..., :3]
        sharp = artefact_mask(picture, 0.65)
        assert sharp.blur.mean() < 0.1, path.name
        assert sharp.ink.mean() < 0.002, path.name
        found.append(artefact_mask(blurred(picture, 4 / 0.65), 0.65).blur.mean() > 0.5)
    assert np.mean(found) > 0.7
