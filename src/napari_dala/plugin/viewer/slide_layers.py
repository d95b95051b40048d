"""Between napari's layers and slides: which layer shows which slide, and where its level-0 pixels lie in the world.

A level-0 *edge* coordinate (x, y) counts from the slide's corner, as the grid does; napari's pixel centres are at
whole numbers, so that edge coordinate e is data coordinate e - 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QCoreApplication
from shapely import Polygon
from superqt.utils import ensure_main_thread

from napari_dala.annotations.document import ellipse_polygon
from napari_dala.errors import SlideError
from napari_dala.files import replacing
from napari_dala.plugin.preferences import load_preferences
from napari_dala.slide import open_slide
from napari_dala.slide.backends.tifffile import write_pixels
from napari_dala.slide.pyramid import pyramid
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import pint
    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes
    from numpy.typing import ArrayLike

    from napari_dala.slide import Slide
    from napari_dala.slide.pyramid import LazyLevel

    Frame = tuple[tuple[float, float], tuple[float, float]]

PLACEMENT = ("scale", "translate", "rotate", "shear", "affine", "units")
"""What napari lays a layer by."""

_NO_SCALE = "dala_no_scale"  # metadata: the layer's scale that says nothing of its resolution
_SPOT_TILES = 6  # a spot's tile and its surroundings, in tiles across the view
_SHOWN_UM = 0.5  # um per pixel at which a slide of unknown resolution is drawn beside others
_SAME_SHAPE = 0.01  # relative, of two pictures' proportions


def shows_slide(layer: Layer) -> bool:
    """Return whether a layer is a 2-D RGB picture that can be analysed."""
    return isinstance(layer, Image) and bool(layer.rgb) and layer.ndim == 2


def why_no_slide(layer: Layer) -> str | None:
    """Return why a picture that somebody opened cannot be analysed, one line; None for slides and other layers."""
    if not isinstance(layer, Image) or shows_slide(layer) or "dala_role" in layer.metadata:
        return None
    depth = "" if layer.dtype == np.uint8 else f" ({layer.dtype})"
    if layer.rgb:
        what = "a stack of colour pictures: open one of them alone"
    elif layer.ndim > 2:
        what = f"a stack, or stains one by one{depth}: export it as one picture in colour (8-bit RGB)"
    else:
        what = f"a grey or fluorescence picture{depth}; the models know stained tissue in colour (8-bit RGB)"
    return f"“{layer.name}” cannot be analysed: it is {what}."


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
        if slide.profile is not None:  # which other readers pass over: what is shown is what is analysed
            layer.data = _levels_of(slide, layer) if layer.multiscale else slide.read(0, 0, *slide.dimensions)
    if slide.mpp is None and layer.metadata.get(_NO_SCALE) != tuple(layer.scale):
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


def set_mpp(viewer: ViewerModel, layer: Image, mpp: float, apart: Collection[Layer] = ()) -> None:
    """Give a slide its um per pixel, its first or another: it is drawn in micrometres of this size.

    What was drawn on it stays where it is on the tissue, and what is seen stays in view.

    Parameters
    ----------
    apart
        Layers that belong to other slides, or follow this one's by themselves.
    """
    layer.metadata["dala_slide"] = slide_of(layer).with_mpp((mpp, mpp))
    draw_in_um(viewer, layer, (mpp, mpp), apart)


def draw_in_um(viewer: ViewerModel, layer: Image, mpp: tuple[float, float], apart: Collection[Layer] = ()) -> None:
    """Scale a slide layer, and what lies on it, to um per level-0 px (x, y); its corner stays where it is.

    Everything of ours is in micrometres, because napari ignores units that are mixed, and says so again and again.
    """
    steps = [_um(step, unit) for step, unit in zip(layer.scale, layer.units, strict=True)]
    factor = np.divide(mpp[::-1], steps)
    corner = np.asarray(layer.translate)
    on_it = [other for other in viewer.layers if other is not layer and other not in apart]
    for other in (layer, *on_it):
        if other.ndim == 2 and (other.units == layer.units or other is layer):
            units = [_um(1.0, unit) for unit in other.units]
            other.scale = np.asarray(other.scale) * units * factor
            other.translate = (corner + (np.asarray(other.translate) - corner) * factor) * units
    for other in on_it:
        if other.ndim == 2 and other.units == layer.units:
            other.units = ("um",) * 2
    layer.units = ("um",) * 2
    camera = viewer.scene.camera
    middle = corner + (np.asarray(camera.center[-2:]) - corner) * factor
    camera.center = (0.0, *(float(side) for side in middle))
    camera.zoom /= float(factor[-1])


def agree_on_um(viewer: ViewerModel, layer: Image, apart: Collection[Layer] = ()) -> None:
    """Draw a slide layer in micrometres, where it is in pixels; at `_SHOWN_UM` where its resolution is not known."""
    if is_in_um(layer):
        return
    known = slide_of(layer).mpp
    draw_in_um(viewer, layer, known or (_SHOWN_UM, _SHOWN_UM), apart)
    if known is None:
        layer.metadata[_NO_SCALE] = tuple(layer.scale)


def shown_in_um() -> dict[str, Any]:
    """Return what a new layer of a slide of unknown resolution needs to lie beside slides in micrometres."""
    scale = (_SHOWN_UM, _SHOWN_UM)
    return {"scale": scale, "units": ("µm", "µm"), "metadata": {_NO_SCALE: scale}}


def is_in_um(layer: Layer) -> bool:
    """Return whether a layer's place is in micrometres, or another unit of length."""
    return any(_is_length(unit) for unit in layer.units)


