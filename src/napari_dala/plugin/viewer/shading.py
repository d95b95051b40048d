"""How the graphics card draws a layer: only where it shows something, and with lines as wide at every zoom.

The card works pixel by pixel on the screen, so that they cost the same for ten tiles and for a hundred thousand. napari
gives layers no such thing: the filters are vispy's, on the layer's own picture. A processor may have to draw, and takes
long for each thing done to a million pixels: one look at a texture, and what changes with the view alone is worked out
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from vispy.visuals.filters.base_filter import Filter
from vispy.visuals.shaders import Varying

from napari_dala.plugin.viewer.inside_napari import flat_node_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import ArrayLike, NDArray
    from vispy.scene import VisualNode
    from vispy.util.event import EventEmitter

_BLOCKS = 64  # along each side of a picture; those that show nothing are left out
_CORNERS = ((0, 1), (2, 1), (2, 3), (0, 1), (2, 3), (0, 3))  # of two triangles, in (left, top, right, bottom)

_HATCH = """
void hatch() {
    float off = (fract($first + dot(gl_FragCoord.xy, $slope)) - 0.5) * $apart;
    if (abs(off) > 1.5) { gl_FragColor.a = 0.0; }
    else if (off > 0.0) { gl_FragColor.rgb = vec3(1.0); }    // seen on dark tissue too
}
"""

_PLACE = """
void place() {
    $at = $corner;
}
"""

# How fast the value changes from pixel to pixel tells how far the level is.
_EDGE = """
void edge() {
    float over = texture2D($texture, $at).r - $level;
    float slope = max($px * length(vec2(dFdx(over), dFdy(over))), 1e-9);
    float away = abs(over) / slope;
    if (away < 1.0) { gl_FragColor = vec4(0.05, 0.05, 0.15, 1.0); }
    else if (away < 2.5 && $px * length(dFdx($at * $size)) < 0.12) {  // further away lines would hide all
        gl_FragColor = vec4(1.0, 1.0, 1.0, 0.8);
    }
}
"""

_CURTAIN = """
void curtain() {
    if ((gl_FragCoord.x - $at) * $side > 0.0) { gl_FragColor.a = 0.0; }
}
"""


class DrawnPart:
    """Keeps what is drawn of a layer to what it shows; without a window, or in another napari, all is drawn.

    Parameters
    ----------
    viewer
        Shows the layer.
    layer
        Of values, (h, w).
    end
        Nothing to the right of this point or below it is drawn, (row, column) in the layer's pixels.
    """

    def __init__(self, viewer: ViewerModel, layer: Image, end: ArrayLike) -> None:
        self._node: VisualNode = flat_node_of(viewer, layer)
        self._layer, self._end = layer, np.divide(end, layer.data.shape)
        self._events = layer.events.set_data, layer.events.colormap, layer.events.contrast_limits
        if self._node is not None:
            for event in self._events:
                event.connect(self._update, position="last")  # napari's picture has it then
            self._update()

    def end(self) -> None:
        """Follow the layer no more."""
        if self._node is not None:
            for event in self._events:
                event.disconnect(self._update)

    def _update(self, event: object = None) -> None:
        part = np.minimum(_runs(self._shown), [*self._end[::-1], *self._end[::-1]])
        corners = part[:, np.array(_CORNERS)].reshape(-1, 2).astype(np.float32)
        self._node._need_vertex_update = False  # else it makes its own as it is drawn first
        self._node._subdiv_texcoord.set_data(corners)
        self._node._subdiv_position.set_data(corners * np.array(self._node.size, np.float32))
        self._node.update()

    @property
    def _shown(self) -> NDArray[np.bool_]:
        """True where something is seen, (h, w)."""
        values = np.asarray(self._layer.data)
        shown: NDArray[np.bool_] = np.isfinite(values)
        low, high = self._layer.contrast_limits
        if self._layer.colormap.map(np.clip(-low / (high - low), 0, 1))[..., 3].max() == 0:
            shown &= values != 0
        return shown


class _Shading(Filter):  # type: ignore[misc]  # vispy is not typed
    """A function that has the last word on every pixel of an image layer."""

    _node: VisualNode = None

    def __init__(self, code: str, order: int = 20, place: str | None = None) -> None:
        super().__init__(vcode=place, fcode=code, fhook="post", fpos=order)

    def draw_in(self, viewer: ViewerModel, layer: Image) -> None:
        """Begin to draw in a layer; without a window, or in a napari that is built otherwise, nothing is drawn."""
        node = flat_node_of(viewer, layer)
        if node is not None:
            self._node = node
            self._prepare(viewer, layer)
            node.attach(self)

    def end(self) -> None:
        """Draw no more."""
        node, self._node = self._node, None
        if node is not None:
            node.detach(self)

    def _prepare(self, viewer: ViewerModel, layer: Image) -> None:
        """Give the function what it needs of the layer's picture."""


