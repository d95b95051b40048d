"""The keys of the annotation layer: digits choose the class, Ctrl+Z and Ctrl+Shift+Z go back and forth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Shapes

    from napari_dala.plugin.annotate.drawing import Drawing


def bind_keys(layer: Shapes, drawing: Drawing) -> None:
    """Bind the keys on the layer itself: napari's Shapes own 1 to 7, and 3 deletes what is selected."""
    for digit in range(10):
        layer.bind_key(str(digit), _calling(WeakMethod(drawing.choose_digit), digit), overwrite=True)
    layer.bind_key("Control-Z", _calling(WeakMethod(drawing.undo)), overwrite=True)
    layer.bind_key("Control-Shift-Z", _calling(WeakMethod(drawing.redo)), overwrite=True)


def _calling(method: WeakMethod[Any], *arguments: Any) -> Callable[[Shapes], None]:
    def call(layer: Shapes) -> None:
        """Call the drawing that the layer belongs to."""
        if (bound := method()) is not None:
            bound(*arguments)

    return call
