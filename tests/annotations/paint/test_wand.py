"""The wand stops at borders, pale and dark, and knows where it is."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_dala.annotations.paint.wand import similar, similar_area

PINK, WHITE, PURPLE = (220, 150, 190), (245, 244, 246), (120, 70, 150)


def picture(size: int = 400, seed: int = 0) -> np.ndarray:
    """Noisy pink tissue with a purple disc of radius 60 in its middle, white from x = 300 on."""
    pixels = np.empty((size, size, 3), np.float64)
    pixels[:] = PINK
    pixels[:, 3 * size // 4 :] = WHITE
    rows, columns = np.ogrid[:size, :size]
    pixels[np.hypot(rows - size / 2, columns - size / 2) < 0.15 * size] = PURPLE
    noise = np.random.default_rng(seed).normal(0, 6, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def test_a_disc_is_found_by_one_click() -> None:
    area = similar_area(picture(), (190, 205), 100)
    disc = shapely.Point(200, 200).buffer(60)
    assert area.intersection(disc).area / area.union(disc).area > 0.92


def test_it_stops_at_the_border_of_the_tissue_and_at_its_reach() -> None:
    area = similar_area(picture(), (280, 60), 50)
    left, top, right, bottom = area.bounds
    assert right == pytest.approx(300, abs=4), "white begins there"
    assert left == pytest.approx(230, abs=2)
    assert (top, bottom) == pytest.approx((10, 110), abs=2)


def test_what_is_all_alike_is_taken_whole() -> None:
    plain = np.random.default_rng(0).normal(200, 3, (300, 300, 3)).astype(np.uint8)
    area = similar_area(plain, (150, 150), 40)
    assert area.area == pytest.approx(np.pi * 40**2, rel=0.05)


@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_pixels_as_on_the_screen_have_the_same_place(shrink: int) -> None:
    pixels = picture(400 * shrink)
    area = similar_area(pixels, (200 * shrink, 200 * shrink), 100 * shrink, shrink)
    disc = shapely.Point(200 * shrink, 200 * shrink).buffer(60 * shrink)
    assert area.intersection(disc).area / area.union(disc).area > 0.92
    assert np.hypot(area.centroid.x - disc.centroid.x, area.centroid.y - disc.centroid.y) < 2 * shrink


def test_only_what_is_around_is_read() -> None:
    class Level:
        shape = (100_000, 100_000, 3)

        def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
            rows, columns = key
            assert rows.stop - rows.start <= 101
            assert columns.stop - columns.start <= 101
            return np.full((rows.stop - rows.start, columns.stop - columns.start, 3), 200, np.uint8)

    assert similar_area(Level(), (70_000.5, 60_000), 50).centroid.coords[0] == pytest.approx((70_000, 60_000), abs=2)


def test_beside_the_picture_there_is_nothing_and_at_its_corner_something() -> None:
    assert similar_area(picture(), (-1, 5), 50).is_empty
    assert similar_area(picture(), (5, 400), 50).is_empty
    corner = similar_area(picture(), (399.9, 399.9), 30)
    assert shapely.box(0, 0, 400, 400).buffer(1e-6).covers(corner)
    assert corner.area > 500


def test_holes_within_what_is_alike_are_filled() -> None:
    pixels = np.full((80, 80, 3), 230, np.uint8)
    pixels[38:43, 48:53] = 60
    assert similar(pixels, (40, 30), 100)[40, 50]
