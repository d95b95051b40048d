"""A label of a tile is a region: it labels that tile in training, is taken back, and leaves what was drawn alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import read_annotations, write_annotations
from napari_dala.annotations.labels import drawn_tiles, tile_labels, tiles_of
from napari_dala.annotations.tile_regions import tile_boxes, with_tile_regions, without_tile_regions
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("benign", "malignant")
BENIGN, MALIGNANT = (AnnotationClass(name, (9, 9, 9)) for name in NAMES)
IGNORE = AnnotationClass("Ignore", (70, 70, 70), ignore=True)
EMPTY = AnnotationDocument("f00d", (BENIGN, MALIGNANT, IGNORE))
GRIDS = {
    "even": TileGrid((640, 384), 64, (1.0, 1.0), 2),
    "moved back": TileGrid((600, 340), 64, (1.0, 1.0), 2),
    "finer slide": TileGrid((1500, 1000), 64, (0.5 / 0.236, 0.5 / 0.236), 2),
    "smaller than a tile": TileGrid((100, 60), 64, (1.6, 1.6), 2),
    "overlapping": TileGrid((640, 384), 128, (1.0, 1.0), 3),
}


def labelled(document: AnnotationDocument, grid: TileGrid) -> dict[tuple[int, int], str]:
    labels = tile_labels(document, grid, (*NAMES, "Ignore"))
    return {(row, column): (*NAMES, "Ignore")[labels[row, column]] for row, column in np.argwhere(labels >= 0).tolist()}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_each_tile_by_itself_is_labelled_and_taken_back(grid: TileGrid) -> None:
    for tile in np.ndindex(*grid.shape):
        document = with_tile_regions(EMPTY, grid, [tile], MALIGNANT)
        examples = tiles_of(document, grid, NAMES)
        assert tile in list(zip(examples.row.tolist(), examples.column.tolist(), strict=True))
        assert without_tile_regions(document, grid, [tile]).annotations == ()
        (region,) = document.annotations
        assert shapely.box(0, 0, *grid.slide_size).covers(region.geometry)


def test_a_range_is_labelled_and_nothing_around_it() -> None:
    grid, tiles = GRIDS["even"], [(1, 1), (1, 2), (2, 5)]
    document = with_tile_regions(EMPTY, grid, tiles, BENIGN)
    assert labelled(document, grid) == dict.fromkeys(tiles, "benign")
    assert tile_boxes(grid, tiles[:1]) == [shapely.box(64, 64, 128, 128)]


def test_another_label_takes_the_place_of_the_first() -> None:
    grid = GRIDS["even"]
    document = with_tile_regions(EMPTY, grid, [(0, 0), (0, 1)], BENIGN)
    document = with_tile_regions(document, grid, [(0, 1)], MALIGNANT)
    assert labelled(document, grid) == {(0, 0): "benign", (0, 1): "malignant"}
    assert len(document.annotations) == 2
    document = with_tile_regions(document, grid, [(0, 1)], IGNORE)
    assert labelled(document, grid)[0, 1] == "Ignore"
    assert drawn_tiles(document, grid).sum() == 2


def test_a_region_that_was_drawn_stays_and_shows_again() -> None:
    grid = GRIDS["even"]
    outline = Annotation.drawn(shapely.box(0, 0, 200, 200), "benign")
    drawn = AnnotationDocument("f00d", EMPTY.classes, (outline,))
    document = with_tile_regions(drawn, grid, [(0, 0), (1, 1)], MALIGNANT)
    assert labelled(document, grid)[0, 0] == "malignant"
    assert labelled(document, grid)[0, 1] == "benign"
    document = without_tile_regions(document, grid, [(0, 0), (1, 1), (2, 2)])
    assert document.annotations == (outline,)
    assert without_tile_regions(document, grid, [(0, 0)]) is document, "nothing to take back is no step"


def test_what_is_no_box_of_a_tile_stays() -> None:
    grid = GRIDS["even"]
    shapes = (
        shapely.box(0, 0, 64, 60),  # shorter
        shapely.Polygon([(0, 0), (64, 0), (64, 64)]),  # as wide and as high
        shapely.box(64, 0, 192, 64),  # two tiles
    )
    document = AnnotationDocument("f00d", EMPTY.classes, tuple(Annotation.drawn(shape, "benign") for shape in shapes))
    assert without_tile_regions(document, grid, list(np.ndindex(*grid.shape))) is document


def test_a_label_that_was_saved_is_taken_back_too(tmp_path: Path) -> None:
    grid = GRIDS["finer slide"]
    write_annotations(with_tile_regions(EMPTY, grid, [(2, 3), (5, 9)], MALIGNANT), tmp_path / "drawn.geojson")
    document = read_annotations(tmp_path / "drawn.geojson")
    assert list(labelled(document, grid)) == [(2, 3), (5, 9)]
    assert without_tile_regions(document, grid, [(2, 3), (5, 9)]).annotations == ()


def test_a_class_that_lacks_joins_the_list_and_one_that_is_there_keeps_its_name() -> None:
    grid = GRIDS["even"]
    document = AnnotationDocument("f00d", (AnnotationClass("Malignant", (1, 2, 3)),))
    document = with_tile_regions(document, grid, [(0, 0)], MALIGNANT)
    assert [item.name for item in document.classes] == ["Malignant"]
    document = with_tile_regions(document, grid, [(0, 1)], BENIGN)
    assert [item.name for item in document.classes] == ["Malignant", "benign"]
    assert labelled(document, grid) == {(0, 0): "malignant", (0, 1): "benign"}


def test_a_thousand_labels_are_soon_found_and_changed() -> None:
    grid = TileGrid((64 * 60, 64 * 60), 64, (1.0, 1.0), 2)
    tiles = list(np.ndindex(40, 25))
    document = with_tile_regions(EMPTY, grid, tiles, BENIGN)
    assert len(labelled(document, grid)) == 1000
    document = with_tile_regions(document, grid, tiles[:500], MALIGNANT)
    assert sorted(labelled(document, grid).values()) == ["benign"] * 500 + ["malignant"] * 500
