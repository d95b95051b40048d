from __future__ import annotations

import numpy as np
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.labels import drawn_tiles, with_names
from napari_dala.slide.tiles import TileGrid

GRID = TileGrid((1000, 600), 64, (1.5625, 1.5625), 2)  # tiles of 100 px: 6 rows, 10 columns


def test_every_drawn_tile_has_a_label_whatever_its_class() -> None:
    document = AnnotationDocument(
        "f",
        (AnnotationClass("Tumor", (200, 0, 0)), AnnotationClass("Fold", (90, 90, 90), ignore=True)),
        (
            Annotation.drawn(shapely.box(0, 0, 200, 100), "Tumor"),
            Annotation.drawn(shapely.box(0, 100, 100, 200), "Fold"),
            Annotation.drawn(shapely.box(300, 300, 310, 310), "not in the list"),
            Annotation.drawn(shapely.box(500, 500, 600, 600), None),
        ),
    )
    assert np.argwhere(drawn_tiles(document, GRID)).tolist() == [[0, 0], [0, 1], [1, 0], [3, 3]]
    assert not drawn_tiles(AnnotationDocument("f"), GRID).any()


def test_classes_take_the_models_spelling_but_for_those_to_ignore() -> None:
    fold = AnnotationClass("FOLD", (90, 90, 90), ignore=True)
    regions = tuple(Annotation.drawn(shapely.box(0, 0, 9, 9), name) for name in ("TUMOR", "FOLD", "Fat", None))
    document = AnnotationDocument("f", (AnnotationClass("TUMOR", (200, 0, 0)), fold), regions)
    renamed = with_names(document, ("tumor", "fold"))
    assert [item.name for item in renamed.classes] == ["tumor", "FOLD"]
    assert [item.class_name for item in renamed.annotations] == ["tumor", "FOLD", "Fat", None]
    assert renamed.annotations[2] is regions[2]
