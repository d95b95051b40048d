"""What learning changed, in figures on the same held-out tiles: before and after, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_dala.plugin.learn.curves import OPTIMISTIC
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.viewer.plain_text import PlainLabel
from napari_dala.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIGURES = {"accuracy": "Accuracy", "gmean": "GMean", "f1": "F1", "iba": "IBA"}
_SPLITS = {"patient": "of other patients", "slide": "of other slides", "region": "of other regions"}
_UNKNOWN = "–"


class BeforeAfter(QWidget):
    """A table of the figures with their 95 % intervals, and what must be known before believing them."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.examples = QLabel(), PlainLabel()
        self.title.setWordWrap(True)
        self.examples.setWordWrap(True)
        self.notes = Note("warning")
        self.table = QGridLayout()
        self.table.setColumnStretch(0, 1)
        self.table.setHorizontalSpacing(8)
        self.table.setVerticalSpacing(3)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addLayout(self.table)
        layout.addWidget(self.examples)
        layout.addWidget(self.notes)

    def show_report(self, report: Mapping[str, Any]) -> None:
        """Show a job's `result.json`."""
        held_out = sum(report["examples"]["held_out"].values())
        where = ", ".join(part for part in (_SPLITS.get(report["split"], ""), _optimism(report)) if part)
        self.title.setText(
            f"<b>On {counted(held_out, 'held-out tile')}</b>" + (f"<br>{where}" if where else "")
            if report["after"]
            else "<b>No figures: no tiles were held out</b>"
        )
        self._clear()
        rows = list(_rows(report))
        if rows:
            rows.insert(0, ("", "<b>Before</b>", "<b>After</b>"))
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                label = QLabel(text) if column else PlainLabel(text)  # names stand in the first
                label.setWordWrap(column == 0)
                if column:
                    label.setAlignment(Qt.AlignmentFlag.AlignRight)
                self.table.addWidget(label, row, column)
        train = report["examples"]["train"]
        counts = ", ".join(f"{name} {tiles}" for name, tiles in train.items())
        replayed = (
            f"; shown again: {counted(report['replay']['tiles'], 'tile')} of what it knew before"
            if report["replay"]
            else ""
        )
        self.examples.setText(f"Learned from {counted(sum(train.values()), 'labelled tile')}: {counts}{replayed}")
        self.notes.say("\n".join(_sentence(note) for note in report["notes"] if note != OPTIMISTIC))

    def texts(self) -> list[list[str]]:
        """Return what the table says, row by row."""
        return [
            [item.widget().text() for column in range(3) if (item := self.table.itemAtPosition(row, column))]  # type: ignore[union-attr]
            for row in range(self.table.rowCount())
            if self.table.itemAtPosition(row, 0)
        ]

    def _clear(self) -> None:
        while item := self.table.takeAt(0):
            if widget := item.widget():
                widget.deleteLater()


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, before and after of each figure there is."""
    before, after, replay = report["before"], report["after"], report["replay"]
    rows = []
    if after:
        rows = [
            (f"{name} tiles found", _estimate(before, "recall", name), _estimate(after, "recall", name))
            for name in after["classes"]
        ]
        rows += [(name, _estimate(before, key), _estimate(after, key)) for key, name in _FIGURES.items()]
    if replay:
        old, new = (_UNKNOWN if replay[key] is None else f"{replay[key]:.2f}" for key in ("before", "after"))
        rows.append(("Right on earlier tiles", old, new))
    return rows


def _estimate(table: Mapping[str, Any] | None, *keys: str) -> str:
    """Return a figure and its interval."""
    found: Any = table["scores"] if table else None
    for key in keys:
        found = found.get(key) if found else None
    if not found or found["value"] is None:
        return _UNKNOWN
    interval = "" if found["low"] is None else f" <small>({found['low']:.2f}–{found['high']:.2f})</small>"
    return f"{found['value']:.2f}{interval}"


def _optimism(report: Mapping[str, Any]) -> str:
    return f"<b>{OPTIMISTIC}</b>" if report["optimistic"] else ""


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:]
