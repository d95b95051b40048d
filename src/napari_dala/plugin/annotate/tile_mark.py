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
    from napari_dala.results.analysis import Spot

NAME = "Next to label"
_COLOR = "cyan"  # of no tissue, stain or class
_WIDTH = 1 / 50  # of the tile's side


class TileMark:
    """Marks one tile at a time.

    Parameters
    ----------
    session
        Of the viewer.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.layer: Vectors | None = None

    def show(self, slide_layer: Image, spot: Spot, tile: tuple[float, float]) -> None:
        """Frame the tile around a spot; what is selected stays so.

        Parameters
        ----------
        slide_layer
            The spot's slide.
        spot
            Its centre counts.
        tile
            Width and height, level-0 px.
        """
        layers = self._session.viewer.layers
        across, down = np.array(tile) / 2
        corners = np.array(
            [
                to_world(slide_layer, spot.x + across * x, spot.y + down * y)
                for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
            ]
        )
        if self.layer is not None and self.layer in layers:
            self.layer.data = _sides(np.array([self.layer.world_to_data(corner) for corner in corners]))
            return
        sides = _sides(corners)
        width = float(np.linalg.norm(sides[:, 1], axis=1).min()) * _WIDTH
        self.layer = Vectors(
            sides, name=NAME, edge_width=width, edge_color=_COLOR, vector_style="line", units=slide_layer.units
        )
        self._session.follow_slide(self.layer, slide_layer)
        selection = set(layers.selection)
        layers.append(self.layer)
        layers.selection = selection  # adding selects what was added

    def hide(self) -> None:
        """Take the frame away."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._session.viewer.layers:
            self._session.viewer.layers.remove(layer)


def _sides(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sides between corners (4, 2) as napari's vectors, start and way, (4, 2, 2)."""
    return np.stack((corners, np.roll(corners, -1, axis=0) - corners), axis=1)
