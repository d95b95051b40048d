"""Several slides in one window: beside each other, in one unit, each with what is drawn on it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

import numpy as np

from napari_dala.errors import SlideError
from napari_dala.plugin.viewer.slide_layers import (
    agree_on_um,
    bring_into_view,
    is_in_um,
    shown_in_um,
    shows_slide,
    why_no_slide,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import WeakMethod

    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_dala.slide import Slide

_GAP = 0.03  # between slides, of the width of those that are there


class SideBySide:
    """Where the slides of a viewer lie.

    Parameters
    ----------
    viewer
        Held weakly.
    owner_of
        Gives the slide layer that a layer of ours belongs to, and other layers as they are.
    """

    def __init__(self, viewer: ViewerModel, owner_of: WeakMethod[Callable[[Layer], Layer | None]]) -> None:
        self._viewer, self._owner_of = ref(viewer), owner_of
        self._was_visible: WeakKeyDictionary[Layer, bool] = WeakKeyDictionary()  # of what lies on hidden slides
        self._hidden: WeakSet[Image] = WeakSet()  # slides that make room for another

    @property
    def _all(self) -> list[Image]:
        viewer = self._viewer()
        return [] if viewer is None else [layer for layer in viewer.layers if shows_slide(layer)]

    def apart(self, layer: Image) -> list[Layer]:
        """Return the layers that do not move with a slide's when that is scaled: ours follow by themselves."""
        viewer, owner_of = self._viewer(), self._owner_of()
        if viewer is None or owner_of is None:
            return []
        alone = len(self._all) < 2
        return [
            other
            for other in viewer.layers
            if other is not layer
            and (owner_of(other) is not other or shows_slide(other) or not (alone or _is_on(other, layer)))
        ]

    def units_for(self, slide: Slide) -> dict[str, Any]:
        """Return what a new layer of a slide needs, so that it and those that are there have the same unit at once.

        napari says each time that units are mixed before anybody can mend it.
        """
        if slide.mpp is None:
            return shown_in_um() if any(map(is_in_um, self._all)) else {}
        for layer in self._all:
            with suppress(SlideError):
                self._agree(layer)
        return {}

    def welcome(self, layer: Layer) -> None:
        """Place a slide that was opened beside those that are there, and bring it into view."""
        if shows_slide(layer):
            layer.events.visible.connect(lambda event: self._carry_along(event.source))
        others = [other for other in self._all if other is not layer]
        is_opened = bool(layer.source.path) or "dala_slide" in layer.metadata
        if why_no_slide(layer) and is_opened and any(map(is_in_um, others)) and not is_in_um(layer):
            layer.units = (*layer.units[:-2], "um", "um")  # else napari says again and again that units are mixed
        if not shows_slide(layer) or not others or not is_opened:
            return
        try:
            for one in (layer, *others):
                self._agree(one)
        except SlideError:
            return  # it says so when it is chosen
        slides = [other.metadata.get("dala_slide") for other in others]
        if not any(slide is not None and slide is layer.metadata["dala_slide"] for slide in slides):
            self.place(layer)

    def place(self, layer: Image) -> None:
        """Move a slide to the right of the others where it lies over one of them, and bring it into view."""
        viewer, others = self._viewer(), [other for other in self._all if other is not layer]
        if viewer is None or not others:
            return
        if any(_overlap(layer, other) for other in others):
            edges = [other.extent.world[:, -2:] for other in others]
            left, right = min(edge[0, 1] for edge in edges), max(edge[1, 1] for edge in edges)
            wanted = np.array([edges[0][0, 0], right + _GAP * (right - left)])
            layer.translate = np.asarray(layer.translate) + wanted - layer.extent.world[0, -2:]
        bring_into_view(viewer, layer)

    def show_alone(self, layer: Image | None) -> None:
        """Hide the other slides and show this one; for None, show all that were hidden so."""
        for other in self._all:
            if layer is not None and other is not layer:
                if other.visible:
                    self._hidden.add(other)
                other.visible = False
            elif other in self._hidden:
                self._hidden.discard(other)
                other.visible = True

    def _carry_along(self, layer: Image) -> None:
        """Hide what belongs to a slide that is hidden, and show it as it was with the slide."""
        viewer, owner_of = self._viewer(), self._owner_of()
        if viewer is None or owner_of is None:
            return
        is_hidden = not layer.visible
        for other in viewer.layers:
            if other is layer or owner_of(other) is not layer:
                continue
            if is_hidden:
                self._was_visible.setdefault(other, other.visible)
                other.visible = False
            elif other in self._was_visible:
                other.visible = self._was_visible.pop(other)

    def _agree(self, layer: Image) -> None:
        viewer = self._viewer()
        if viewer is not None:
            agree_on_um(viewer, layer, self.apart(layer))


def _overlap(one: Image, other: Image) -> bool:
    (a_first, a_last), (b_first, b_last) = one.extent.world[:, -2:], other.extent.world[:, -2:]
    return bool((np.minimum(a_last, b_last) > np.maximum(a_first, b_first)).all())


def _is_on(layer: Layer, slide_layer: Image) -> bool:
    """Return whether the middle of a layer lies on a slide."""
    if layer.ndim != slide_layer.ndim:
        return False
    (top, left), (bottom, right) = slide_layer.extent.world
    y, x = layer.extent.world.mean(axis=0)
    return bool(top <= y <= bottom and left <= x <= right)
