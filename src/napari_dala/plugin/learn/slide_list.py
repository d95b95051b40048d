"""The list of the workspace's annotated slides, with a tick for each that a model is to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QSizePolicy
from superqt.utils import create_worker, signals_blocked

from napari_dala.annotations.slides import annotated_slides
from napari_dala.plugin.viewer.plain_text import plain_tip

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.annotations.slides import AnnotatedSlide

_HEIGHT = 84  # px, always, so that what lies below stays where it is


@dataclass(frozen=True)
class _Row:
    """A slide, how many regions it has, and why it cannot be learned from."""

    slide: AnnotatedSlide
    regions: int
    problem: str | None = None


class SlideList(QListWidget):
    """The open slide first and ticked, then the others; a slide whose file is gone cannot be ticked."""

    ticked = Signal()
    """Other slides are ticked than before, or there is more or less on one."""

    def __init__(self) -> None:
        super().__init__()
        self._current: _Row | None = None
        self._others: list[_Row] = []
        self._ticks: dict[str, bool] = {}
        self._asked = 0
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT)
        self.itemChanged.connect(self._on_tick)

    @property
    def chosen(self) -> list[AnnotatedSlide]:
        """The slides that are ticked."""
        return [row.slide for row in self._rows if self._is_ticked(row)]

    def show_slides(self, current: AnnotatedSlide | None, workspace: Path) -> None:
        """List the open slide, whether it has annotations or not, and, once they were read, the workspace's others."""
        self.show_current(current)
        self._asked += 1
        create_worker(_read, workspace, self._asked, _connect={"returned": self._on_read})

    def show_current(self, current: AnnotatedSlide | None) -> None:
        """Take what is drawn on the open slide now."""
        self._current = None if current is None else _Row(current, region_count(current))
        if current is not None:
            self._ticks.setdefault(current.fingerprint, True)
        self._show()

    @property
    def _rows(self) -> list[_Row]:
        if self._current is None:
            return self._others
        here = self._current.slide.fingerprint
        return [self._current, *(row for row in self._others if row.slide.fingerprint != here)]

    def _on_read(self, read: tuple[int, list[_Row]]) -> None:
        asked, others = read
        if asked == self._asked:
            self._others = others
            self._show()

    def _show(self) -> None:
        with signals_blocked(self):
            self.clear()
            for row in self._rows:
                here = " (this slide)" if row is self._current else ""
                item = QListWidgetItem(f"{row.slide.name}{here}: {row.regions} region{'s'[: row.regions != 1]}")
                item.setToolTip(plain_tip(row.problem or f"Patient: {row.slide.patient}"))
                item.setCheckState(Qt.CheckState.Checked if self._is_ticked(row) else Qt.CheckState.Unchecked)
                if row.problem:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEnabled)
                self.addItem(item)
        self.ticked.emit()

    def _is_ticked(self, row: _Row) -> bool:
        return row.problem is None and self._ticks.get(row.slide.fingerprint, False)

    def _on_tick(self, item: QListWidgetItem) -> None:
        slide = self._rows[self.row(item)].slide
        self._ticks[slide.fingerprint] = item.checkState() == Qt.CheckState.Checked
        self.ticked.emit()


def region_count(slide: AnnotatedSlide) -> int:
    """Return how many regions of a slide a model can learn from: those of a class that is not ignored."""
    document = slide.document
    if document is None:
        return 0
    passed_over = {None, *(entry.name for entry in document.classes if not entry.is_learned)}
    return sum(one.class_name not in passed_over for one in document.annotations)


def _read(workspace: Path, asked: int) -> tuple[int, list[_Row]]:
    """Read what was drawn on every slide of a workspace; as many files as there are slides, so in a thread."""
    return asked, [_Row(slide, region_count(slide), slide.problem) for slide in annotated_slides(workspace)]
