"""A stroke while the mouse makes it: its area so far, shown over the slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from vispy.color import Color
from vispy.scene.visuals import Mesh

from napari_dala.annotations.paint.strokes import Stroke, swept
from napari_dala.plugin.viewer.inside_napari import node_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Shapes
    from numpy.typing import NDArray

    from napari_dala.annotations.document import Area

_FACE = 0.45  # opacity
_ERASED = (1.0, 1.0, 1.0, 0.6)


class StrokeInMaking:
    """What a round tool has gone over since the button was pressed.

    Parameters
    ----------
    viewer
        Where it is made.
    layer
        Of annotations: its data are level-0 px (y, x); its colour is the stroke's.
    size
        Diameter of the tool, screen px.
    erases
        It takes away.

    Attributes
    ----------
    pixel
        Side of a pixel on the screen, in the world's units.
    radius
        Of the tool, in the world's units.
    is_whole
        The button was released.
    """

    def __init__(self, viewer: ViewerModel, layer: Shapes, size: float, *, erases: bool) -> None:
        self.pixel = 1 / viewer.scene.camera.zoom
        self.radius = size / 2 * self.pixel
        self.is_whole = False
        self._erases = erases
        self._area: Area = shapely.Polygon()
        self._last: Sequence[float] | None = None
        corner, down, right = (np.array(layer.world_to_data(at)) for at in ((0, 0), (1, 0), (0, 1)))
        self._corner, self._steps = corner, np.array([down - corner, right - corner])
        self._mesh = _mesh_over(viewer, layer)
        self._color = _ERASED if erases else Color(layer.current_edge_color, _FACE).rgba

    @property
    def made(self) -> Stroke:
        """The stroke."""
        radius = self.radius * float(np.sqrt(abs(np.linalg.det(self._steps))))
        return Stroke(self._area, radius, self._erases)

    def sweep_to(self, position: Sequence[float]) -> None:
        """Move a round brush to a world position (..., y, x)."""
        if position != self._last:
            way = [at[-2:] for at in (self._last, position) if at is not None]
            self._last = position
            self.add(shapely.transform(swept(way, self.radius), self._to_level_0))

    def add(self, area: Area) -> None:
        """Add an area, level-0 px."""
        self._area = self._area.union(area)
        if self._mesh is not None and not self._area.is_empty:
            triangles = shapely.get_coordinates(shapely.constrained_delaunay_triangles(self._area)).reshape(-1, 4, 2)
            corners = triangles[:, :3].reshape(-1, 2).astype(np.float32)
            self._mesh.set_data(corners, np.arange(len(corners)).reshape(-1, 3), color=self._color)

    def hide(self) -> None:
        """Show it no longer."""
        if self._mesh is not None:
            self._mesh.parent = None

    def _to_level_0(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return world positions (y, x) as level-0 px (x, y), (n, 2) each."""
        places: NDArray[np.float64] = self._corner + points @ self._steps
        return places[:, ::-1]


def _mesh_over(viewer: ViewerModel, layer: Shapes) -> Any:
    """Return a mesh that is drawn with a layer, in its data coordinates; None without a window."""
    node = node_of(viewer, layer)
    if node is None:
        return None
    mesh = Mesh(parent=node)
    mesh.set_gl_state("translucent", depth_test=False, cull_face=False)
    return mesh
