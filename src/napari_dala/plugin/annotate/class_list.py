"""The list of classes to draw: digit key, colour, name, and whether such regions are ignored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_dala.annotations.document import AnnotationClass, digits_of
from napari_dala.model.class_colors import PALETTE
from napari_dala.plugin.parts.legend import swatch
from napari_dala.plugin.parts.notes import Note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QShowEvent

    from napari_dala.annotations.document import Color
    from napari_dala.plugin.annotate.drawing import Drawing

KEY, COLOR, NAME, IGNORED = range(4)
_HEADINGS = ("Key", "", "Class", "Ignore")
_ROWS = (3, 7)  # at least and at most that many without scrolling
_SWATCH = 16  # px


class ClassList(QWidget):
    """Shows and changes the classes of the current slide's document; the selected row is the class to draw with.

    Parameters
    ----------
    drawing
        Of the session.
    """

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self._drawing = drawing
        self._classes: tuple[AnnotationClass, ...] | None = None
        self.table = QTableWidget(0, len(_HEADINGS))
        self.add_button, self.remove_button = QPushButton("Add class"), QPushButton("Remove class")
        self.problem = Note("warning")
        self._arrange()
        self.table.itemChanged.connect(self._on_item)
        self.table.cellClicked.connect(self._on_click)
        self.table.currentCellChanged.connect(self._on_row)
        self.add_button.clicked.connect(self.add)
        self.remove_button.clicked.connect(self.remove)
        drawing.changed.connect(self.refresh)
        drawing.class_changed.connect(self._show_chosen)
        self.refresh()

    def _arrange(self) -> None:
        table = self.table
        table.setHorizontalHeaderLabels(_HEADINGS)
        table.verticalHeader().hide()  # type: ignore[union-attr]
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        table.setShowGrid(False)
        table.setIconSize(QSize(_SWATCH, _SWATCH))
        table.setToolTip("Click the colour to change it, double-click the name to rename the class")
        header = table.horizontalHeader()
        assert header is not None
        for column in (KEY, COLOR, IGNORED):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        buttons = QHBoxLayout()
        buttons.addWidget(self.add_button)
        buttons.addWidget(self.remove_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(table)
        layout.addWidget(self.problem)
        layout.addLayout(buttons)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: D102
        super().showEvent(event)
        self._fit_height()  # the theme's sizes are known now

    @property
    def chosen(self) -> AnnotationClass | None:
        """The class of the selected row."""
        row = self.table.currentRow()
        return self._classes[row] if self._classes and 0 <= row < len(self._classes) else None

    def refresh(self) -> None:
        """Show the classes of the current document."""
        document = self._drawing.document
        classes = document.classes if document else ()
        self.add_button.setEnabled(document is not None)
        if classes != self._classes:
            self._classes = classes
            self._fill(classes)
        self._show_chosen()

    def add(self) -> None:
        """Add a class and let its name be typed."""
        document = self._drawing.document
        if document is None:
            return
        taken = {info.name.casefold() for info in document.classes}
        number = next(n for n in range(len(taken) + 1, 2 * len(taken) + 2) if f"class {n}" not in taken)
        info = AnnotationClass(f"Class {number}", _next_color(document.classes))
        # Before those to ignore, so that what is learnt has the first keys.
        place = next((index for index, other in enumerate(document.classes) if other.ignore), len(document.classes))
        self._change((*document.classes[:place], info, *document.classes[place:]))
        self._drawing.choose_class(info.name)
        self.table.editItem(self._item(place, NAME))

    def remove(self) -> None:
        """Remove the selected class, which nothing is drawn with."""
        document, chosen = self._drawing.document, self.chosen
        if document is not None and chosen is not None and self._is_unused(chosen):
            self._change(tuple(info for info in document.classes if info is not chosen))

    def recolor(self, info: AnnotationClass, color: Color) -> None:
        """Give a class another colour, in the list and on the slide."""
        self._replace(info, replace(info, color=color))

    def _fill(self, classes: Sequence[AnnotationClass]) -> None:
        with signals_blocked(self.table):
            for row in range(self.table.rowCount(), len(classes)):
                self._add_row(row)
            self.table.setRowCount(len(classes))
            for row, info in enumerate(classes):
                self._item(row, KEY).setText("/".join(map(str, digits_of(classes, info))))
                self._item(row, COLOR).setIcon(QIcon(swatch(info.color, _SWATCH)))
                self._item(row, NAME).setText(info.name)
                tick = Qt.CheckState.Checked if info.ignore else Qt.CheckState.Unchecked
                self._item(row, IGNORED).setCheckState(tick)
        self._fit_height()

    def _fit_height(self) -> None:
        header = self.table.horizontalHeader()
        assert header is not None
        rows = min(max(self.table.rowCount(), _ROWS[0]), _ROWS[1])
        frame = 2 * self.table.frameWidth() + 2
        self.table.setFixedHeight(header.sizeHint().height() + rows * self.table.rowHeight(0) + frame)

    def _add_row(self, row: int) -> None:
        self.table.insertRow(row)
        for column in range(len(_HEADINGS)):
            item = QTableWidgetItem()
            if column != NAME:
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            if column == KEY:
                item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            if column == IGNORED:
                item.setToolTip("Tiles of these regions are kept out of training: folds, pen, blur")
            self.table.setItem(row, column, item)

    def _item(self, row: int, column: int) -> QTableWidgetItem:
        item = self.table.item(row, column)
        assert item is not None
        return item

    def _show_chosen(self) -> None:
        names = [info.name for info in self._classes or ()]
        name = self._drawing.class_name
        with signals_blocked(self.table):
            self.table.selectRow(names.index(name)) if name in names else self.table.clearSelection()
        self.remove_button.setEnabled(self.chosen is not None and self._is_unused(self.chosen))

    def _is_unused(self, info: AnnotationClass) -> bool:
        document = self._drawing.document
        return document is not None and all(item.class_name != info.name for item in document.annotations)

    def _on_row(self, row: int) -> None:
        if self._classes and 0 <= row < len(self._classes):
            self.problem.say("")
            self._drawing.choose_class(self._classes[row].name)

    def _on_click(self, row: int, column: int) -> None:
        self._on_row(row)
        if column == COLOR and (info := self.chosen) is not None:
            color = QColorDialog.getColor(QColor(*info.color), self, f"Colour of {info.name}")
            if color.isValid():
                self.recolor(info, (color.red(), color.green(), color.blue()))

    def _on_item(self, item: QTableWidgetItem) -> None:
        """Take a new name or a tick."""
        if not self._classes:
            return
        info = self._classes[item.row()]
        if item.column() == IGNORED:
            self._replace(info, replace(info, ignore=item.checkState() == Qt.CheckState.Checked))
        elif item.column() == NAME:
            self._rename(info, item.text().strip())

    def _rename(self, info: AnnotationClass, name: str) -> None:
        taken = any(name.casefold() == other.name.casefold() for other in self._classes or () if other is not info)
        self.problem.say(f"There is a class {name} already." if taken else "")
        if name and not taken:
            self._drawing.rename_class(info.name, name)
        self._fill(self._classes or ())  # the table shows what was typed

    def _replace(self, old: AnnotationClass, new: AnnotationClass) -> None:
        document = self._drawing.document
        if document is not None and new != old:
            self._change(tuple(new if info is old else info for info in document.classes))

    def _change(self, classes: tuple[AnnotationClass, ...]) -> None:
        document = self._drawing.document
        if document is not None:
            self._drawing.edit(replace(document, classes=classes))


def _next_color(classes: Sequence[AnnotationClass]) -> Color:
    """Return the colour of the palette that is used least."""
    used = [info.color for info in classes]
    return min(PALETTE, key=used.count)
