"""The table of slides as Qt shows it: rows and columns of `annotations.slide_table`, sorted and filtered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, QSortFilterProxyModel, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QFont, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLineEdit, QStyledItemDelegate, QTableView, QWidget
from superqt.utils import QSignalDebouncer

from napari_dala.annotations.slide_table import SlideRow, State, columns
from napari_dala.plugin.viewer.plain_text import plain_tip
from napari_dala.slide.thumbnail import kept_thumbnail

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from napari_dala.model.card import ModelCard
    from napari_dala.plugin.viewer.ticks import Ticks

    Index = QModelIndex

_PICTURE_PX = 40
_NAME_WIDTH, _STATE_WIDTH, _WIDEST, _AROUND = 126, 90, 150, 4  # px; the first two at least, the third at most
_SETTLED_MS = 200  # after the last new row
# napari's themes draw a box that is not ticked in the table's own colour.
_EMPTY_BOX = "QTableView::indicator:unchecked { border: 1px solid #808080; background: transparent; }"
_Role = Qt.ItemDataRole


class SlideModel(QAbstractTableModel):
    """Rows as they were read; the name has a tick and the slide's picture, some cells can be typed into.

    Parameters
    ----------
    ticks
        Of the session.
    """

    edited = Signal(object, str, str)
    """Of this `SlideRow` something ("patient", "mpp", "remark") is to be another text."""

    def __init__(self, ticks: Ticks) -> None:
        super().__init__()
        self._ticks = ticks
        self.columns = columns(None)
        self.rows: list[SlideRow] = []
        self._places: dict[str, int] = {}
        self._pictures: dict[str, QIcon] = {}
        self._states: dict[str, str] = {}
        self._in_hand: str | None = None
        ticks.changed.connect(self._show_ticks)

    # What is shown

    def show_card(self, card: ModelCard | None) -> None:
        """Have columns for the classes of a model; what the rows say of another one's results goes."""
        self.beginResetModel()
        self.rows = [replace(row, state=State.UNREAD, summary=None, about="") for row in self.rows]
        self.columns = columns(card)
        self.endResetModel()

    def put(self, row: SlideRow) -> None:
        """Add a row, or put it in place of the slide's row of before."""
        fingerprint = row.slide.fingerprint
        place = self._places.get(fingerprint)
        if place is None:
            place = self._places[fingerprint] = len(self.rows)
            self.beginInsertRows(QModelIndex(), place, place)
            self.rows.append(row)
            self.endInsertRows()
        else:
            self.rows[place] = row
            self._refresh(fingerprint)

    def keep(self, fingerprints: Collection[str]) -> None:
        """Drop the rows of all other slides."""
        if any(fingerprint not in fingerprints for fingerprint in self._places):
            self.beginResetModel()
            self.rows = [row for row in self.rows if row.slide.fingerprint in fingerprints]
            self._places = {row.slide.fingerprint: place for place, row in enumerate(self.rows)}
            self.endResetModel()

    def row_of(self, fingerprint: str) -> SlideRow | None:
        """Return a slide's row, None where it is not in the list."""
        place = self._places.get(fingerprint)
        return None if place is None else self.rows[place]

    def say_states(self, states: dict[str, str]) -> None:
        """Say how far some slides are, by fingerprint, in place of what their rows say."""
        changed = {fingerprint for fingerprint, _ in states.items() ^ self._states.items()}
        self._states = states
        self._refresh(*changed)

    def take_in_hand(self, fingerprint: str | None) -> None:
        """Let the slide that is open stand out."""
        before, self._in_hand = self._in_hand, fingerprint
        if fingerprint != before:
            self._refresh(before, fingerprint)

    def _refresh(self, *fingerprints: str | None) -> None:
        for place in (self._places[one] for one in fingerprints if one in self._places):
            self.dataChanged.emit(self.index(place, 0), self.index(place, len(self.columns) - 1))

    def _show_ticks(self) -> None:
        if self.rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.rows) - 1, 0), [_Role.CheckStateRole])

    # What Qt asks

    def rowCount(self, parent: Index | None = None) -> int:  # noqa: D102
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index | None = None) -> int:  # noqa: D102
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = _Role.DisplayRole) -> Any:  # noqa: D102
        if orientation is Qt.Orientation.Vertical or section >= len(self.columns):
            return None
        column = self.columns[section]
        return {_Role.DisplayRole: column.title, _Role.ToolTipRole: column.tip or None}.get(role)  # type: ignore[call-overload]

    def flags(self, index: Index) -> Qt.ItemFlag:  # noqa: D102
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if index.column() == 0:
            flags |= Qt.ItemFlag.ItemIsUserCheckable
        if self.columns[index.column()].edits:
            flags |= Qt.ItemFlag.ItemIsEditable
        return flags

    def data(self, index: Index, role: int = _Role.DisplayRole) -> Any:  # noqa: D102
        row, column = self.rows[index.row()], self.columns[index.column()]
        is_name = index.column() == 0
        match role:
            case _Role.DisplayRole | _Role.EditRole:
                return self.text(row, index.column())
            case _Role.CheckStateRole if is_name:
                return Qt.CheckState.Checked if row.slide.fingerprint in self._ticks else Qt.CheckState.Unchecked
            case _Role.DecorationRole if is_name:
                return self._picture(row.slide.pixels_id)
            case _Role.ToolTipRole:
                said = "\n".join(part for part in (self.text(row, index.column()), row.about) if part)
                return plain_tip(said) if said else None
            case _Role.TextAlignmentRole if column.is_number:
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            case _Role.FontRole if row.slide.fingerprint == self._in_hand or row.is_missing:
                font = QFont()
                font.setBold(row.slide.fingerprint == self._in_hand)
                font.setItalic(row.is_missing)
                return font
        return None

    def setData(self, index: Index, value: Any, role: int = _Role.EditRole) -> bool:  # noqa: D102
        row, column = self.rows[index.row()], self.columns[index.column()]
        if role == _Role.CheckStateRole:
            self._ticks.tick(row.slide.fingerprint, Qt.CheckState(value) == Qt.CheckState.Checked)
        elif role == _Role.EditRole and column.edits and str(value).strip() != column.shown(row):
            self.edited.emit(row, column.edits, str(value).strip())
        return True

    def text(self, row: SlideRow, column: int) -> str:
        """Return what stands in a cell."""
        if column == 1 and (said := self._states.get(row.slide.fingerprint)):
            return said
        return self.columns[column].shown(row)

    def _picture(self, pixels_id: str) -> QIcon | None:
        if pixels_id not in self._pictures and (path := kept_thumbnail(pixels_id)):
            self._pictures[pixels_id] = QIcon(QPixmap(str(path)))
        return self._pictures.get(pixels_id)