class Hatching(_Shading):
    """Leaves of a layer only thin diagonals, a dark and a light one side by side."""

    _draws: EventEmitter  # of the canvas: that a node knows is none before it is drawn, and once it is taken out
    _moved = False

    def __init__(self) -> None:
        super().__init__(_HATCH)

    def end(self) -> None:
        """Draw no more."""
        if self._node is not None:
            self._node.transforms.changed.disconnect(self._note)
            self._draws.disconnect(self._follow)
        super().end()

    def _prepare(self, viewer: ViewerModel, layer: Image) -> None:
        self._draws = viewer.window._qt_viewer.canvas._scene_canvas.events.draw
        self._node.transforms.changed.connect(self._note)
        self._draws.connect(self._follow, position="first")
        self._note()
        self._follow()

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
        right, up = right - corner, up - corner
        step = max(transforms.pixel_scale * float(np.hypot(*right)), 1e-9)
        apart = 2 ** np.ceil(np.log2(9 * step))  # powers of two, so that the lines lie still on the tissue
        self.fshader["first"] = float(corner.sum() / apart % 1)
        self.fshader["slope"] = (float(right.sum() / apart), float(up.sum() / apart))
        self.fshader["apart"] = float(apart / step)


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
            self._prepare()
            self._node.update()

    def _prepare(self, viewer: ViewerModel | None = None, layer: Image | None = None) -> None:
        self.fshader["at"] = self._part * float(self._node.canvas.physical_size[0])


class Outlines(_Shading):
    """Draws a dark line with a light rim around all that is above a level."""

    def __init__(self) -> None:
        super().__init__(_EDGE, place=_PLACE)
        self.vshader["at"] = self.fshader["at"] = Varying("v_at", "vec2")

    def _prepare(self, viewer: ViewerModel, layer: Image) -> None:
        self.fshader["texture"] = self._node._texture
        self.vshader["corner"] = self._node._subdiv_texcoord
        self.fshader["px"] = float(self._node.transforms.pixel_scale)
        self.fshader["size"] = layer.data.shape[::-1]

    @property
    def level(self) -> float:
        """Values above it are within an outline; 1 or more: none are."""
        return self._level

    @level.setter
    def level(self, level: float) -> None:
        self._level = self.fshader["level"] = level


def _runs(shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return rectangles around all that is shown, left, top, right and bottom as parts of the picture, (n, 4)."""
    blocks = _in_blocks(_in_blocks(shown).T).T
    steps = np.diff(blocks.astype(np.int8), axis=1, prepend=0, append=0)
    (row, left), (_, right) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    height, width = -(-np.array(shown.shape) // _BLOCKS) / shown.shape
    found = np.column_stack((left * width, row * height, right * width, (row + 1) * height))
    return found if len(found) else np.zeros((1, 4))


def _in_blocks(shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which blocks of rows show something in each column, or next to them: napari interpolates."""
    side = -(-len(shown) // _BLOCKS)
    filled = np.zeros((side * _BLOCKS, shown.shape[1]), bool)
    filled[: len(shown)] = shown
    blocks: NDArray[np.bool_] = np.asarray(filled.reshape(_BLOCKS, side, -1).any(1))
    blocks[1:] |= filled[side - 1 : -1 : side]
    blocks[:-1] |= filled[side::side]
    return blocks
