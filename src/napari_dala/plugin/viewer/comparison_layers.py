"""A second result over a slide, behind a curtain, and where the two differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap

from napari_dala.plugin.viewer.looks import look_of_kinds
from napari_dala.plugin.viewer.plain_text import without_tags
from napari_dala.plugin.viewer.shading import Curtain
from napari_dala.plugin.viewer.slide_layers import place_over
from napari_dala.results.report.ramps import PROBABILITY

if TYPE_CHECKING:
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.results.analysis import Analysis
    from napari_dala.results.comparison import ResultPair

FIRST_ONLY, SECOND_ONLY = (0.85, 0.0, 0.55, 1.0), (0.0, 0.45, 0.85, 1.0)
"""Colours of tiles that the first, or the second, alone calls of the class in question."""


class ComparisonLayers:
    """Lays the second probability and the disagreement over the first result, until `remove`.

    Parameters
    ----------
    session
        Of the viewer.
    first
        The result that is shown.
    second
        The other one.
    found
        Of the two.
    """

    def __init__(self, session: Session, first: ResultLayers, second: Analysis, found: ResultPair) -> None:
        self._session, self.first = session, first
        whose = f" · {first.slide_layer.name} · "
        of_target = np.where(second.judged, second.probability[second.card.target_class], np.nan).astype(np.float32)
        self.second = self._image(
            of_target,
            f"{found.target.capitalize()} probability{whose}{second.card.name}",
            colormap=Colormap(PROBABILITY.colors, name=PROBABILITY.name),
            contrast_limits=(0, 1),
            opacity=first.probability.opacity,
        )
        kinds = np.where(found.differs, np.where(found.called[0], 1, 2), 0).astype(np.float32)
        self.difference = self._image(
            kinds,
            f"Disagreement{whose}{first.analysis.card.name}, {second.card.name}",
            opacity=0.5,
            **look_of_kinds(FIRST_ONLY, SECOND_ONLY),
        )
        place_over(self.second, second.grid.tile_frame, first.slide_layer)
        place_over(self.difference, found.grid.tile_frame, first.slide_layer)
        self._curtains = Curtain(1), Curtain(-1)
        layers = session.viewer.layers
        selection = set(layers.selection)
        for layer in (self.second, self.difference):
            session.follow_slide(layer, first.slide_layer)
            layers.insert(layers.index(first.probability) + 1, layer)
        layers.selection = selection
        for curtain, layer in zip(self._curtains, (first.probability, self.second), strict=True):
            curtain.draw_in(session.viewer, layer)

    def hang(self, part: float) -> None:
        """Show the first result left of a part of the canvas' width (0 to 1), and the second right of it."""
        for curtain in self._curtains:
            curtain.draw_to(part)

    @property
    def is_whole(self) -> bool:
        """True while all layers are there."""
        return all(layer in self._session.viewer.layers for layer in (self.first.probability, self.second))

    def remove(self) -> None:
        """Take the layers away; the first result is whole again."""
        for curtain in self._curtains:
            curtain.end()
        for layer in (self.second, self.difference):
            if layer in self._session.viewer.layers:
                self._session.viewer.layers.remove(layer)

    def _image(self, data: Any, name: str, **look: Any) -> Image:
        fixed: dict[str, Any] = {"blending": "translucent", "rgb": False, "multiscale": False}
        return Image(data, name=without_tags(name), metadata={"dala_role": "comparison"}, **fixed, **look)
