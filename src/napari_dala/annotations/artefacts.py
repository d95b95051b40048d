"""Ink and what is out of focus as drawn regions, which the annotation tools edit and training leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from skimage.measure import approximate_polygon, find_contours

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.slide.artefacts import artefacts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.slide import Slide

INK, BLUR = AnnotationClass("Ink*", (40, 80, 220), ignore=True), AnnotationClass("Blur*", (220, 170, 30), ignore=True)
_MASK_PX = 1024
_LEAST = 16  # mask px; smaller regions are specks


def artefact_regions(slide: Slide) -> AnnotationDocument:
    """Return what is ink and what is out of focus on a slide as regions of two "ignore" classes, level-0 px.

    Reads the slide's thumbnail: not for the main thread.
    """
    ink, blur = artefacts_of(slide, _MASK_PX)
    annotations = tuple(
        Annotation.drawn(part, info.name)
        for info, found in ((INK, ink), (BLUR, blur))
        for part in _regions(found.mask, found.scale)
    )
    return AnnotationDocument(slide.fingerprint, (INK, BLUR) if annotations else (), annotations)


def _regions(mask: NDArray[np.bool_], scale: tuple[float, float]) -> list[shapely.Polygon]:
    """Return the outlines of a mask, holes left out, in level-0 px (x, y)."""
    rings = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    outlines = [approximate_polygon(ring, 0.5)[:, ::-1] for ring in rings]
    polygons = [shapely.Polygon((ring - 0.5) * scale) for ring in outlines if len(ring) > 3]
    area = shapely.Polygon()
    for polygon in sorted(polygons, key=lambda one: -one.area):  # holes lie in what is larger
        area = area.symmetric_difference(shapely.make_valid(polygon))
    least = _LEAST * scale[0] * scale[1]
    return [part for part in shapely.get_parts(area) if isinstance(part, shapely.Polygon) and part.area >= least]
