"""A scale bar in micrometres, while there is something to measure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from napari_dala.plugin.viewer.turns import in_turns

if TYPE_CHECKING:
    from napari.components import ViewerModel

_LATER_MS = 300  # the slide comes first: the bar's font takes a tenth of a second

_with_scale_bar: WeakSet[ViewerModel] = WeakSet()
_taken_away: WeakSet[ViewerModel] = WeakSet()


def show_scale_bar(viewer: ViewerModel, in_um: bool) -> None:
    """Show the scale bar from a viewer's first slide in micrometres on, but with none whose resolution is not known.

    Whoever hides it has it hidden.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)
    bar = viewer.canvas.overlays.scale_bar
    if not in_um:
        if bar.visible:
            bar.visible = False
            _taken_away.add(viewer)
    elif viewer in _taken_away:
        bar.visible = True
        _taken_away.remove(viewer)
    elif viewer not in _with_scale_bar:
        _with_scale_bar.add(viewer)
        in_turns(viewer, [lambda: setattr(bar, "visible", True)], _LATER_MS)
