"""Where an analysis is to run: everywhere, in what is in view, or in shapes that are selected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Shapes
from shapely import Polygon, box

from napari_dala.errors import DalaError
from napari_dala.plugin.viewer.slide_layers import selected_polygons, view_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

WHOLE, VIEW, SHAPE = "Whole slide", "Field in view", "Selected shape"


def region_of(viewer: ViewerModel, layer: Image, extent: str) -> list[Polygon] | None:
    """Return the polygons, level-0 px of the layer's slide, of one of the three extents; None for the whole slide.

    Raises
    ------
    DalaError
        When no shape is selected.
    """
    if extent == WHOLE:
        return None
    if extent == VIEW:
        return [box(*view_of(viewer, layer))]
    shapes = [other for other in viewer.layers if isinstance(other, Shapes) and other.selected_data]
    polygons = [polygon for other in shapes for polygon in selected_polygons(other, layer)]
    if not polygons:
        raise DalaError("No shape is selected: draw one on a Shapes layer and select it, or choose the whole slide.")
    return polygons
