"""Tiles as a grid of thumbnails; of thousands only those that are seen are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import (  # type: ignore[attr-defined]
    QAbstractListModel,
    QLineF,
    QModelIndex,
    QPersistentModelIndex,
    QRect,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPalette, QPen
from qtpy.QtWidgets import QAbstractItemView, QListView, QStyle, QStyledItemDelegate

from napari_dala.plugin.viewer.plain_text import plain_tip
from napari_dala.results.report.tile_sheet import ink_on
from napari_dala.results.tile_lists import GREY, verdict_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from qtpy.QtGui import QPainter, QResizeEvent
    from qtpy.QtWidgets import QStyleOptionViewItem

    from napari_dala.plugin.review.tile_pictures import TilePictures
    from napari_dala.results.analysis import Analysis
    from napari_dala.results.tile_lists import Opinion, Verdict

    Index = QModelIndex | QPersistentModelIndex
    Color = tuple[int, int, int]

_NO_TILES = np.empty((0, 2), np.intp)
USUAL_SIDE = 96  # px of a picture at first, about: it fills the width
_MARGIN, _FRAME = 4, 3  # px
_SMALLER = 0.85  # of the usual font
_CHOSEN = QColor("#2a6fb5")  # as the tools have it; to be seen in a dark and a light theme


class TileModel(QAbstractListModel):
    """The tiles of a list, with what is said of each.

    Parameters
    ----------
    pictures
        Where their pictures come from.

    Attributes
    ----------
    pictures
        As given.
    tiles
        (n, 2) row and column.
    other
        What another model says of them, or None.
    """

    def __init__(self, pictures: TilePictures) -> None:
        super().__init__()
        self.pictures, self.tiles = pictures, _NO_TILES
        self.other: Opinion | None = None
        self._analysis: Analysis | None = None
        self._opinion: Opinion | None = None
        self._class_index: int | None = None
        self._classes: Sequence[tuple[str, Color]] = ()
        self._labels: NDArray[np.integer] | None = None
        self._place: dict[tuple[int, int], int] = {}
        pictures.came.connect(self._on_picture)

    def show(
        self,
        tiles: NDArray[np.intp],
        analysis: Analysis | None = None,
        opinion: Opinion | None = None,
        *,
        class_index: int | None = None,
        other: Opinion | None = None,
    ) -> None:
        """Show other tiles; of none for an empty list.

        Parameters
        ----------
        tiles
            (n, 2) row and column.
        analysis, opinion
            The model's results, and what it says of the tiles.
        class_index
            The class whose probability is said; by default the one that a tile is called.
        other
            What another model says.
        """
        self.beginResetModel()
        self.tiles, self.other = tiles, other
        self._analysis, self._opinion, self._class_index = analysis, opinion, class_index
        self._place = {(row, column): number for number, (row, column) in enumerate(tiles.tolist())}
        self.endResetModel()

    def set_labels(self, labels: NDArray[np.integer] | None, classes: Sequence[tuple[str, Color]]) -> None:
        """Show which class each tile was given: (rows, columns) indices into `classes`, -1 for none."""
        self._labels, self._classes = labels, classes
        if len(self.tiles):
            self.dataChanged.emit(self.index(0), self.index(len(self.tiles) - 1))

    def tile(self, number: int) -> tuple[int, int]:
        """Return row and column of a tile in the list."""
        return int(self.tiles[number, 0]), int(self.tiles[number, 1])

    def place_of(self, tile: tuple[int, int]) -> int | None:
        """Return the number in the list of a tile (row, column); None where it is not in it."""
        return self._place.get(tile)

    def verdict(self, number: int) -> Verdict:
        """Return what the model says of a tile in the list."""
        assert self._analysis is not None
        assert self._opinion is not None
        return verdict_on(self._analysis, self._opinion, *self.tile(number), self._class_index)

    def label(self, number: int) -> tuple[str, Color] | None:
        """Return name and colour of the class that a tile in the list was given, or None."""
        found = -1 if self._labels is None else int(self._labels[self.tile(number)])
        return None if found < 0 else self._classes[found]

    def rowCount(self, parent: Index | None = None) -> int:  # noqa: D102
        return 0 if parent is not None and parent.isValid() else len(self.tiles)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102
        number = index.row()
        if role == Qt.ItemDataRole.DecorationRole:
            return self.pictures.picture(self.tile(number))
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return self.verdict(number).text
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(self._tip(number))
        return None

    def _tip(self, number: int) -> str:
        verdict, label, (row, column) = self.verdict(number), self.label(number), self.tile(number)
        parts = [verdict.text, *([verdict.mark] if verdict.mark else [])]
        if self.other is not None:
            parts.append(f"{self.other.model}: {self.other.says(row, column)}")
        parts.append(f"labelled {label[0]}" if label else "no label")
        return f"{' · '.join(parts)} · row {row + 1}, column {column + 1}"

    def _on_picture(self, tile: tuple[int, int]) -> None:
        if (number := self.place_of(tile)) is not None:
            at = self.index(number)
            self.dataChanged.emit(at, at, [Qt.ItemDataRole.DecorationRole])


class TileDelegate(QStyledItemDelegate):
    """Draws a tile: its picture in a frame of its class' colour, its label across the foot, its probability below."""

    def __init__(self) -> None:
        super().__init__()
        self.side = USUAL_SIDE

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: D102
        model = index.model()
        lines = 2 if isinstance(model, TileModel) and model.other is not None else 1
        height = QFontMetrics(_small(option.font)).height()
        return QSize(self.side + 2 * _MARGIN, self.side + 2 * _MARGIN + lines * height)

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: Index) -> None:  # noqa: D102
        model = index.model()
        if painter is None or not isinstance(model, TileModel):
            return
        verdict, label = model.verdict(index.row()), model.label(index.row())
        is_selected = bool(option.state & QStyle.StateFlag.State_Selected)
        picture = QRect(option.rect.left() + _MARGIN, option.rect.top() + _MARGIN, self.side, self.side)
        painter.save()
        painter.setFont(_small(option.font))
        if is_selected:
            painter.fillRect(option.rect, _CHOSEN)
        ink = QColor("white") if is_selected else option.palette.color(QPalette.ColorRole.Text)
        pixmap = model.data(index, Qt.ItemDataRole.DecorationRole)
        if pixmap is None or pixmap.isNull():
            painter.fillRect(picture, QColor(128, 128, 128, 60))
        else:
            painter.drawPixmap(picture, pixmap)
        line = painter.fontMetrics().height()
        if verdict.mark:
            painter.setPen(QPen(QColor(255, 255, 255, 170), 1.5))
            for diagonal in _diagonals(picture):
                painter.drawLine(diagonal)
            _strip(painter, QRect(picture.left(), picture.top(), self.side, line + _FRAME), verdict.mark, GREY)
        painter.setPen(QPen(QColor(*verdict.color), _FRAME))
        painter.drawRect(picture.adjusted(1, 1, -2, -2))
        if label is not None:
            high = line + _FRAME
            _strip(painter, QRect(picture.left(), picture.bottom() + 1 - high, self.side, high), *label)
        painter.setPen(ink)
        if pixmap is not None and pixmap.isNull():
            _write(painter, picture, "cannot be read")
        below = QRect(option.rect.left() + 2, picture.bottom() + 3, option.rect.width() - 2, line)
        _write(painter, below, verdict.text)
        if model.other is not None:
            _write(painter, below.translated(0, line), model.other.says(*model.tile(index.row())))
        painter.restore()


