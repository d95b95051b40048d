"""Cells of a table that is a layout of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qtpy.QtWidgets import QLayout


def drop_cells(table: QLayout, keep: int = 0) -> None:
    """Take all but the first `keep` widgets out of a layout, and delete them."""
    while table.count() > keep:
        item = table.takeAt(table.count() - 1)
        if item and (widget := item.widget()):
            widget.hide()  # until Qt deletes it, it would lie over the others
            widget.deleteLater()
