"""Ink and what is out of focus as drawn regions, which the annotation tools edit and training leaves out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument, prepared
from napari_dala.annotations.files import read_annotations
from napari_dala.annotations.outlines import outlines_of
from napari_dala.errors import AnnotationError
from napari_dala.slide.artefacts import artefacts_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.slide import Slide
    from napari_dala.slide.tiles import TileGrid

INK, BLUR = AnnotationClass("Ink*", (40, 80, 220), ignore=True), AnnotationClass("Blur*", (220, 170, 30), ignore=True)
_MASK_PX = 1024
_log = logging.getLogger(__name__)
_LEAST = 16  # mask px; smaller regions are specks


def artefact_regions(slide: Slide) -> AnnotationDocument:
    """Return what is ink and what is out of focus on a slide as regions of two "ignore" classes, level-0 px.

    Reads the slide's thumbnail: not for the main thread.
    """
    ink, blur = artefacts_of(slide, _MASK_PX)
    annotations = tuple(
        Annotation.drawn(part, info.name)
        for info, found in ((INK, ink), (BLUR, blur))
        for part in outlines_of(found.mask, found.scale, _LEAST)
    )
    return AnnotationDocument(slide.fingerprint, (INK, BLUR) if annotations else (), annotations)


def drawn_artefacts(path: Path, grid: TileGrid) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the part of each tile's place that drawn regions of ink and of blur cover, (rows, columns) each.

    Parameters
    ----------
    path
        Annotations; None is returned where there are none, or nobody has outlined ink and blur in them yet. Where the
        regions were all removed, nothing is covered.
    grid
        Of the slide.
    """
    if not path.is_file():
        return None
    try:
        document = read_annotations(path)
    except AnnotationError as error:
        _log.warning("%s; ink and blur are those that are found", error)
        return None
    if document.class_named(INK.name) is None and document.class_named(BLUR.name) is None:
        return None
    ink, blur = (
        _covered(shapely.union_all([one.area for one in document.annotations if one.class_name == info.name]), grid)
        for info in (INK, BLUR)
    )
    return ink, blur


def _covered(area: shapely.Geometry, grid: TileGrid) -> NDArray[np.float64]:
    left, top, width, height = grid.places()
    boxes = shapely.box(left[None, :], top[:, None], (left + width)[None, :], (top + height)[:, None])
    area = prepared(area)
    found = np.zeros(grid.shape)
    there = shapely.intersects(area, boxes)
    found[there] = shapely.area(shapely.intersection(area, boxes[there])) / shapely.area(boxes[there])
    return found
