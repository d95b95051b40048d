"""Learning curves, drawn as epochs come in: loss, accuracy and GMean, of training and of held-out tiles.

Drawn here with the palette of napari's theme: to import pyqtgraph takes 0.27 s of the event loop and replaces
`sys.excepthook` (docs/decisions.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_dala.training.finetune.job import Epoch, FinetuneEvent, Prepared

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent

_HEIGHT = 110  # px of a plot
_DOT = 2.5  # px, radius of a point: a single epoch is no line
_COLORS = {"train": "#e69f00", "held out": "#56b4e9", "GMean": "#009e73"}  # Okabe and Ito's, on dark and on light
OPTIMISTIC = "same slide, optimistic"


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes
    ----------
    label
        In the legend.
    color
        As Qt reads it.
    key
        Of the figure in an `Epoch`.
    dashed
        True for a figure that is derived of held-out tiles.
    """

    label: str
    color: str
    key: str
    dashed: bool = False


LOSS = (Curve("training", _COLORS["train"], "train_loss"), Curve("held out", _COLORS["held out"], "val_loss"))
ACCURACY = (
    Curve("training", _COLORS["train"], "train_accuracy"),
    Curve("held out", _COLORS["held out"], "val_accuracy"),
    Curve("held out, GMean", _COLORS["GMean"], "val_gmean", dashed=True),
)


class Plot(QWidget):
    """One figure over the epochs.

    Parameters
    ----------
    title
        Above the plot.
    curves
        A curve without a value in any epoch is left out of the legend.
    top
        Upper end of the axis; None for the largest value.
    """

    def __init__(self, title: str, curves: tuple[Curve, ...], top: float | None = None) -> None:
        super().__init__()
        self._title, self._curves, self._top = title, curves, top
        self._epochs: list[Epoch] = []
        self._total = 1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def draw(self, epochs: list[Epoch], total: int) -> None:
        """Show these epochs of `total`."""
        self._epochs, self._total = epochs, max(total, len(epochs), 1)
        self.update()

    def points(self, key: str) -> list[tuple[int, float]]:
        """Return (epoch from 1, value) of a figure, where it has a value."""
        return [(one.epoch + 1, value) for one in self._epochs if (value := getattr(one, key)) is not None]

    def sizeHint(self) -> QSize:  # noqa: D102
        return QSize(200, _HEIGHT + 2 * self.fontMetrics().height() + 6)

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: D102
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line = self.fontMetrics().height()
        curves = [(curve, points) for curve in self._curves if (points := self.points(curve.key))]
        top = self._top or max([value for _, points in curves for _, value in points], default=1.0) or 1.0
        margin = self.fontMetrics().horizontalAdvance("0.00") + 8
        area = QRectF(margin, line + 4, self.width() - margin - 4, _HEIGHT - 8)
        self._draw_frame(painter, area, top)
        self._draw_legend(painter, [curve for curve, _ in curves])
        for curve, points in curves:
            style = Qt.PenStyle.DashLine if curve.dashed else Qt.PenStyle.SolidLine
            painter.setPen(QPen(QColor(curve.color), 2, style))
            at = [
                QPointF(
                    area.left() + area.width() * (epoch - 0.5) / self._total,
                    area.bottom() - area.height() * min(value / top, 1.0),
                )
                for epoch, value in points
            ]
            painter.drawPolyline(QPolygonF(at))
            painter.setBrush(QColor(curve.color))
            painter.drawEllipse(at[-1], _DOT, _DOT)
        painter.end()

    def _draw_frame(self, painter: QPainter, area: QRectF, top: float) -> None:
        """Draw the axes, with three values and the first and the last epoch."""
        line, text = self.fontMetrics().height(), self.palette().text().color()
        faint = QColor(text)
        faint.setAlphaF(0.25)
        for share in (0.0, 0.5, 1.0):
            y = area.bottom() - share * area.height()
            painter.setPen(QPen(faint, 1))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(text)
            label = QRectF(0, y - line / 2, area.left() - 4, line)
            painter.drawText(label, Qt.AlignmentFlag.AlignRight, _short(share * top))
        below = QRectF(area.left(), area.bottom() + 3, area.width(), line)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "epoch 1")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, f"{self._total}")

    def _draw_legend(self, painter: QPainter, curves: list[Curve]) -> None:
        """Write the title, and behind it each curve's name in its colour."""
        line, text = self.fontMetrics().height(), self.palette().text().color()
        x = 0.0
        words = [(self._title, text), *((f"— {curve.label}", QColor(curve.color)) for curve in curves)]
        for word, color in words:
            painter.setPen(color)
            painter.drawText(QRectF(x, 0, self.width() - x, line), Qt.AlignmentFlag.AlignLeft, word)
            x += self.fontMetrics().horizontalAdvance(word) + 10


class LearningCurves(QWidget):
    """Loss above, accuracy and GMean below; empty until the first epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.title = QLabel()
        self.loss, self.accuracy = Plot("Loss", LOSS), Plot("Accuracy", ACCURACY, 1.0)
        self._epochs: dict[int, Epoch] = {}
        self._total = 1
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.title, self.loss, self.accuracy):
            layout.addWidget(widget)
        self.clear()

    def clear(self) -> None:
        """Forget every epoch."""
        self._epochs.clear()
        self._total = 1
        self.setVisible(False)

    def take(self, event: FinetuneEvent) -> None:
        """Show what a job has reported; an epoch that comes again after a resume takes the earlier one's place."""
        if isinstance(event, Prepared):
            self._total = event.epochs
            self.title.setText(f"Held-out tiles: {OPTIMISTIC}" if event.optimistic else "")
            self.title.setVisible(event.optimistic)
        elif isinstance(event, Epoch):
            self._epochs[event.epoch] = event
        self._draw()

    def _draw(self) -> None:
        epochs = [self._epochs[number] for number in sorted(self._epochs)]
        self.setVisible(bool(epochs))
        self.loss.draw(epochs, self._total)
        self.accuracy.draw(epochs, self._total)


def _short(value: float) -> str:
    """Return a number in four characters, if it can be."""
    return f"{value:.2f}" if value < 10 else f"{value:.3g}"
