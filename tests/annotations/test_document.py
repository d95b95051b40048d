"""No area of a document is ever given an index: several threads read it, and GEOS builds that without a lock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument, prepared
from napari_dala.annotations.labels import tile_labels
from napari_dala.annotations.regions import tiles_in
from napari_dala.annotations.shapes import keyhole
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = (AnnotationClass("benign", (0, 0, 255)), AnnotationClass("malignant", (255, 0, 0)))
GRID = TileGrid((2000, 2000), 224, (1.0, 1.0), 7)
RING = shapely.Point(1000, 1000).buffer(900).difference(shapely.Point(1000, 1000).buffer(300))


def labelled(annotation: Annotation) -> None:
    tile_labels(AnnotationDocument("f", CLASSES, (annotation,)), GRID, ["benign", "malignant"])


@pytest.mark.parametrize("ask", [labelled, lambda item: keyhole(item.area), lambda item: tiles_in([item.area], GRID)])
def test_an_area_that_was_asked_has_no_index(ask: Callable[[Annotation], object]) -> None:
    annotation = Annotation.drawn(shapely.force_2d(RING), "malignant")
    ask(annotation)
    assert not shapely.is_prepared(annotation.area)


def test_threads_that_ask_the_same_area_get_what_one_gets() -> None:
    """With an index in the area itself this ends the process, often within a second."""
    lines = shapely.linestrings(np.random.default_rng(0).uniform(0, 2000, (2000, 2, 2)))
    areas = [RING.buffer(-number) for number in range(12)]
    alone = [shapely.intersects(prepared(area), lines) for area in areas]
    with ThreadPoolExecutor(4) as pool:
        for area, expected in zip(areas, alone, strict=True):
            found = pool.map(lambda _, area=area: shapely.intersects(prepared(area), lines), range(4))
            assert all(np.array_equal(one, expected) for one in found)
