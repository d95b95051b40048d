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
    from numpy.typing import NDArray
    from vispy.scene import VisualNode
    from vispy.util.event import EventEmitter

    _XY = NDArray[np.float64]

_HATCH = """
void hatch() {
    float off = (fract($first + dot(gl_FragCoord.xy, $slope)) - 0.5) * $apart;
    if (abs(off) > 1.5) { gl_FragColor.a = 0.0; }
    else if (off > 0.0) { gl_FragColor.rgb = vec3(1.0); }    // seen on dark tissue too
}
"""

_VALUE = """
float value(vec2 at) {
    return texture2D($texture, at).r;
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
    vec2 at = $corner + gl_FragCoord.x * $px_right + gl_FragCoord.y * $px_up;
    if ($crosses(at, 2.5 * $right, 2.5 * $up) > 0.5) {
        bool thin = $crosses(at, $right, $up) > 0.5;
        if (thin) { gl_FragColor = vec4(0.05, 0.05, 0.15, 1.0); }
        else if ($near > 0.0) { gl_FragColor = vec4(1.0, 1.0, 1.0, 0.8); }  // else lines would hide all
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
    vec2 beyond = $corner + gl_FragCoord.x * $right + gl_FragCoord.y * $up;
    if (max(beyond.x, beyond.y) > 0.0) { gl_FragColor.a = 0.0; }
}
"""


class _Shading(Filter):  # type: ignore[misc]  # vispy is not typed
    """A function that has the last word on every pixel of an image layer."""

    _node: VisualNode = None
    _draws: EventEmitter  # of the canvas: that a node knows is none before it is drawn, and once it is taken out

    def __init__(self, code: str, order: int = 20) -> None:
        super().__init__(fcode=code, fhook="post", fpos=order)

    def draw_in(self, viewer: ViewerModel, layer: Image) -> None:
        """Begin to draw in a layer; without a window, or in a napari that is built otherwise, nothing is drawn."""
        window = getattr(viewer, "window", None)
        if window is None:
            return
        try:
            canvas = window._qt_viewer.canvas
            node, self._draws = canvas.layer_to_visual[layer].node, canvas._scene_canvas.events.draw
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
    """A function that depends on where in the layer's picture it is."""

    _moved = False

    def _prepare(self, node: VisualNode, layer: Image) -> None:
        node.transforms.changed.connect(self._note)
        self._draws.connect(self._follow, position="first")
        self._note()
        self._follow()

    def end(self) -> None:
        if self._node is not None:
            self._node.transforms.changed.disconnect(self._note)
            self._draws.disconnect(self._follow)
        super().end()

    def _note(self, event: object = None) -> None:
        """Note that the view has changed, which it does several times for one frame, and of hidden layers too."""
        self._moved = True

    def _follow(self, event: object = None) -> None:
        """Work out where the canvas lies in the picture, if that is to be drawn."""
        if not self._moved or (event is not None and not self._node.visible):
            return
        self._moved = False
        transforms = self._node.transforms
        of_screen = np.array([(0, 0, 0, 1), (1, 0, 0, 1), (0, 1, 0, 1)], np.float64)
        points = transforms.get_transform("framebuffer", "visual").map(of_screen)
        corner, right, up = points[:, :2] / points[:, 3:]
        self._place_at(corner, right - corner, up - corner, transforms.pixel_scale)

    def _place_at(self, corner: _XY, right: _XY, up: _XY, px: float) -> None:
        """Take the place in the picture of the canvas' corner, and of steps of one px; lines are `px` times as wide."""
        raise NotImplementedError


class Hatching(_Placed):
    """Leaves of a layer only thin diagonals, a dark and a light one side by side."""

    def __init__(self) -> None:
        super().__init__(_HATCH)

    def _place_at(self, corner: _XY, right: _XY, up: _XY, px: float) -> None:
        step = max(px * float(np.hypot(*right)), 1e-9)
        apart = 2 ** np.ceil(np.log2(9 * step))  # powers of two, so that the lines lie still on the tissue
        self.fshader["first"] = float(corner.sum() / apart % 1)
        self.fshader["slope"] = (float(right.sum() / apart), float(up.sum() / apart))
        self.fshader["apart"] = float(apart / step)


class Bounds(_Placed):
    """Leaves out of a layer what lies to the right of a point or below it, (row, column) in the layer's pixels."""

    def __init__(self, end: tuple[float, float]) -> None:
        super().__init__(_WITHIN, order=21)  # lines too
        self._end = np.array(end[::-1])

    def _place_at(self, corner: _XY, right: _XY, up: _XY, px: float) -> None:
        self.fshader["corner"], self.fshader["right"], self.fshader["up"] = corner - self._end, right, up


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

    def __init__(self) -> None:
        super().__init__(_EDGE)
        self._value, self._crosses = Function(_VALUE), Function(_CROSSES)

    def _prepare(self, node: VisualNode, layer: Image) -> None:
        self._size = np.array(layer.data.shape[::-1], np.float64)
        super()._prepare(node, layer)
        self._value["texture"] = node._texture
        self._crosses["value"] = self._value
        self.fshader["crosses"] = self._crosses

    def _place_at(self, corner: _XY, right: _XY, up: _XY, px: float) -> None:
        self.fshader["near"] = float(px * np.hypot(*right) < 0.12)
        corner, right, up = corner / self._size, right / self._size, up / self._size  # as textures are read
        self.fshader["corner"], self.fshader["px_right"], self.fshader["px_up"] = corner, right, up
        self.fshader["right"], self.fshader["up"] = px * right, px * up

    @property
    def level(self) -> float:
        """Values above it are within an outline; 1 or more: none are."""
        return self._level

    @level.setter
    def level(self, level: float) -> None:
        self._level = level
        self.fshader["level"] = self._crosses["level"] = level
