"""The part of a layer's picture that is drawn: where it shows something, and nothing beyond the slide.

napari draws the whole rectangle, transparent pixels too, and where a processor draws that takes some ms for each layer.
vispy's picture draws any triangles it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import ArrayLike, NDArray
    from vispy.scene import VisualNode

_BLOCKS = 64  # along each side; those that show nothing are left out
_CORNERS = ((0, 1), (2, 1), (2, 3), (0, 1), (2, 3), (0, 3))  # of two triangles, in (left, top, right, bottom)


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
        self._node: VisualNode = node_of(viewer, layer)
        self._layer, self._end = layer, np.divide(end, layer.data.shape)
        self._events = layer.events.set_data, layer.events.colormap, layer.events.contrast_limits
        if self._node is not None:
            for event in self._events:
                event.connect(self._update)
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


def node_of(viewer: ViewerModel, layer: Image) -> VisualNode | None:
    """Return what draws a layer; None without a window, or in a napari that is built otherwise."""
    try:
        return viewer.window._qt_viewer.canvas.layer_to_visual[layer].node
    except (AttributeError, KeyError):
        return None


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
