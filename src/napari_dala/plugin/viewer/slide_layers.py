"""Between napari's layers and slides: which layer shows which slide, and where its level-0 pixels lie in the world.

A level-0 *edge* coordinate (x, y) counts from the slide's corner, as the grid does; napari's pixel centres are at
whole numbers, so that edge coordinate e is data coordinate e - 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from napari.layers import Image
from shapely import Polygon

from napari_dala.annotations.document import ellipse_polygon
from napari_dala.errors import SlideError
from napari_dala.files import replacing
from napari_dala.slide import open_slide
from napari_dala.slide.backends.tifffile import write_pixels
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from pathlib import Path

    import pint
    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes
    from numpy.typing import ArrayLike

    from napari_dala.slide import Slide


_with_scale_bar: WeakSet[ViewerModel] = WeakSet()


def shows_slide(layer: Layer) -> bool:
    """Return whether a layer is a 2-D RGB picture that can be analysed."""
    return isinstance(layer, Image) and bool(layer.rgb) and layer.ndim == 2


def slide_of(layer: Image) -> Slide:
    """Return the slide that a layer shows, opening or making it where the reader has not.

    Raises
    ------
    SlideError
        When its pixels are not 8-bit RGB.
    """
    slide: Slide | None = layer.metadata.get("dala_slide")
    if slide is None:
        slide = layer.metadata["dala_slide"] = _from_file(layer) or _from_pixels(layer)
    if slide.mpp is None:
        mpp = _mpp_of(layer)
        if mpp is not None:
            slide = layer.metadata["dala_slide"] = slide.with_mpp(mpp)
    return slide


def file_of(slide: Slide, folder: Path | None = None) -> Path:
    """Return the slide's file; pixels without one are written once, losslessly, to the workspace `folder`."""
    if slide.path is not None:
        return slide.path
    path = slide_folder(slide.fingerprint, folder) / "pixels.tif"
    if not path.exists():
        with replacing(path) as temporary:
            write_pixels(slide, temporary)
    return path


def set_mpp(viewer: ViewerModel, layer: Image, mpp: float) -> None:
    """Give a slide without resolution its um per pixel: every layer in pixels becomes one in micrometres.

    All of them, because napari ignores units that are mixed; what was drawn stays where it is on the tissue.
    """
    layer.metadata["dala_slide"] = slide_of(layer).with_mpp((mpp, mpp))
    factor = mpp / float(layer.scale[-1])
    for other in viewer.layers:
        if not any(_is_length(unit) for unit in other.units):
            other.scale = np.asarray(other.scale) * factor
            other.translate = np.asarray(other.translate) * factor
            other.units = ("um",) * other.ndim
    camera = viewer.scene.camera
    camera.center = tuple(factor * side for side in camera.center)
    camera.zoom /= factor
    show_scale_bar(viewer)


def show_scale_bar(viewer: ViewerModel) -> None:
    """Show the scale bar with a viewer's first slide in micrometres; whoever hides it then has it hidden."""
    if viewer not in _with_scale_bar:
        _with_scale_bar.add(viewer)
        viewer.canvas.overlays.scale_bar.visible = True


def to_slide(layer: Image, world: ArrayLike) -> tuple[float, float]:
    """Return the edge coordinate (x, y; level-0 px) of a world position."""
    row, column = layer.world_to_data(world)[-2:]
    return float(column) + 0.5, float(row) + 0.5


def to_world(layer: Image, x: float, y: float) -> tuple[float, float]:
    """Return the world position (y, x) of an edge coordinate (level-0 px)."""
    row, column = layer.data_to_world((y - 0.5, x - 0.5))
    return float(row), float(column)


def view_of(viewer: ViewerModel, layer: Image) -> list[float]:
    """Return what is in view as [left, top, right, bottom], level-0 px of the layer's slide."""
    camera = viewer.scene.camera
    middle = np.asarray(camera.center[-2:])
    half = np.asarray(viewer.canvas.size) / 2 / camera.zoom
    corners = [to_slide(layer, middle + half * sign) for sign in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
    return [float(left), float(top), float(right), float(bottom)]


def selected_polygons(shapes: Shapes, layer: Image) -> list[Polygon]:
    """Return the selected shapes that enclose an area as polygons in level-0 px of the layer's slide."""
    polygons = []
    for index in sorted(shapes.selected_data):
        kind, corners = shapes.shape_type[index], np.asarray(shapes.data[index])[:, -2:]
        if kind not in ("line", "path"):
            points = [to_slide(layer, shapes.data_to_world(corner)) for corner in corners]
            polygons.append(ellipse_polygon(points) if kind == "ellipse" else Polygon(points))
    return polygons


def _from_file(layer: Image) -> Slide | None:
    """Open the file that another reader made the layer from, if it is this very picture."""
    if not layer.source.path:
        return None
    height, width = _level_0(layer).shape[:2]
    try:
        slide = open_slide(layer.source.path)
    except SlideError:
        return None
    return slide if slide.dimensions == (width, height) else None


def _from_pixels(layer: Image) -> Slide:
    try:
        return open_slide(np.asarray(_level_0(layer)))
    except SlideError as error:
        raise SlideError(str(error).replace("array:", f"{layer.name}:", 1)) from error


def _level_0(layer: Image) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _mpp_of(layer: Image) -> tuple[float, float] | None:
    """Return um per pixel (x, y) from a layer's scale, where its units are lengths."""
    if not all(_is_length(unit) for unit in layer.units[-2:]):
        return None
    y, x = (
        abs(float(scale)) * (1 * unit).to("um").magnitude for scale, unit in zip(layer.scale, layer.units, strict=True)
    )
    return x, y


def _is_length(unit: pint.Unit) -> bool:
    return bool(unit.dimensionality == {"[length]": 1})
