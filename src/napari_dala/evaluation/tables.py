"""A table of a report, and figures as they stand in it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_dala.metrics.scores import Estimate

PAPER_FIGURES = {"accuracy": "Accuracy", "f1": "F1", "iba": "IBA", "gmean": "GMean"}
"""The four figures of the paper, by their names in `Scores`, as tables head them."""


@dataclass(frozen=True)
class Table:
    """A table for people: the first column names the row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_markdown(self) -> str:
        """Return the table with its title."""
        lines = [f"| {' | '.join(row)} |" for row in (self.head, *self.rows)]
        return "\n".join([f"## {self.title}", "", lines[0], f"|---{'|---:' * (len(self.head) - 1)}|", *lines[1:], ""])

    def as_html(self) -> str:
        """Return the table with its title."""
        first, *others = self.head
        head = f"<th>{escape(first)}</th>" + "".join(f"<th class='number'>{escape(name)}</th>" for name in others)
        body = "".join(
            f"<tr><th>{escape(name)}</th>{''.join(f'<td class=number>{escape(value)}</td>' for value in values)}</tr>"
            for name, *values in self.rows
        )
        return f"<h2>{escape(self.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def signed(estimate: Estimate) -> str:
    """Return a difference and its interval with their signs."""
    if estimate.value is None:
        return "–"
    interval = "" if estimate.low is None else f" ({estimate.low:+.3f} to {estimate.high:+.3f})"
    return f"{estimate.value:+.3f}{interval}"
