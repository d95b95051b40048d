from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely

from napari_dala import analyze, load_model
from napari_dala.results.stored_tiles import read_scattered
from napari_dala.results.suggest import entropy_of, next_to_label
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.results.analysis import Analysis, Spot
    from tests.conftest import PaintAnalysis

SIDE = 24  # tiles


@pytest.fixture
def painted(paint_analysis: PaintAnalysis) -> Any:
    """A slide of 24 x 24 tiles with these malignant probabilities and, where given, features (rows, columns, k)."""
    slide = open_slide(np.zeros((SIDE * 64, SIDE * 64, 3), np.uint8), mpp=0.5)

    def paint(malignant: Any, features: Any = None, **options: Any) -> Analysis:
        analysis = paint_analysis(slide, lambda _: malignant, **options)
        if features is not None:
            whole = np.zeros((SIDE, SIDE, 2048), np.float16)
            whole[..., : features.shape[-1]] = features
            analysis.store._arrays["features"][:] = whole
        return analysis

    return paint


def tiles(spots: list[Spot]) -> list[tuple[int, int]]:
    return [(spot.row, spot.column) for spot in spots]


def closest(spots: list[Spot]) -> int:
    """The smallest distance of any two, in tiles along the longer side."""
    pairs = itertools.combinations(tiles(spots), 2)
    return min(max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in pairs)


def test_entropy_is_that_of_the_textbook() -> None:
    p = np.array([[[0.5, 1.0, 0.25, np.nan]], [[0.5, 0.0, 0.75, 0.5]]], np.float32)
    expected = [np.log(2), 0, -0.25 * np.log(0.25) - 0.75 * np.log(0.75), np.nan]
    np.testing.assert_allclose(entropy_of(p)[0], expected, rtol=1e-6)


def test_the_least_sure_tile_comes_first_whatever_its_side(painted: Any) -> None:
    malignant = np.full((SIDE, SIDE), 0.99)
    malignant[20, 7], malignant[3, 4] = 0.48, 0.55
    first, second = next_to_label(painted(malignant), np.zeros((SIDE, SIDE), bool), 2)
    assert (first.row, first.column, first.probability) == (20, 7, pytest.approx(0.48))
    assert (first.x, first.y) == (7.5 * 64, 20.5 * 64)
    assert (second.row, second.column) == (3, 4)


@pytest.mark.parametrize("with_features", [True, False])
def test_not_the_same_corner_ten_times(painted: Any, with_features: bool) -> None:
    rng = np.random.default_rng(0)
    malignant = np.full((SIDE, SIDE), 0.95)
    malignant[:8, :8] = 0.5 + rng.normal(0, 0.001, (8, 8))  # the corner where the model is least sure
    malignant[12:, 12:] = 0.35  # unsure too
    features = rng.normal(0, 0.05, (SIDE, SIDE, 3))
    features[:8, :8, 0] += 1  # all of the corner looks alike
    features[12:, 12:, 1] += 1
    spots = next_to_label(painted(malignant, features if with_features else None), np.zeros((SIDE, SIDE), bool), 10)
    assert len(spots) == 10
    assert closest(spots) > 2
    assert max(spots[0].row, spots[0].column) < 8
    assert min(spots[1].row, spots[1].column) >= 12, "what is most unlike the first of what it is unsure of"


def test_labelled_seen_and_unanalysed_tiles_never_come(painted: Any) -> None:
    rng = np.random.default_rng(1)
    malignant = rng.uniform(0.3, 0.7, (SIDE, SIDE))
    labelled = rng.random((SIDE, SIDE)) < 0.5
    labelled[np.unravel_index(np.abs(malignant - 0.5).argsort(axis=None)[:100], labelled.shape)] = True
    todo = tuple((row, column) for row in range(4) for column in range(SIDE))
    analysis = painted(malignant, todo=todo)
    first = tiles(next_to_label(analysis, labelled, 12))
    assert len(first) >= 10
    assert not any(labelled[tile] for tile in first)
    assert min(row for row, _ in first) >= 4
    again = tiles(next_to_label(analysis, labelled, seen=first))
    assert again
    assert all(max(abs(a[0] - b[0]), abs(a[1] - b[1])) > 2 for a in first for b in again)
    assert next_to_label(analysis, np.ones_like(labelled)) == []


def test_the_same_question_has_the_same_answer(painted: Any) -> None:
    analysis = painted(0.5, np.ones((SIDE, SIDE, 1)))  # all tiles are equal
    first = tiles(next_to_label(analysis, np.zeros((SIDE, SIDE), bool), 5))
    assert first == tiles(next_to_label(analysis, np.zeros((SIDE, SIDE), bool), 5))
    assert first[0] == (0, 0)


def test_goes_on_where_the_least_sure_tiles_lie_close_together(painted: Any) -> None:
    malignant = np.full((2 * SIDE - 1, 2 * SIDE - 1), 0.9)  # tiles overlap by half: two tiles are four rows
    malignant[:10, :20] = 0.5  # 200 tiles, as many as are looked at in one go
    analysis = painted(malignant, overlap=0.5)
    spots = next_to_label(analysis, np.zeros(analysis.grid.shape, bool), 20)
    assert len(spots) == 20
    assert closest(spots) > 4
    inside = [row < 10 and column < 20 for row, column in tiles(spots)]
    assert 4 <= inside.count(True) < 20
    assert not any(inside[inside.index(False) :]), "the unsure ones come first"


def test_scattered_tiles_are_read_chunk_by_chunk() -> None:
    rng = np.random.default_rng(2)
    values = rng.random((10, 14, 3))
    asked = []

    def read(block: tuple[int, int]) -> Any:
        asked.append(block)
        return values[block[0] * 4 : block[0] * 4 + 4, block[1] * 4 : block[1] * 4 + 4]

    row, column = np.array([9, 0, 9, 3, 8]), np.array([13, 0, 12, 3, 0])
    np.testing.assert_array_equal(read_scattered(read, row, column), values[row, column])
    assert sorted(asked) == [(0, 0), (2, 0), (2, 3)]
    assert len(read_scattered(read, row[:0], column[:0])) == 0


@pytest.mark.parametrize("real", [False, True], ids=["drawn", "real"])
def test_on_a_slide_that_was_really_analysed(real: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if real:
        path = request.getfixturevalue("shared_data") / "slides/CMU-1-Small-Region.svs"
    else:
        path = teaching_slide(tmp_path / "slide.tif", 1568).path
    with open_slide(path) as slide:
        analysis = analyze(slide, load_model("untrained"), tmp_path / "out", region=[shapely.box(0, 0, 1600, 1600)])
    labelled = np.zeros(analysis.grid.shape, bool)
    labelled[0] = True
    spots = next_to_label(analysis, labelled, 6)
    assert len(spots) >= 2
    assert closest(spots) > 2
    entropy = np.where(labelled, np.nan, entropy_of(analysis.probability))
    assert entropy[spots[0].row, spots[0].column] == np.nanmax(entropy)
    assert all(np.isfinite(entropy[tile]) for tile in tiles(spots))
    assert spots[0].probability == analysis.probability[1, spots[0].row, spots[0].column]
