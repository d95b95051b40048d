"""The table of regions in the dock: found ones and drawn ones; a click flies there."""

from __future__ import annotations

import time
from copy import copy
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]
    QAbstractTableModel,
    QFileSystemWatcher,
    QModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import QSignalThrottler, create_worker

from napari_dala.annotations.files import annotations_path, load_for
from napari_dala.errors import DalaError
from napari_dala.plugin.parts.legend import swatch
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.plain_text import PlainLabel, plain_tip
from napari_dala.plugin.viewer.tile_mark import TileMark
from napari_dala.results.report.region_table import DrawnRegion, RegionRow, as_tab_text, region_rows
from napari_dala.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from qtpy.QtGui import QKeyEvent, QShowEvent

    from napari_dala.plugin.viewer.session import Session
    from napari_dala.results.analysis import Analysis

_SETTLED_MS = 500  # after which a change is followed
_REST = 9  # times as long as the last table took, between two tables of a map that grows: a tenth of a core
_ROWS_SHOWN = 8
_NO_CLASS = (128, 128, 128)
_TILES_AROUND = 6  # of a small region's surroundings, across
_HEADINGS = {
    "name": ("Region", "Class and number; those that you drew are in italics"),
    "area_mm2": ("mm²", "Area"),
    "mean": ("Mean", "Mean probability of {target}, over its judged tiles"),
    "highest": ("Max", "Highest probability of {target}"),
    "unfamiliar": ("Unf.", "Share of its tissue that is unlike what the model learned from"),
    "foci": ("Foci", "Separate places of {target} in it"),
}
"""Of the columns: what stands above, and what it means."""
_COLUMNS = tuple(_HEADINGS)


def regions_now(analysis: Analysis, fingerprint: str, workspace: Path | None) -> list[RegionRow]:
    """Return the rows of what was found and what is drawn and saved; a damaged file of drawn regions has none."""
    try:
        document = load_for(fingerprint, workspace)
    except DalaError:  # the dock that draws says so
        document = None
    drawn = []
    for one in () if document is None else document.annotations:
        info = document.class_named(one.class_name) if document else None
        drawn.append(DrawnRegion(one.class_name, info.color if info else _NO_CLASS, one.area))
    return region_rows(analysis, drawn)


class RegionModel(QAbstractTableModel):
    """Rows for a table view; values to sort by are in the role `UserRole`."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows: list[RegionRow] = []
        self.target = ""

    def show(self, rows: list[RegionRow], target: str) -> None:
        """Show other rows; `target` is the class that the probabilities are of."""
        self.beginResetModel()
        self.rows, self.target = rows, target
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: D102
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: D102
        return 0 if parent is not None and parent.isValid() else len(_COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: D102
        if orientation == Qt.Orientation.Vertical:
            return None
        heading, meaning = _HEADINGS[_COLUMNS[section]]
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(meaning.format(target=self.target))
        return heading if role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: QModelIndex, role: int = 0) -> Any:  # noqa: D102
        row, column = self.rows[index.row()], _COLUMNS[index.column()]
        value = getattr(row, column)
        if role == Qt.ItemDataRole.UserRole:
            return value.casefold() if column == "name" else -1.0 if value is None else value
        if role == Qt.ItemDataRole.DisplayRole:
            return _shown(column, value)
        if role == Qt.ItemDataRole.DecorationRole and column == "name":
            return swatch(row.color)
        if role == Qt.ItemDataRole.FontRole and row.is_drawn:
            font = QApplication.font()
            font.setItalic(True)
            return font
        if role == Qt.ItemDataRole.TextAlignmentRole and column != "name":
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.ToolTipRole and column == "name":
            return plain_tip(f"{row.name}, {'drawn' if row.is_drawn else 'found'}")
        return None


def _shown(column: str, value: Any) -> str:
    if column in ("name", "foci"):
        return str(value)
    if value is None:
        return "–"
    return f"{value:.3f}" if column == "area_mm2" else f"{value:.0%}"


class _RegionTable(QTableView):
    """A table whose rows are copied whole; Qt's own copies one cell."""

    copy_asked = Signal()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is not None and event.matches(QKeySequence.StandardKey.Copy):
            self.copy_asked.emit()
        else:
            super().keyPressEvent(event)


