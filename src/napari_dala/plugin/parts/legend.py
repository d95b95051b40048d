"""What the colours mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_dala.plugin.viewer.plain_text import plain_tip
from napari_dala.results.report.ramps import EOSIN

if TYPE_CHECKING:
    from napari.layers import Image
    from numpy.typing import NDArray
    from qtpy.QtGui import QPaintEvent

    Color = tuple[int, int, int]

_BAR = 16  # px


class Legend(QWidget):
    """A colour bar over pale tissue with the very colours of a layer, and a mark where a class begins."""

    def __init__(self) -> None:
        super().__init__()
        self._pixels: NDArray[np.uint8] = np.zeros((1, 1, 3), np.uint8)
        self._title, self._ends = "", ("", "")
        self._mark: float | None = None
        self._doubt = 0.0
        self._lowest = 0.0
        self._layer: Image | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_layer(
        self,
        layer: Image,
        title: str,
        ends: tuple[str, str],
        mark: float | None = None,
        lowest: float = 0.0,
        doubt: float = 0.0,
    ) -> None:
        """Show a layer's colours from its lowest value to 1, also when they change, and a line at the threshold.

        A band of doubt around it, so wide to either side, is framed.
        """
        if layer is not self._layer:
            for name in ("opacity", "colormap"):
                if self._layer is not None:
                    getattr(self._layer.events, name).disconnect(self._color)
                getattr(layer.events, name).connect(self._color)
            self._layer = layer
        self._title, self._ends, self._mark, self._lowest, self._doubt = title, ends, mark, lowest, doubt
        self.setToolTip(plain_tip(title))
        self._color()

    def _color(self) -> None:
        if self._layer is not None:
            self._pixels = colors_over_tissue(self._layer, self._lowest)[None]
            self.update()

    def sizeHint(self) -> QSize:  # noqa: D102
        return QSize(200, 2 * self.fontMetrics().height() + _BAR + 8)

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: D102
        painter = QPainter(self)
        line = self.fontMetrics().height()
        text = self.palette().text().color()
        painter.setPen(text)
        whole = QRectF(0, 0, self.width(), line)
        painter.drawText(whole, Qt.AlignmentFlag.AlignLeft, self._fitting(self._title, self.width()))
        bar = QRectF(0, line + 3, self.width(), _BAR)
        width = self._pixels.shape[1]
        painter.drawImage(bar, QImage(self._pixels.tobytes(), width, 1, 3 * width, QImage.Format.Format_RGB888))
        below = QRectF(0, bar.bottom() + 2, self.width(), line)
        room = self.width() // (2 if self._mark is None else 4)
        low_end, high_end = (self._fitting(end, room) for end in self._ends)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, low_end)
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, high_end)
        if self._mark is not None:
            x = self._mark * self.width()
            painter.setPen(QPen(QColor("black"), 2))
            if self._doubt:
                low, high = (min(max(self._mark + s * self._doubt, 0.0), 1.0) * self.width() for s in (-1, 1))
                painter.drawRect(QRectF(low, bar.top() + 1, high - low, bar.height() - 2))
            painter.drawLine(round(x), round(bar.top()) - 2, round(x), round(bar.bottom()) + 2)
            painter.setPen(text)
            caption = f"threshold {self._mark:.2f}" + (f" ± {self._doubt:.2f}" if self._doubt else "")
            left, half, right = (self.fontMetrics().horizontalAdvance(text) for text in (low_end, caption, high_end))
            half = half // 2 + 6
            middle = min(max(x, left + half), self.width() - right - half)
            painter.drawText(QRectF(middle - half, below.top(), 2 * half, line), Qt.AlignmentFlag.AlignCenter, caption)
        painter.end()

    def _fitting(self, text: str, width: int) -> str:
        return self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, width)


def colors_over_tissue(layer: Image, lowest: float = 0.0) -> NDArray[np.uint8]:
    """Return a layer's colours from its lowest value to 1 as they are seen over pale tissue, (256, 3)."""
    rgba = layer.colormap.map(np.linspace(lowest, 1, 256))
    alpha = rgba[:, 3:] * layer.opacity
    return np.asarray(np.round((rgba[:, :3] * alpha + EOSIN * (1 - alpha)) * 255), np.uint8)


def swatch(color: Color, side: int = 12) -> QPixmap:
    """Return a square of a class' colour."""
    pixmap = QPixmap(side, side)
    pixmap.fill(QColor(*color))
    return pixmap
