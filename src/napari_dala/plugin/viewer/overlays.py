"""What lies over one slide layer: the results that stand, and beside them a preview of others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_dala.plugin.viewer.result_layers import ResultLayers

if TYPE_CHECKING:
    from napari.components import LayerList
    from napari.layers import Image, Layer

    from napari_dala.results.loaded import LoadedAnalysis

PREVIEW = " (preview)"
"""Ends the names of a preview's layers."""


class Overlays:
    """The results of one slide layer; a preview hides them until it is kept or dropped.

    Parameters
    ----------
    layers
        The viewer's.
    slide_layer
        The slide's.

    Attributes
    ----------
    standing
        The results that stay if the preview is dropped, or None.
    preview
        Those beside them, or None.
    shows_before
        True while the standing results are looked at, though there is a preview.
    """

    def __init__(self, layers: LayerList, slide_layer: Image) -> None:
        self._layers, self._slide_layer = layers, slide_layer
        self.standing: ResultLayers | None = None
        self.preview: ResultLayers | None = None
        self.shows_before = False
        self._away: ResultLayers | None = None  # hidden until others come
        self._visible_away: dict[Layer, bool] = {}
        self._visible: dict[Layer, bool] = {}  # the standing layers', before the preview

    @property
    def shown(self) -> ResultLayers | None:
        """The results that are looked at."""
        return self.standing if self.preview is None or self.shows_before else self.preview

    @property
    def all(self) -> tuple[Layer, ...]:
        """Every layer of every result."""
        parts = self.standing, self.preview, self._away
        return tuple(layer for results in parts if results for layer in results.all)

    @property
    def aside(self) -> tuple[Layer, ...]:
        """Layers of results that are not looked at, and give way to others."""
        shown = self.shown
        return () if shown is None else tuple(layer for layer in self.all if layer not in shown.all)

    def show(self, loaded: LoadedAnalysis) -> ResultLayers:
        """Lay results over the slide in place of all there are; how they are shown stays as it was."""
        self.drop()
        before, self.standing = self.standing or self._take_back(), None
        results = ResultLayers(self._layers, self._slide_layer, loaded, at_once=False, instead_of=before)
        if before is not None:
            _look_alike(before, results)
        self.standing = results
        return results

    def show_preview(self, loaded: LoadedAnalysis) -> ResultLayers:
        """Lay results over the slide as a preview, in place of an earlier one; the standing ones are hidden."""
        self.show_before(False)
        if self.standing is None:
            self.standing = self._take_back()
        before, self.preview = self.shown, None
        if before is not None and before is not self.standing:
            before.remove()
        results = ResultLayers(self._layers, self._slide_layer, loaded, ending=PREVIEW, at_once=False)
        if before is not None:
            _look_alike(before, results)
        if before is not None and before is self.standing:
            self._visible = {layer: layer.visible for layer in before.all}
            for layer in before.all:
                layer.visible = False
        self.preview = results
        return results

    def keep(self) -> None:
        """Let the preview stand, in place of what stood before."""
        if self.preview is None:
            return
        self.show_before(False)
        before, self.standing, self.preview = self.standing, self.preview, None
        if before is not None:
            before.remove()
        self.standing.end_names("")

    def drop(self) -> None:
        """Remove the preview; what stood before is visible again as it was."""
        if self.preview is None:
            return
        preview, self.preview, self.shows_before = self.preview, None, False
        preview.remove()
        if self.standing is not None:
            for layer, visible in self._visible.items():
                layer.visible = visible

    def put_away(self) -> None:
        """Hide what is shown and let nothing stand; the layers go when others come.

        Not at once: drivers that draw on the processor may crash where images go, and others come after the window was
        painted.
        """
        self.drop()
        if self.standing is not None:
            self._away, self.standing = self.standing, None
            self._visible_away = {layer: layer.visible for layer in self._away.all}
            for layer in self._away.all:
                layer.visible = False

    def _take_back(self) -> ResultLayers | None:
        """Return what was put away, shown as it was."""
        away, self._away = self._away, None
        if away is not None:
            for layer, visible in self._visible_away.items():
                layer.visible = visible
        return away

    def show_before(self, before: bool) -> None:
        """Look at the standing results instead of the preview, or at the preview again; what was visible stays so."""
        if self.preview is None or self.standing is None or before == self.shows_before:
            return
        old, new = (self.preview, self.standing) if before else (self.standing, self.preview)
        self.shows_before = before
        _take_visibility(old, new)
        for layer in old.all:
            layer.visible = False

    def tidy(self) -> None:
        """Drop a preview whose layers the user has removed."""
        if self.preview is not None and not self.preview.present:
            self.drop()

    def remove(self) -> None:
        """Take every layer out of the viewer."""
        for results in (self.preview, self.standing, self._away):
            if results is not None:
                results.remove()
        self.preview = self.standing = self._away = None


def _take_visibility(before: ResultLayers, after: ResultLayers) -> None:
    """Show the layers that are shown of others, as opaque; one that the others lack stays as it is."""
    old = {layer.metadata["dala_role"]: layer for layer in before.all}
    for layer in after.all:
        if (like := old.get(layer.metadata["dala_role"])) is not None:
            layer.visible = like.visible
    for layer in after.all:  # then, for showing a Grad-CAM dims the probability
        if (like := old.get(layer.metadata["dala_role"])) is not None:
            layer.opacity = like.opacity


def _look_alike(before: ResultLayers, after: ResultLayers) -> None:
    """Show results as others were shown: the same layers, the same class' map, at a threshold that was moved."""
    _take_visibility(before, after)
    old_card, new_card, explained = before.analysis.card, after.analysis.card, before.explanation
    name = old_card.class_names[explained.class_index]
    if name in new_card.class_names:
        after.explain(replace(explained, class_index=new_card.class_names.index(name)))
    if old_card.operating_threshold == new_card.operating_threshold:
        after.set_threshold(before.threshold, before.analysis.doubt)
