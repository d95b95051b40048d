"""The keys of the annotation layer: digits choose the class, Ctrl+Z and Ctrl+Shift+Z go back and forth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Shapes

    from napari_dala.plugin.annotate.drawing import Drawing
    from napari_dala.annotations.document import AnnotationClass


def bind_keys(layer: Shapes, drawing: Drawing) -> None:
    """Bind the keys on the layer itself: napari's Shapes own 1 to 7, and 3 deletes what is selected."""
    for digit in range(10):
        layer.bind_key(str(digit), _calling(WeakMethod(drawing.choose_digit), digit), overwrite=True)
    layer.bind_key("Control-Z", _calling(WeakMethod(drawing.undo)), overwrite=True)
    layer.bind_key("Control-Shift-Z", _calling(WeakMethod(drawing.redo)), overwrite=True)


def class_of_digit(classes: Sequence[AnnotationClass], digit: int) -> AnnotationClass | None:
    """Return the class that a digit key stands for: 1 to 9 by order, 0 the tenth, or else the first to ignore."""
    if digit == 0 and len(classes) < 10:
        return next((info for info in classes if info.ignore), None)
    index = (digit - 1) % 10
    return classes[index] if index < len(classes) else None


def digits_of(classes: Sequence[AnnotationClass], info: AnnotationClass) -> list[int]:
    """Return the digit keys of a class."""
    return [digit for digit in (*range(1, 10), 0) if class_of_digit(classes, digit) is info]


def _calling(method: WeakMethod[Any], *arguments: Any) -> Callable[[Shapes], None]:
    def call(layer: Shapes) -> None:
        """Call the drawing that the layer belongs to."""
        if (bound := method()) is not None:
            bound(*arguments)

    return call