def bring_into_view(viewer: ViewerModel, layer: Image) -> None:
    """Let a slide fill the canvas."""
    first, last = layer.extent.world[:, -2:]
    camera, size = viewer.scene.camera, np.maximum(last - first, 1e-9)
    camera.center = (0.0, *(float(side) for side in (first + last) / 2))
    camera.zoom = 0.95 * float(np.min(np.asarray(viewer.canvas.size) / size))


def show_tile(viewer: ViewerModel, layer: Image, middle: tuple[float, float], tile: tuple[float, float]) -> None:
    """Move the camera to a place (x, y) of a slide, close enough to see a tile of this size (level-0 px)."""
    corners = [np.add(middle, np.multiply(half, tile)) for half in (-0.5, 0.5)]
    (top, left), (bottom, right) = (to_world(layer, float(x), float(y)) for x, y in corners)
    side = max(abs(bottom - top), abs(right - left))
    viewer.scene.camera.zoom = max(viewer.scene.camera.zoom, min(viewer.canvas.size) / side / _SPOT_TILES)
    viewer.scene.camera.center = (0.0, *to_world(layer, *middle))


def show_box(
    viewer: ViewerModel, layer: Image, bounds: tuple[float, float, float, float], least: tuple[float, float]
) -> None:
    """Let a box and some of what is around it fill the canvas, never nearer than to `least`.

    Parameters
    ----------
    bounds
        Left, top, right, bottom; level-0 px of the layer's slide.
    least
        Width and height that are seen at least, level-0 px.
    """
    left, top, right, bottom = bounds
    middle = to_world(layer, (left + right) / 2, (top + bottom) / 2)
    half = max(1.5 * (right - left), least[0]) / 2, max(1.5 * (bottom - top), least[1]) / 2
    corner = to_world(layer, (left + right) / 2 + half[0], (top + bottom) / 2 + half[1])
    reach = np.maximum(np.abs(np.subtract(corner, middle)), 1e-9)
    viewer.scene.camera.center = (0.0, *middle)
    viewer.scene.camera.zoom = float(np.min(np.asarray(viewer.canvas.size) / 2 / reach))


def to_slide(layer: Image, world: ArrayLike) -> tuple[float, float]:
    """Return the edge coordinate (x, y; level-0 px) of a world position."""
    row, column = layer.world_to_data(world)[-2:]
    return float(column) + 0.5, float(row) + 0.5


def to_world(layer: Image, x: float, y: float) -> tuple[float, float]:
    """Return the world position (y, x) of an edge coordinate (level-0 px)."""
    row, column = layer.data_to_world((y - 0.5, x - 0.5))
    return float(row), float(column)


def place_over(layer: Layer, frame: Frame, slide_layer: Image) -> None:
    """Place a layer of one pixel per tile or cell; `frame` is its pixel side and first centre, level-0 px (y, x)."""
    side, first = frame
    # napari: world = affine(rotate(shear(scale * data)) + translate)
    corner = slide_layer.data_to_world(np.subtract(first, 0.5))
    layer.units = slide_layer.units
    layer.affine = slide_layer.affine
    layer.rotate, layer.shear = slide_layer.rotate, slide_layer.shear
    layer.scale = np.multiply(side, slide_layer.scale)
    layer.translate = slide_layer.affine.inverse(corner)


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


def _levels_of(slide: Slide, layer: Image) -> list[LazyLevel]:
    """Return a slide's levels; those that the file lacks are shown when a background thread has computed them."""

    @ensure_main_thread
    def show() -> None:
        layer.data = pyramid(slide)

    def on_ready() -> None:
        if QCoreApplication.instance() is not None:
            show()

    return pyramid(slide, on_ready)


def _from_file(layer: Image) -> Slide | None:
    """Open the file that another reader made the layer from, if it is this very picture."""
    if not layer.source.path:
        return None
    height, width = _level_0(layer).shape[:2]
    try:
        slide = open_slide(layer.source.path, icc_profile=load_preferences().icc_profile)
    except SlideError:
        return None
    if slide.dimensions == (width, height):
        return slide
    sides = None if slide.mpp is None else np.multiply(slide.mpp, slide.dimensions) / (width, height)
    slide.close()
    if sides is not None and abs(sides[0] / sides[1] - 1) < _SAME_SHAPE:  # a smaller picture of it
        return _from_pixels(layer).with_mpp((float(sides[0]), float(sides[1])))
    return None


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
    y, x = (_um(abs(float(scale)), unit) for scale, unit in zip(layer.scale, layer.units, strict=True))
    return x, y


def _um(length: float, unit: pint.Unit) -> float:
    """Return a length in um; one that is in no unit of length as it is."""
    return float((length * unit).to("um").magnitude) if _is_length(unit) else float(length)


def _is_length(unit: pint.Unit) -> bool:
    return bool(unit.dimensionality == {"[length]": 1})
