"""Small drawn pictures of the drawing tools, in the colour of the theme's text."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

_SIDE = 40  # px, twice as large as shown
_PENTAGON = ((8, 16), (22, 6), (34, 15), (28, 34), (11, 32))
_POINTER = ((12, 5), (12, 31), (18, 26), (23, 36), (27, 34), (22, 24), (31, 24))
_ERASER = ((5, 24), (17, 36), (35, 18), (23, 6))
_LASSO = ((6, 18), (10, 4), (34, 2), (35, 17), (37, 30), (14, 34), (12, 25), (11, 20), (22, 22), (20, 36))


def tool_icon(tool: str, color: QColor) -> QIcon:
    """Return the picture of a tool, named as in `Drawing.tool`."""
    pixmap = QPixmap(_SIDE, _SIDE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(color, 2.5))
    _draw(tool, painter, color)
    painter.end()
    return QIcon(pixmap)


def _draw(tool: str, painter: QPainter, color: QColor) -> None:
    pentagon = QPolygonF([QPointF(*corner) for corner in _PENTAGON])
    if tool == "add_polygon":
        painter.drawPolygon(pentagon)
    elif tool == "add_rectangle":
        painter.drawRect(QRectF(5, 9, 30, 22))
    elif tool == "add_ellipse":
        painter.drawEllipse(QRectF(4, 9, 32, 22))
    elif tool == "add_polygon_lasso":
        first, *rest = (QPointF(*point) for point in _LASSO)
        path = QPainterPath(first)
        for a, b, c in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
            path.cubicTo(a, b, c)
        painter.drawPath(path)
    elif tool == "select":
        painter.setBrush(color)
        painter.drawPolygon(QPolygonF([QPointF(*corner) for corner in _POINTER]))
    elif tool == "direct":
        painter.drawPolygon(pentagon)
        painter.setBrush(color)
        for x, y in _PENTAGON:
            painter.drawRect(QRectF(x - 3, y - 3, 6, 6))
    elif tool == "brush":
        painter.drawPolyline(QPolygonF([QPointF(35, 4), QPointF(17, 22)]))
        painter.setBrush(color)
        tip = QPainterPath(QPointF(18, 20))
        tip.cubicTo(QPointF(9, 20), QPointF(13, 33), QPointF(4, 35))
        tip.cubicTo(QPointF(14, 38), QPointF(22, 33), QPointF(21, 23))
        painter.drawPath(tip)
    elif tool == "eraser":
        painter.drawPolygon(QPolygonF([QPointF(*corner) for corner in _ERASER]))
        painter.setBrush(color)
        painter.drawPolygon(QPolygonF([QPointF(*corner) for corner in (*_ERASER[:2], (24, 29), (12, 17))]))
        painter.drawLine(QPointF(18, 36), QPointF(36, 36))
    elif tool == "wand":
        painter.drawLine(QPointF(5, 36), QPointF(23, 18))
        for x, y, ray in ((27, 13, 8), (35, 27, 4), (12, 10, 4)):
            painter.drawLine(QPointF(x - ray, y), QPointF(x + ray, y))
            painter.drawLine(QPointF(x, y - ray), QPointF(x, y + ray))
    elif tool == "pan_zoom":
        for angle in np.arange(4) * 90:
            painter.save()
            painter.translate(_SIDE / 2, _SIDE / 2)
            painter.rotate(float(angle))
            painter.drawLine(QPointF(0, 0), QPointF(0, -15))
            painter.drawPolyline(QPolygonF([QPointF(-5, -10), QPointF(0, -15), QPointF(5, -10)]))
            painter.restore()