class SlideOrder(QSortFilterProxyModel):
    """The rows that hold a text anywhere, sorted by the column whose heading was clicked."""

    def __init__(self, model: SlideModel) -> None:
        super().__init__()
        self._model, self._wanted = model, ""
        self.setSourceModel(model)
        self.sort(0)

    def search(self, text: str) -> None:
        """Show only the slides of which some cell holds every word of a text."""
        self._wanted = text.casefold()
        self.invalidateFilter()

    @property
    def rows(self) -> list[SlideRow]:
        """What is shown, in this order."""
        return [self.row_at(place) for place in range(self.rowCount())]

    def row_at(self, place: int) -> SlideRow:
        """Return the row that is shown at a place."""
        return self._model.rows[self.mapToSource(self.index(place, 0)).row()]

    def filterAcceptsRow(self, place: int, parent: Index) -> bool:  # noqa: D102
        row = self._model.rows[place]
        cells = "\n".join(self._model.text(row, column) for column in range(len(self._model.columns))).casefold()
        return all(word in cells for word in self._wanted.split())

    def lessThan(self, left: Index, right: Index) -> bool:  # noqa: D102
        column = self._model.columns[left.column()]
        backwards = self.sortOrder() is Qt.SortOrder.DescendingOrder
        one, other = (self._model.rows[index.row()] for index in (left, right))
        return bool(column.order(one, backwards) < column.order(other, backwards))


class _Field(QStyledItemDelegate):
    """Leaves what is being typed alone when the row is read anew meanwhile."""

    def setEditorData(self, editor: QWidget | None, index: Index) -> None:
        if not (isinstance(editor, QLineEdit) and editor.isModified()):
            super().setEditorData(editor, index)


class SlideTable(QTableView):
    """The table; columns can be moved, and left out by their headings' menu."""

    def __init__(self, order: SlideOrder) -> None:
        super().__init__()
        self.setModel(order)
        self.setItemDelegate(_Field(self))
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setIconSize(QSize(_PICTURE_PX, _PICTURE_PX))
        self.setWordWrap(False)
        self.setShowGrid(False)
        self.setStyleSheet(_EMPTY_BOX)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.verticalHeader().hide()  # type: ignore[union-attr]
        self.verticalHeader().setDefaultSectionSize(_PICTURE_PX + 4)  # type: ignore[union-attr]
        header: QHeaderView = self.horizontalHeader()  # type: ignore[assignment]
        header.setSectionsMovable(True)
        header.setHighlightSections(False)
        self.fit()
        self._new_rows = QSignalDebouncer(parent=self)
        self._new_rows.setTimeout(_SETTLED_MS)
        self._new_rows.triggered.connect(self.fit)
        slides = order.sourceModel()
        assert slides is not None
        slides.rowsInserted.connect(self._new_rows.throttle)
        slides.modelReset.connect(self._new_rows.throttle)

    def fit(self) -> None:
        """Give each column the room that its heading and its cells need, within reason.

        A long name gets what status and the first share leave of the dock's width.
        """
        self.resizeColumnsToContents()
        for column in range(1, self.model().columnCount()):  # type: ignore[union-attr]
            self.setColumnWidth(column, min(_WIDEST, self.columnWidth(column) + _AROUND))
        self.setColumnWidth(1, max(_STATE_WIDTH, self.columnWidth(1)))
        room = self.viewport().width() - self.columnWidth(1) - self.columnWidth(2)  # type: ignore[union-attr]
        self.setColumnWidth(0, max(_NAME_WIDTH, min(self.columnWidth(0), room)))

    def selected(self) -> Iterable[int]:
        """Return the places of the rows that are selected."""
        return sorted(index.row() for index in self.selectionModel().selectedRows())  # type: ignore[union-attr]
