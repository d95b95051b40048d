"""Small drawn pictures of what a pathologist does here, from opening a slide to a better model."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

WIDTH, HEIGHT = 84, 60  # px
_SCALE = 2  # drawn larger, for screens with small pixels
_GLASS, _TISSUE, _STRONG, _WEAK = (QColor(name) for name in ("#f6f2f5", "#e0a9c6", "#b2182b", "#2166ac"))
_RUN, _PEN = QColor("#2e7d4f"), QColor("#3a2a35")


def step_picture(step: str) -> QPixmap:
    """Return the picture of a step: "open", "run", "explain", "draw" or "learn"."""
    pixmap = QPixmap(WIDTH * _SCALE, HEIGHT * _SCALE)
    pixmap.setDevicePixelRatio(_SCALE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    if step == "learn":
        _draw_slide(painter, QRectF(1, 12, 34, 36))
        _draw_slide(painter, QRectF(49, 12, 34, 36))
        _draw_spot(painter, QPointF(15, 36), 5)
        _draw_spot(painter, QPointF(68, 26), 7)
        _draw_arrow(painter, QPointF(37, 30), QPointF(47, 30))
    else:
        _draw_slide(painter, QRectF(1, 1, WIDTH - 2, HEIGHT - 2))
    if step == "open":
        _draw_arrow(painter, QPointF(42, 6), QPointF(42, 32))
    elif step == "run":
        _draw_tiles(painter)
        painter.setBrush(_RUN)
        painter.drawEllipse(QPointF(42, 30), 13, 13)
        painter.setBrush(Qt.GlobalColor.white)
        painter.drawPolygon(QPolygonF([QPointF(38, 23), QPointF(38, 37), QPointF(49, 30)]))
    elif step == "explain":
        _draw_spot(painter, QPointF(48, 27), 12)
        painter.setPen(QPen(_PEN, 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(QRectF(33, 12, 30, 30))
    elif step == "draw":
        painter.setPen(QPen(_WEAK, 2.5))
        painter.setBrush(QColor(33, 102, 172, 60))
        painter.drawPolygon(QPolygonF([QPointF(*at) for at in ((26, 18), (46, 13), (60, 24), (54, 42), (32, 44))]))
        painter.setBrush(_WEAK)
        painter.drawPolygon(QPolygonF([QPointF(*at) for at in ((54, 42), (66, 24), (71, 28), (59, 45))]))
    painter.end()
    return pixmap


def _draw_slide(painter: QPainter, place: QRectF) -> None:
    """Draw a piece of glass with tissue on it."""
    painter.setBrush(_GLASS)
    painter.drawRoundedRect(place, 3, 3)
    x, y, w, h = place.getRect()
    tissue = QPainterPath(QPointF(x + 0.12 * w, y + 0.5 * h))
    tissue.cubicTo(x + 0.1 * w, y + 0.1 * h, x + 0.4 * w, y + 0.02 * h, x + 0.6 * w, y + 0.14 * h)
    tissue.cubicTo(x + 0.95 * w, y + 0.1 * h, x + 0.98 * w, y + 0.6 * h, x + 0.82 * w, y + 0.78 * h)
    tissue.cubicTo(x + 0.6 * w, y + 1.02 * h, x + 0.2 * w, y + 0.95 * h, x + 0.12 * w, y + 0.5 * h)
    painter.setBrush(_TISSUE)
    painter.drawPath(tissue)


def _draw_tiles(painter: QPainter) -> None:
    """Draw what an analysis colours: some tiles strong, some weak."""
    for column, row, color in ((2, 1, _WEAK), (3, 1, _STRONG), (2, 2, _WEAK), (4, 1, _STRONG), (4, 2, _WEAK)):
        color = QColor(color)
        color.setAlpha(120)
        painter.setBrush(color)
        painter.drawRect(QRectF(14 * column - 7, 14 * row - 4, 13, 13))


def _draw_spot(painter: QPainter, middle: QPointF, radius: float) -> None:
    for share, alpha in ((1.0, 90), (0.6, 200)):
        color = QColor(_STRONG)
        color.setAlpha(alpha)
        painter.setBrush(color)
        painter.drawEllipse(middle, radius * share, radius * share)


def _draw_arrow(painter: QPainter, start: QPointF, end: QPointF) -> None:
    along = (end - start) / (abs(end.x() - start.x()) + abs(end.y() - start.y()))
    across = QPointF(-along.y(), along.x())
    painter.setPen(QPen(_RUN, 3))
    painter.drawLine(start, end)
    painter.drawPolyline(QPolygonF([end - 6 * along + 5 * across, end, end - 6 * along - 5 * across]))
    painter.setPen(Qt.PenStyle.NoPen)
