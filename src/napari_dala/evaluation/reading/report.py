"""What filled forms say, as tables, JSON and one HTML page."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_dala.evaluation.cases.study import DT, PLAIN
from napari_dala.evaluation.page import evaluation_page
from napari_dala.evaluation.reading.scores import EQUAL
from napari_dala.evaluation.tables import Table, signed
from napari_dala.files import write_json, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.evaluation.reading.scores import Agreement, ReadingScores

_KAPPA = (
    "Kappa is 1 for full agreement and 0 for that of chance; – where there is nothing to compare, or nobody ever chose "
    "otherwise. Of few pairs it says little"
)


def tables(found: ReadingScores) -> list[Table]:
    """Return the tables: preference, match, agreement between and within readers, readers."""
    parts = [
        Table(
            "Which map shows better what makes the reader call it so (share, 95 % interval)",
            ("Readings", "n", "Pairs", DT, EQUAL.capitalize(), PLAIN, f"{DT} less {PLAIN}"),
            tuple(
                (one.of, str(one.count), str(one.cases), *(str(one.shares[name]) for name in (DT, EQUAL, PLAIN)),
                 signed(one.difference))
                for one in found.preferences
            ),
        ),
        Table(
            "How well the map matches, 1 to 5 (mean, 95 % interval)",
            ("Readings", "n", DT, PLAIN, "Difference"),
            tuple(
                (one.of, str(one.count), str(one.means[DT]), str(one.means[PLAIN]), signed(one.difference))
                for one in found.matches
            ),
        ),
    ]  # fmt: skip
    head = ("Pairs", "Same preference", "Kappa of preference", "Kappa of diagnosis", "Weighted kappa of match")
    if found.between:
        parts.append(Table("Agreement between readers", ("Readers", *head), tuple(map(_row, found.between))))
    parts.append(Table("Agreement of each reader with themselves", ("Reader", *head), tuple(map(_row, found.within))))
    parts.append(
        Table(
            "Readers",
            ("Reader", "Answered", "Diagnosis right", "Cannot tell", "Left map chosen"),
            tuple(
                (one.reader, f"{one.answered} of {one.asked}", f"{one.right} of {one.diagnosed}", str(one.cannot_tell),
                 f"{one.left} of {one.decided}")
                for one in found.readers
            ),
        )
    )  # fmt: skip
    return parts


def write_scores(found: ReadingScores, command: str, out: Path) -> list[Path]:
    """Write reading.html, reading.md and reading.json into a folder; return their paths."""
    paths = [out / f"reading.{kind}" for kind in ("html", "md", "json")]
    parts, notes = tables(found), (_KAPPA, *found.notes)
    title = f"Readers on {PLAIN} and {DT}"
    about = f"Form {found.key.form}: {len(found.readers)} readers."
    write_text(paths[0], evaluation_page(title, f"{about} {command}", (), parts, notes, {}))
    text = [f"# {title}", "", about, "", f"    {command}", "", *(part.as_markdown() for part in parts)]
    write_text(paths[1], "\n".join([*text, *(f"- {note}" for note in notes), ""]))
    write_json(paths[2], {"command": command, **_as_json(found)})
    return paths


def _as_json(found: ReadingScores) -> dict[str, Any]:
    parts = ("readers", "preferences", "matches", "between", "within")
    return {
        "form": found.key.form,
        **{name: [asdict(one) for one in getattr(found, name)] for name in parts},
        "notes": list(found.notes),
    }


def _row(one: Agreement) -> tuple[str, ...]:
    same = "–" if one.same is None else f"{one.same:.0%}"
    kappas = ("–" if kappa is None else f"{kappa:.2f}" for kappa in (one.preference, one.diagnosis, one.match))
    return one.who, str(one.cases), same, *kappas
