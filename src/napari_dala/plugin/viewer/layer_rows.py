"""Which layers napari's list shows: what gives way to a preview is not listed twice.

The layers stay where they are, hidden: taking images out of a napari that draws on the processor may crash it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari.components import ViewerModel
    from napari.layers import Layer


def list_all_but(viewer: ViewerModel, aside: Collection[Layer]) -> None:
    """Leave layers out of the list; without a window, or in a napari whose list is another, nothing happens."""
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
