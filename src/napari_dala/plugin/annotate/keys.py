"""The keys to draw with, on the layers of a slide: napari's own are others for some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from napari_dala.plugin.annotate.brush import BRUSH, WAND

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Layer

    from napari_dala.plugin.annotate.drawing import Drawing

TOOL_KEYS = {"B": BRUSH, "W": WAND}  # as in QuPath
SIZE_KEYS = {"[": -1, "]": 1}


def bind_keys(layer: Layer, drawing: Drawing) -> None:
    """Bind the keys on the layer itself: of napari's own 3 deletes selected Shapes, and 2 lets a drag move an Image."""
    for digit in range(10):
        layer.bind_key(str(digit), _calling(WeakMethod(drawing.choose_digit), digit), overwrite=True)
    for key, method, *arguments in (
        ("Control-Z", drawing.undo),
        ("Control-Shift-Z", drawing.redo),
        *((("Backspace", drawing.take_back_point),) if layer is drawing.layer else ()),
        ("T", drawing.painter.label_tile),
        *((key, drawing.choose_tool, tool) for key, tool in TOOL_KEYS.items()),
        *((key, drawing.painter.brush.resize, steps) for key, steps in SIZE_KEYS.items()),
    ):
        layer.bind_key(key, _calling(WeakMethod(method), *arguments), overwrite=True)


def _calling(method: WeakMethod[Any], *arguments: Any) -> Callable[[Layer], None]:
    def call(layer: Layer) -> None:
        """Call the drawing that the layer belongs to."""
        if (bound := method()) is not None:
            bound(*arguments)

    return call
