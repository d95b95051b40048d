"""Lines that the graphics card draws into a layer, always as wide on the screen, however near one looks.

The card works pixel by pixel on the screen, so that they cost the same for ten tiles and for a hundred thousand. napari
gives layers no such thing: the filters are vispy's, on the layer's own picture. Where a pixel of the screen lies in the
picture is worked out once for each change of the view, not for each pixel: a processor that draws takes long for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from vispy.visuals.filters.base_filter import Filter
from vispy.visuals.shaders import Function

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from vispy.scene import VisualNode

# $right and $up are the steps of one pixel on the screen, in the picture's pixels; $corner is that of the canvas.
_PLACE = """
vec2 place() {
    return $corner + gl_FragCoord.x * $right + gl_FragCoord.y * $up;
}
"""

_HATCH = """
void hatch() {
    if (gl_FragColor.a == 0.0) { return; }
    vec2 at = $place();
    float step = length($right);
    float apart = exp2(ceil(log2(9.0 * step)));              // so that the lines lie still on the tissue
    float off = (mod(at.x + at.y, apart) - apart / 2.0) / step;
    if (abs(off) > 1.5) { gl_FragColor.a = 0.0; }
    else if (off > 0.0) { gl_FragColor.rgb = vec3(1.0); }    // seen on dark tissue too
}
"""

_VALUE = """
float value(vec2 at) {
    return texture2D($texture, at / $size).r;
}
"""

# Three places around a pixel tell an edge, and are read faster than four.
_CROSSES = """
float crosses(vec2 at, vec2 right, vec2 up) {
    bool within = $value(at + right) > $level;
    bool leaves = ($value(at - 0.5 * right - 0.87 * up) > $level) != within
        || ($value(at - 0.5 * right + 0.87 * up) > $level) != within;
    return leaves ? 1.0 : 0.0;
}
"""

_EDGE = """
void edge() {
    if ($level >= 1.0) { return; }
    vec2 at = $place();
    if ($crosses(at, 2.5 * $right, 2.5 * $up) > 0.5) {
        bool thin = $crosses(at, $right, $up) > 0.5;
        if (thin) { gl_FragColor = vec4(0.05, 0.05, 0.15, 1.0); }
        else if (length($right) < 0.12) { gl_FragColor = vec4(1.0, 1.0, 1.0, 0.8); }  // else lines would hide all
    }
}
"""

_CURTAIN = """
void curtain() {
    if ((gl_FragCoord.x - $at) * $side > 0.0) { gl_FragColor.a = 0.0; }
}
"""

_WITHIN = """
void within() {
    if (gl_FragColor.a == 0.0) { return; }
    vec2 at = $place();
    if (at.x > $end.x || at.y > $end.y) { gl_FragColor.a = 0.0; }
}
"""


class _Shading(Filter):  # type: ignore[misc]  # vispy is not typed
    """A function that has the last word on every pixel of an image layer."""

    _node: VisualNode = None

    def __init__(self, code: str, order: int = 20) -> None:
        super().__init__(fcode=code, fhook="post", fpos=order)

    def draw_in(self, viewer: ViewerModel, layer: Image) -> None:
        """Begin to draw in a layer; without a window, or in a napari that is built otherwise, nothing is drawn."""
        window = getattr(viewer, "window", None)
        if window is None:
            return
        try:
            node = window._qt_viewer.canvas.layer_to_visual[layer].node
        except (AttributeError, KeyError):
            return
        self._node = node
        self._prepare(node, layer)
        node.attach(self)

    def end(self) -> None:
        """Draw no more."""
        node, self._node = self._node, None
        if node is not None:
            node.detach(self)

    def _prepare(self, node: VisualNode, layer: Image) -> None:
        """Give the function what it needs of the layer's picture."""


class _Placed(_Shading):
    """A function that asks where in the layer's picture it is."""

    _steps: tuple[str, ...] = ()  # of `right` and `up`, those that the function itself uses

    def _prepare(self, node: VisualNode, layer: Image) -> None:
        self._place = self.fshader["place"] = Function(_PLACE)
        node.transforms.changed.connect(self._follow)
        self._follow()

    def end(self) -> None:
        if self._node is not None:
            self._node.transforms.changed.disconnect(self._follow)
        super().end()

    def _follow(self, event: object = None) -> None:
        """Work out where the canvas lies in the picture."""
        transforms = self._node.transforms
        of_screen = np.array([(0, 0, 0, 1), (1, 0, 0, 1), (0, 1, 0, 1)], np.float64)
        points = transforms.get_transform("framebuffer", "visual").map(of_screen)
        corner, right, up = points[:, :2] / points[:, 3:]
        right, up = right - corner, up - corner
        self._place["corner"], self._place["right"], self._place["up"] = corner, right, up
        for name in self._steps:
            self.fshader[name] = transforms.pixel_scale * (right if name == "right" else up)


class Hatching(_Placed):
    """Leaves of a layer only thin diagonals, a dark and a light one side by side."""

    _steps = ("right",)

    def __init__(self) -> None:
        super().__init__(_HATCH)


class Bounds(_Placed):
    """Leaves out of a layer what lies to the right of a point or below it, (row, column) in the layer's pixels."""

    def __init__(self, end: tuple[float, float]) -> None:
        super().__init__(_WITHIN, order=21)  # lines too
        self.fshader["end"] = end[::-1]


class Curtain(_Shading):
    """Leaves of a layer only what is left (side 1) or right (side -1) of a place on the screen."""

    def __init__(self, side: int) -> None:
        super().__init__(_CURTAIN, order=22)
        self.fshader["side"] = float(side)
        self._part = self.fshader["at"] = 0.0

    def draw_to(self, part: float) -> None:
        """Hang it at a part of the canvas' width, 0 to 1."""
        self._part = part
        if self._node is not None:
            self._prepare(self._node)
            self._node.update()

    def _prepare(self, node: VisualNode, layer: Image | None = None) -> None:
        self.fshader["at"] = self._part * float(node.canvas.physical_size[0])


class Outlines(_Placed):
    """Draws a dark line with a light rim around all that is above a level."""

    _steps = ("right", "up")

    def __init__(self) -> None:
        super().__init__(_EDGE)
        self._value, self._crosses = Function(_VALUE), Function(_CROSSES)

    def _prepare(self, node: VisualNode, layer: Image) -> None:
        super()._prepare(node, layer)
        height, width = layer.data.shape
        self._value["texture"], self._value["size"] = node._texture, (float(width), float(height))
        self._crosses["value"] = self._value
        self.fshader["crosses"] = self._crosses

    @property
    def level(self) -> float:
        """Values above it are within an outline; 1 or more: none are."""
        return self._level

    @level.setter
    def level(self, level: float) -> None:
        self._level = level
        self.fshader["level"] = self._crosses["level"] = level