def _strip(painter: QPainter, place: QRect, text: str, color: Color) -> None:
    painter.fillRect(place, QColor(*color))
    painter.setPen(QColor(*ink_on(color)))
    _write(painter, place.adjusted(_FRAME + 1, 0, -_FRAME, 0), text)


def _write(painter: QPainter, place: QRect, text: str) -> None:
    """Write one line, with less of its middle where it is too long: its end is the probability."""
    shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideMiddle, place.width())
    painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, shown)


def _small(font: QFont) -> QFont:
    """Return a font somewhat smaller, so that a class and its probability fit below a picture."""
    small = QFont(font)
    if font.pointSizeF() > 0:
        small.setPointSizeF(font.pointSizeF() * _SMALLER)
    else:
        small.setPixelSize(round(font.pixelSize() * _SMALLER))
    return small


def _diagonals(place: QRect) -> list[QLineF]:
    """Return three lines from the lower left to the upper right, as maps and reports have them."""
    left, top, right, bottom = place.left(), place.top(), place.right(), place.bottom()
    x, y = (left + right) / 2, (top + bottom) / 2
    return [QLineF(left, y, x, top), QLineF(left, bottom, right, top), QLineF(x, bottom, right, y)]


class TileGridView(QListView):
    """A grid that fills its width with as many tiles as have room."""

    side_changed = Signal()
    """Pictures are of another size."""

    def __init__(self, model: TileModel) -> None:
        super().__init__()
        self._wished, self._tiles = USUAL_SIDE, model
        self._delegate = TileDelegate()
        self.setModel(model)
        self.setItemDelegate(self._delegate)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setSelectionRectVisible(True)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)  # one that comes would lay all out anew

    @property
    def side(self) -> int:
        """Of a picture on the screen, px."""
        return self._delegate.side

    def set_side(self, side: int) -> None:
        """Show pictures of about so many px."""
        self._wished = side
        self._fill()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: D102
        super().resizeEvent(event)
        self._fill()

    def _fill(self) -> None:
        """Let pictures be as large as so many in a row can be."""
        viewport = self.viewport()
        width = viewport.width() - 1 if viewport is not None else 0
        columns = max(1, round(width / (self._wished + 2 * _MARGIN)))
        side = max(1, width // columns - 2 * _MARGIN)
        if side != self._delegate.side:
            self._delegate.side = side
            self.scheduleDelayedItemsLayout()
            self.side_changed.emit()

    def shows(self, tile: tuple[int, int]) -> bool:
        """Return whether a tile (row, column) is in sight."""
        number, viewport = self._tiles.place_of(tile), self.viewport()
        return (
            number is not None
            and viewport is not None
            and viewport.rect().intersects(self.visualRect(self._tiles.index(number)))
        )

    @property
    def chosen(self) -> list[int]:
        """Numbers of the tiles that are selected, in the order of the list."""
        selection = self.selectionModel()
        return sorted(index.row() for index in selection.selectedIndexes()) if selection is not None else []