class RegionPanel(QWidget):
    """Regions of the slide in hand, read in a thread while the table is in sight.

    Parameters
    ----------
    session
        Of the viewer.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._is_busy = self._is_stale = False
        self._shown: tuple[object, ...] = ()  # what the rows were made of
        self._begun = 0.0
        self.model, self.sorted = RegionModel(self), QSortFilterProxyModel(self)
        self.sorted.setSourceModel(self.model)
        self.sorted.setSortRole(Qt.ItemDataRole.UserRole)
        self.view, self.count, self.copy_button = _RegionTable(), PlainLabel(), QPushButton("Copy")
        self.copy_button.setToolTip("Copy the chosen rows, or all, for a spreadsheet (Ctrl+C)")
        self._arrange()
        self._mark = TileMark(session, "Region", "black")
        self.view.clicked.connect(self._go)
        self.view.activated.connect(self._go)
        self.copy_button.clicked.connect(self.copy)
        self.view.copy_asked.connect(self.copy)
        self._watch = QFileSystemWatcher(self)
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(_SETTLED_MS)
        self._later.triggered.connect(self._read)
        self._watch.directoryChanged.connect(self.refresh)
        session.results_changed.connect(self.refresh)
        session.slides_changed.connect(self.refresh)

    def _arrange(self) -> None:
        view = self.view
        view.setModel(self.sorted)
        view.setSortingEnabled(True)
        view.sortByColumn(-1, Qt.SortOrder.AscendingOrder)  # as they come: drawn ones, then the largest of each class
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        view.setShowGrid(False)
        view.setWordWrap(False)
        view.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # the number stays
        rows, header = view.verticalHeader(), view.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        high = view.fontMetrics().height() + 6
        rows.setDefaultSectionSize(high)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        view.setMinimumHeight((_ROWS_SHOWN + 1) * high + 8)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(10)
        header.setTextElideMode(Qt.TextElideMode.ElideNone)
        view.setStyleSheet("QHeaderView::section { padding: 2px; }")
        for column, name in enumerate(_COLUMNS[1:], 1):
            widest = {"area_mm2": "00.000", "foci": "Foci"}.get(name, "100%")
            header.resizeSection(column, view.fontMetrics().horizontalAdvance(widest) + 10)
        below = QHBoxLayout()
        below.addWidget(self.count, 1)
        below.addWidget(self.copy_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(view)
        layout.addLayout(below)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: D102
        super().showEvent(event)
        self.refresh()

    def refresh(self) -> None:
        """Read the regions again soon, where they are in sight."""
        if self._session.results is None:
            self.model.show([], "")
            self.count.setText("")
            self._shown = ()
            self._mark.hide()
        elif self.isVisible():
            self._later.throttle()

    def _read(self) -> None:
        results, slide = self._session.results, self._session.open_slide()
        if results is None or slide is None:
            return
        analysis, workspace = results.analysis, load_preferences().workspace
        path = annotations_path(slide.fingerprint, workspace)
        drawn = path.stat().st_mtime_ns if path.exists() else None
        made_of = (analysis, analysis.threshold, analysis.doubt, int(analysis.analysed.sum()), drawn)
        self._is_stale = self._is_busy
        if self._is_busy or made_of == self._shown:
            return
        self._is_busy, self._shown, self._begun = True, made_of, time.perf_counter()
        folder = str(path.parent)
        watched = self._watch.directories()
        if watched != [folder]:
            if watched:
                self._watch.removePaths(watched)
            self._watch.addPath(folder)
        create_worker(
            regions_now,
            copy(analysis),  # at the threshold that is set now
            slide.fingerprint,
            workspace,
            _connect={
                "returned": lambda rows: self._show(rows, analysis),
                "finished": self._on_read,
            },
        )

    def _show(self, rows: list[RegionRow], analysis: Analysis) -> None:
        results = self._session.results
        if results is None or results.analysis is not analysis:
            return  # another one's
        if rows != self.model.rows:
            self.model.show(rows, analysis.card.class_names[analysis.card.target_class])
        drawn = sum(row.is_drawn for row in rows)
        self.count.setText(f"{len(rows) - drawn} found" + (f", {drawn} drawn (in italics)" if drawn else ""))

    def _on_read(self) -> None:
        self._is_busy = False
        is_running = any(run.layer is self._session.layer for run in self._session.runs)
        rest_ms = 1000 * _REST * (time.perf_counter() - self._begun) if is_running else 0
        self._later.setTimeout(max(_SETTLED_MS, round(rest_ms)))
        if self._is_stale:
            self._later.throttle()

    @property
    def rows(self) -> list[RegionRow]:
        """All rows, as they are sorted."""
        return [self._row_at(self.sorted.index(row, 0)) for row in range(self.sorted.rowCount())]

    def _row_at(self, index: QModelIndex) -> RegionRow:
        return self.model.rows[self.sorted.mapToSource(index).row()]

    def _go(self, index: QModelIndex) -> None:
        results, row = self._session.results, self._row_at(index)
        if results is None:
            return
        left, top, right, bottom = row.bounds
        tile = results.analysis.grid.tile_size
        self._session.show_box(row.bounds, (tile[0] * _TILES_AROUND, tile[1] * _TILES_AROUND))
        middle = ((left + right) / 2, (top + bottom) / 2)
        self._mark.show(results.slide_layer, middle, (right - left, bottom - top))

    def copy(self) -> None:
        """Put the chosen rows on the clipboard, all where none is chosen."""
        selection = self.view.selectionModel()
        chosen = [] if selection is None else sorted(selection.selectedRows(), key=lambda index: index.row())
        rows = [self._row_at(index) for index in chosen] or self.rows
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(as_tab_text(rows, self.model.target))
            self.count.setText(f"{counted(len(rows), 'region')} copied")
