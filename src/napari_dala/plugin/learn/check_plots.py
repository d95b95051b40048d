"""Curves of a model check: ROC, precision and recall, reliability, drawn with the palette of napari's theme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QPaintEvent

    from napari_dala.results.model_check import ModelCheck

    Points = Sequence[tuple[float, float]]

_SIDE = 190  # px of a plot
_CURVE, _MARK = "#56b4e9", "#e69f00"  # Okabe and Ito's, on dark and on light


@dataclass(frozen=True)
class Drawn:
    """A curve in the unit square: its points, the one that stands out, and what the axes are."""

    title: str
    below: str
    beside: str
    points: Points = ()
    mark: tuple[float, float] | None = None
    diagonal: bool = False


def roc_of(check: ModelCheck, threshold: float) -> Drawn:
    """Return the ROC curve with the point of a threshold."""
    points = [(1 - point.specificity, point.sensitivity) for point in check.points()]
    at = check.point(threshold)
    return Drawn("ROC", "1 - specificity", "sensitivity", points, (1 - at.specificity, at.sensitivity), diagonal=True)


def precision_of(check: ModelCheck, threshold: float) -> Drawn:
    """Return precision over recall with the point of a threshold."""
    called = check.predicted(threshold) == check.target
    mark = (check.point(threshold).sensitivity, float(check.positive[called].mean())) if called.any() else None
    return Drawn("Precision and recall", "recall", "precision", check.precision_recall(), mark)


def reliability_of(check: ModelCheck) -> Drawn:
    """Return how often the model is right over how sure it is."""
    points = [(confidence, right) for confidence, right, _ in check.reliability()]
    return Drawn("Reliability", "how sure it is", "how often it is right", points, diagonal=True)


class UnitPlot(QWidget):
    """One curve; empty until it is given one."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: Drawn | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def draw(self, drawn: Drawn | None) -> None:
        """Show a curve, or nothing."""
        self.drawn = drawn
        self.update()

    def sizeHint(self) -> QSize:  # noqa: D102
        return QSize(_SIDE + 60, _SIDE + 4 * self.fontMetrics().height())

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: D102
        if self.drawn is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line, text = self.fontMetrics().height(), self.palette().text().color()
        faint = QColor(text)
        faint.setAlphaF(0.25)
        margin = self.fontMetrics().horizontalAdvance("0.5") + 8
        area = QRectF(margin, 1.4 * line, _SIDE, _SIDE)
        painter.setPen(text)
        painter.drawText(QRectF(0, 0, self.width(), line), Qt.AlignmentFlag.AlignLeft, self.drawn.beside)
        below = QRectF(area.left(), area.bottom() + line, area.width(), line)
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, self.drawn.below)
        for share in (0.0, 0.5, 1.0):
            x, y = area.left() + share * area.width(), area.bottom() - share * area.height()
            painter.setPen(QPen(faint, 1))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
            painter.setPen(text)
            painter.drawText(QRectF(0, y - line / 2, area.left() - 4, line), Qt.AlignmentFlag.AlignRight, f"{share:g}")
            painter.drawText(QRectF(x - 20, area.bottom() + 2, 40, line), Qt.AlignmentFlag.AlignHCenter, f"{share:g}")
        if self.drawn.diagonal:
            painter.setPen(QPen(faint, 1, Qt.PenStyle.DashLine))
            painter.drawLine(area.bottomLeft(), area.topRight())

        def place(point: tuple[float, float]) -> QPointF:
            return QPointF(area.left() + point[0] * area.width(), area.bottom() - point[1] * area.height())

        at = [place(point) for point in self.drawn.points]
        painter.setPen(QPen(QColor(_CURVE), 2))
        painter.drawPolyline(QPolygonF(at))
        if len(at) < 12:
            painter.setBrush(QColor(_CURVE))
            for point in at:
                painter.drawEllipse(point, 2.5, 2.5)
        if self.drawn.mark is not None:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(_MARK))
            painter.drawEllipse(place(self.drawn.mark), 5, 5)
        painter.end()
