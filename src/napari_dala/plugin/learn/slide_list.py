"""The list of the workspace's annotated slides, with a tick for each that a model is to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QSizePolicy
from superqt.utils import create_worker, signals_blocked

from napari_dala.annotations.slides import annotated_slides
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.plain_text import plain_tip

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.plugin.viewer.ticks import Ticks

_HEIGHT = 84  # px, always, so that what lies below stays where it is


@dataclass(frozen=True)
class _Row:
    """A slide, how many regions it has, and why it cannot be learned from."""

    slide: AnnotatedSlide
    regions: int
    problem: str | None = None


class SlideList(QListWidget):
    """The open slide first and ticked, then the others; a slide whose file is gone cannot be ticked.

    Parameters
    ----------
    ticks
        Of the session.
    """

    ticked = Signal()
    """Other slides are ticked than before, or there is more or less on one."""

    def __init__(self, ticks: Ticks) -> None:
        super().__init__()
        self._ticks = ticks
        self._current: _Row | None = None
        self._others: list[_Row] = []
        self._asked = 0
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT)
        self.itemChanged.connect(self._on_tick)
        ticks.changed.connect(self._show_ticks)

    @property
    def chosen(self) -> list[AnnotatedSlide]:
        """The slides that are ticked."""
        return [row.slide for row in self._rows if self._is_ticked(row)]

    def show_slides(self, current: AnnotatedSlide | None, workspace: Path) -> None:
        """List the open slide, whether it has annotations or not, and, once they were read, the workspace's others."""
        self.show_current(current)
        self._asked += 1
        asked = workspace, load_preferences().icc_profile, self._asked
        create_worker(_read, *asked, _connect={"returned": self._on_read})

    def show_current(self, current: AnnotatedSlide | None) -> None:
        """Take what is drawn on the open slide now."""
        self._current = None if current is None else _Row(current, current.regions)
        self._show()
        self._ticks.take_in_hand(current.fingerprint if current else None)

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
                if row.problem:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEnabled)
                self.addItem(item)
        self._show_ticks()

    def _show_ticks(self) -> None:
        """Let the boxes be as the ticks are; the items stay, for one of them may have been clicked just now."""
        with signals_blocked(self):
            for place, row in enumerate(self._rows):
                is_ticked = self._is_ticked(row)
                state = Qt.CheckState.Checked if is_ticked else Qt.CheckState.Unchecked
                self.item(place).setCheckState(state)  # type: ignore[union-attr]
        self.ticked.emit()

    def _is_ticked(self, row: _Row) -> bool:
        return row.problem is None and row.slide.fingerprint in self._ticks

    def _on_tick(self, item: QListWidgetItem) -> None:
        slide = self._rows[self.row(item)].slide
        self._ticks.tick(slide.fingerprint, item.checkState() == Qt.CheckState.Checked)


def _read(workspace: Path, icc_profile: bool, asked: int) -> tuple[int, list[_Row]]:
    """Read what was drawn on every slide of a workspace; as many files as there are slides, so in a thread."""
    slides = annotated_slides(workspace, icc_profile=icc_profile)
    return asked, [_Row(slide, slide.regions, slide.problem) for slide in slides]
