"""A thin frame around one tile of a slide.

A Vectors layer of four sides: no tool draws in it, and, not being a Shapes layer, it is neither taken for an annotation
nor for a shape to analyse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Vectors

from napari_dala.plugin.viewer.slide_layers import to_world

if TYPE_CHECKING:
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_dala.plugin.viewer.session import Session

_WIDTH = 2.5  # px on the screen


class TileMark:
    """Marks one tile at a time.

    Parameters
    ----------
    session
        Of the viewer.
    name
        Of its layer.
    color
        As napari names it.
    """

    def __init__(self, session: Session, name: str, color: str) -> None:
        self._session, self._name, self._color = session, name, color
        self.layer: Vectors | None = None
        session.viewer.scene.camera.events.zoom.connect(self._keep_width)

    def show(self, slide_layer: Image, middle: tuple[float, float], tile: tuple[float, float]) -> None:
        """Frame a tile; what is selected stays so.

        Parameters
        ----------
        slide_layer
            The slide's.
        middle
            Of the tile (x, y), level-0 px.
        tile
            Width and height, level-0 px.
        """
        layers = self._session.viewer.layers
        across, down = np.array(tile) / 2
        corners = np.array(
            [
                to_world(slide_layer, middle[0] + across * x, middle[1] + down * y)
                for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
            ]
        )
        if self.layer is not None and self.layer in layers:
            self.layer.data = _sides(np.array([self.layer.world_to_data(corner) for corner in corners]))
            return
        self.layer = Vectors(
            _sides(corners), name=self._name, edge_color=self._color, vector_style="line", units=slide_layer.units
        )
        self._keep_width()
        self._session.follow_slide(self.layer, slide_layer)
        selection = set(layers.selection)
        layers.append(self.layer)
        layers.selection = selection  # adding selects what was added

    def _keep_width(self) -> None:
        """Keep the frame as wide on the screen, however near one looks."""
        if self.layer is not None:
            zoom = self._session.viewer.scene.camera.zoom
            self.layer.edge_width = _WIDTH / zoom / abs(float(self.layer.scale[-1]))

    def hide(self) -> None:
        """Take the frame away."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._session.viewer.layers:
            self._session.viewer.layers.remove(layer)


def _sides(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sides between corners (4, 2) as napari's vectors, start and way, (4, 2, 2)."""
    return np.stack((corners, np.roll(corners, -1, axis=0) - corners), axis=1)
