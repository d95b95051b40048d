"""Where napari has no public way: its list of layers, and what draws a layer.

A napari that is built otherwise, or has no window, loses what is done here and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari.components import ViewerModel
    from napari.layers import Layer
    from vispy.scene import VisualNode


def list_all_but(viewer: ViewerModel, aside: Collection[Layer]) -> None:
    """Leave layers out of the list, which stay where they are: what gives way to a preview is not listed twice.

    Taking images out of a napari that draws on the processor may crash it.
    """
    window = getattr(viewer, "window", None)
    try:
        view = window._qt_viewer.layers  # type: ignore[union-attr]
        model, is_hidden, hide = view.model(), view.isRowHidden, view.setRowHidden
    except AttributeError:
        return
    for row in range(model.rowCount()):
        wanted = model.index(row, 0).data(Qt.ItemDataRole.UserRole) in aside
        if is_hidden(row) != wanted:
            hide(row, wanted)


def node_of(viewer: ViewerModel, layer: Layer) -> VisualNode | None:
    """Return what draws a layer, or None."""
    try:
        return viewer.window._qt_viewer.canvas.layer_to_visual[layer].node
    except (AttributeError, KeyError):
        return None


def flat_node_of(viewer: ViewerModel, layer: Layer) -> VisualNode | None:
    """Return the flat picture that shows an image layer; None in 3D too, and where it is in pieces."""
    node = node_of(viewer, layer)
    return node if hasattr(node, "_subdiv_texcoord") else None
