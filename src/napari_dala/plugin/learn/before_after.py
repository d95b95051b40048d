"""What learning changed, in figures on the same held-out tiles: before and after, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_dala.plugin.learn.curves import OPTIMISTIC
from napari_dala.plugin.parts.cells import drop_cells
from napari_dala.plugin.parts.fold import Fold
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.viewer.plain_text import PlainLabel
from napari_dala.words import counted, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MORE = {
    "gmean": ("GMean", "what is found of each class, multiplied and rooted: low where one class is missed"),
    "f1": ("F1", "2 × rightly called / (all called so + all that are): low where much is missed or called wrongly"),
    "iba": ("IBA", "as GMean, squared, and a little higher where the class in question is found better than the rest"),
}
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
        self.table, self.more = QGridLayout(), QGridLayout()
        for grid in (self.table, self.more):
            grid.setColumnStretch(0, 1)
            grid.setHorizontalSpacing(8)
            grid.setVerticalSpacing(3)
        figures = QWidget()
        figures.setLayout(self.more)
        self.more.setContentsMargins(0, 0, 0, 0)
        self.more_figures = Fold("More figures", figures)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addLayout(self.table)
        layout.addWidget(self.more_figures)
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
        _fill(self.table, list(_rows(report)))
        more = list(_more_rows(report))
        _fill(self.more, more)
        self.more_figures.setVisible(bool(more))
        train = report["examples"]["train"]
        counts = ", ".join(f"{name} {tiles}" for name, tiles in train.items())
        replayed = (
            f"; shown again: {counted(report['replay']['tiles'], 'tile')} of what it knew before"
            if report["replay"]
            else ""
        )
        self.examples.setText(f"Learned from {counted(sum(train.values()), 'labelled tile')}: {counts}{replayed}")
        self.notes.say("\n".join(sentence(note) for note in report["notes"] if note != OPTIMISTIC))

    def texts(self) -> list[list[str]]:
        """Return what the table says, row by row."""
        return [
            [item.widget().text() for column in range(3) if (item := self.table.itemAtPosition(row, column))]  # type: ignore[union-attr]
            for row in range(self.table.rowCount())
            if self.table.itemAtPosition(row, 0)
        ]


def _fill(grid: QGridLayout, rows: list[tuple[str, str, str]]) -> None:
    """Show rows of a name, before and after, in place of those that a table had."""
    drop_cells(grid)
    for row, texts in enumerate([("", "<b>Before</b>", "<b>After</b>"), *rows] if rows else []):
        for column, text in enumerate(texts):
            label = QLabel(text) if column else PlainLabel(text)  # names stand in the first
            label.setWordWrap(column == 0)
            if column:
                label.setAlignment(Qt.AlignmentFlag.AlignRight)
            grid.addWidget(label, row, column)


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, before and after of what was found of each class, first of all, and of what was right in all."""
    before, after, replay = report["before"], report["after"], report["replay"]
    rows = []
    if after:
        rows = [
            (f"{name} tiles found", _found(before, index), _found(after, index))
            for index, name in enumerate(after["classes"])
        ]
        rows.append(("Right in all", _estimate(before, "accuracy", percent), _estimate(after, "accuracy", percent)))
    if replay:
        old, new = (_UNKNOWN if replay[key] is None else percent(replay[key]) for key in ("before", "after"))
        rows.append(("Right on earlier tiles", old, new))
    return rows


def _more_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures that want an explanation, with one."""
    before, after = report["before"], report["after"]
    return [
        (f"{name}: {meaning}", _estimate(before, key, _decimal), _estimate(after, key, _decimal))
        for key, (name, meaning) in _MORE.items()
        if after
    ]


def _found(table: Mapping[str, Any] | None, index: int) -> str:
    """Return how many tiles of a class were found, such as "9 of 10", and the interval."""
    row = [0] if table is None else table["confusion"][index]
    if table is None or not sum(row):
        return _UNKNOWN
    recall = table["scores"]["recall"].get(table["classes"][index])
    return f"{row[index]} of {sum(row)}{_interval(recall, percent)}"


def _estimate(table: Mapping[str, Any] | None, key: str, say: Callable[[float], str]) -> str:
    """Return a figure and its interval."""
    found = table["scores"].get(key) if table else None
    return _UNKNOWN if not found or found["value"] is None else f"{say(found['value'])}{_interval(found, say)}"


def _interval(found: Mapping[str, Any] | None, say: Callable[[float], str]) -> str:
    if not found or found["low"] is None:
        return ""
    return f"<br><small>({say(found['low']).removesuffix(' %')}–{say(found['high'])})</small>"


def _decimal(value: float) -> str:
    return f"{value:.2f}"


def _optimism(report: Mapping[str, Any]) -> str:
    return f"<b>{OPTIMISTIC}</b>" if report["optimistic"] else ""
