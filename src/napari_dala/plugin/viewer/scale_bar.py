"""A scale bar in micrometres, once there is something to measure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from napari_dala.plugin.viewer.turns import in_turns

if TYPE_CHECKING:
    from napari.components import ViewerModel

_LATER_MS = 300  # the slide comes first: the bar's font takes a tenth of a second

_with_scale_bar: WeakSet[ViewerModel] = WeakSet()


def show_scale_bar(viewer: ViewerModel) -> None:
    """Show the scale bar with a viewer's first slide in micrometres; whoever hides it then has it hidden."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _with_scale_bar:
        _with_scale_bar.add(viewer)
        bar = viewer.canvas.overlays.scale_bar
        in_turns(viewer, [lambda: setattr(bar, "visible", True)], _LATER_MS)
