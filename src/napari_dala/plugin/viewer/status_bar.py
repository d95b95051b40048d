"""What the status bar says under the cursor, whichever layer is selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from weakref import WeakMethod

    from napari.layers import Layer
    from numpy.typing import ArrayLike


class WithProbability:
    """A layer's `get_status`, with class and probability under the cursor added in front."""

    dala = True

    def __init__(self, layer: Layer, describe: WeakMethod[Any]) -> None:
        self._layer = ref(layer)
        self._describe = describe

    def __call__(self, position: ArrayLike | None = None, **options: Any) -> dict[str, str]:
        """Return what napari's own gives, with class and probability in front."""
        layer, describe = self._layer(), self._describe()
        assert layer is not None
        status: dict[str, str] = type(layer).get_status(layer, position, **options)
        if position is not None and options.get("world") and describe is not None and (text := describe(position)):
            status["coordinates"] = f"{text}   {status['coordinates']}"
            status["value"] = f"{status['value']}   {text}"
        return status
