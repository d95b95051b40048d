"""An evaluation of explanations as tables, as Markdown, CSV and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from napari_dala.evaluation.explanations.maps import RANDOMISED, THRESHOLDS
from napari_dala.evaluation.explanations.photographs import MEASURES
from napari_dala.evaluation.explanations.plots import LEAST_INSIDE, MOST_OUTSIDE, explain_figures
from napari_dala.evaluation.figures import write_figures
from napari_dala.evaluation.tables import Table, signed
from napari_dala.files import csv_text, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_dala.evaluation.explanations.localisation import Heat, Localisation
    from napari_dala.evaluation.explanations.photographs import PhotographFigures
    from napari_dala.model.bundle import ModelBundle

LOWER_IS_BETTER = ("deletion", "drop")
_HEADINGS = {
    "insertion": "Insertion ↑",
    "deletion": "Deletion ↓",
    "drop": "Average drop ↓",
    "increase": "Increase ↑",
    "road": "ROAD ↑",
    "kept": "Kept area",
}


@dataclass(frozen=True, eq=False)
class ExplainEvaluation:
    """What an evaluation of explanations found.

    Attributes
    ----------
    bundle
        The model.
    data
        The photographs, in words.
    command
        The command line, for the record.
    photographs
        Figures of photographs.
    slides
        Figures of slides by slide, class and method; may be none.
    tiles
        A row for each mixed tile of the slides, class and method.
    """

    bundle: ModelBundle
    data: str
    command: str
    photographs: PhotographFigures
    slides: tuple[Localisation, ...]
    tiles: tuple[dict[str, Any], ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be read beside the figures."""
        card = self.bundle.card
        own = [f"Model “{card.name}” is {card.warning}."] if card.warning else []
        if not self.photographs.patients_known:
            own.append("patients unknown: the intervals take images for independent")
        return (*own, *self.photographs.notes, *verdicts(self.photographs), *heat_verdicts(self.slides))


def tables(found: ExplainEvaluation) -> list[Table]:
    """Return the tables: measures of photographs, differences, randomised weights, then slide by slide and class."""
    photographs = found.photographs
    parts = [
        Table(
            f"{photographs.count} photographs, the class that the model names (95 % interval)",
            ("Method", *_HEADINGS.values()),
            tuple((name, *map(str, by_measure.values())) for name, by_measure in photographs.means.items()),
        ),
        Table(
            "Difference from plain Grad-CAM on the same photographs (95 % interval)",
            ("Method", *_HEADINGS.values()),
            tuple((name, *map(signed, by_measure.values())) for name, by_measure in photographs.differences.items()),
        ),
        Table(
            "Correlation with the map of the same network with random weights (at 1 a map explains nothing)",
            ("Method", *RANDOMISED),
            tuple((name, *(f"{part[key]:.2f}" for key in RANDOMISED)) for name, part in photographs.randomised.items()),
        ),
    ]
    pairs = dict.fromkeys((row.slide, row.class_name) for row in found.slides)
    return parts + [
        _slide_table([row for row in found.slides if (row.slide, row.class_name) == pair]) for pair in pairs
    ]


def verdicts(photographs: PhotographFigures) -> list[str]:
    """Say where DT Grad-CAM differs from plain Grad-CAM beyond the interval, for better or worse."""
    lines = []
    for measure in MEASURES[:-1]:  # of the kept area neither more nor less is better
        better: dict[bool, list[str]] = {True: [], False: []}
        for name in THRESHOLDS:
            difference = photographs.differences[name][measure]
            if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
                continue
            better[(difference.low > 0) != (measure in LOWER_IS_BETTER)].append(name)
        said = [
            f"{'better' if won else 'worse'}: {'all' if len(names) == len(THRESHOLDS) else ', '.join(names)}"
            for won, names in better.items()
            if names
        ]
        lines.append(f"{measure}, DT against plain Grad-CAM: {'; '.join(said) or 'no difference beyond the interval'}")
    return lines


def heat_verdicts(slides: Sequence[Localisation]) -> list[str]:
    """Say for each slide and class which DT keeps enough of the heat inside the class and little of that outside."""
    lines = []
    for slide, class_name in dict.fromkeys((row.slide, row.class_name) for row in slides):
        here = [row for row in slides if (row.slide, row.class_name) == (slide, class_name)]
        names = [row.method for row in here if _as_asked(row.mixed)]
        cut = [row.method for row in here if _as_asked(row.cut)]
        lines.append(
            f"{slide}, {class_name}: {LEAST_INSIDE} or more of the heat inside the class and {MOST_OUTSIDE} or less of "
            f"the heat outside is kept by {', '.join(names) or 'no DT'}; by plain Grad-CAM cut to the area of "
            f"{', '.join(cut) or 'no DT'}"
        )
    return lines


def _as_asked(heat: Heat | None) -> bool:
    if heat is None or heat.inside is None or heat.outside is None:
        return False
    return heat.inside >= LEAST_INSIDE and heat.outside <= MOST_OUTSIDE


def write_report(found: ExplainEvaluation, out: Path) -> list[Path]:
    """Write explain-eval.md, .csv and .json, a table per photograph and per tile, and the plots; return their paths."""
    write_json(out / "explain-eval.json", as_json(found))
    photographs = found.photographs
    summary = [
        {"method": name}
        | _flat("", by_measure)
        | _flat("_difference", photographs.differences.get(name, {}))
        | {f"randomised_{part}": value for part, value in photographs.randomised[name].items()}
        for name, by_measure in photographs.means.items()
    ]
    files = {"explain-eval.csv": summary, "photographs.csv": photographs.rows}
    if found.slides:
        files |= {"slides.csv": [_flat_slide(row) for row in found.slides], "tiles.csv": found.tiles}
    for name, rows in files.items():
        write_text(out / name, csv_text(rows))
    plots = write_figures(explain_figures(photographs, found.slides), out)
    write_text(out / "explain-eval.md", as_markdown(found, [path.name for path in plots if path.suffix == ".png"]))
    return [*(out / name for name in ("explain-eval.md", "explain-eval.json", *files)), *plots]


def as_json(found: ExplainEvaluation) -> dict[str, Any]:
    """Return all figures but those of single photographs and tiles."""
    photographs = found.photographs
    return {
        "model": found.bundle.card.name,
        "hash": found.bundle.hash,
        "data": found.data,
        "command": found.command,
        "photographs": photographs.count,
        "means": _as_dicts(photographs.means),
        "differences": _as_dicts(photographs.differences),
        "curves": {
            name: dict(zip(("insertion", "deletion"), curve.tolist(), strict=True))
            for name, curve in photographs.curves.items()
        },
        "randomised": {name: dict(part) for name, part in photographs.randomised.items()},
        "slides": [asdict(row) for row in found.slides],
        "notes": list(found.notes),
    }


def as_markdown(found: ExplainEvaluation, pictures: list[str]) -> str:
    """Return the page: what was measured and how, the tables, what must be read beside them, the plots."""
    lines = [
        f"# Explanations of {found.bundle.card.name}",
        "",
        f"{found.data}. Bundle {found.bundle.hash[:16]}.",
        "",
        f"    {found.command}",
        "",
        *(table.as_markdown() for table in tables(found)),
        *(f"- {note}" for note in found.notes),
        "",
        *(f"![{name}]({name})\n" for name in pictures),
    ]
    return "\n".join(lines)


def _slide_table(rows: list[Localisation]) -> Table:
    first = rows[0]
    head = ("Method", "AUC ↑", "Pointing ↑", "Share of heat ↑", "Kept area")
    kept = ("Heat kept inside ↑", "outside ↓", "… of the whole slide", "… of Grad-CAM cut to this area")
    return Table(
        f"{first.slide}, {first.class_name}: {first.tiles} mixed tiles, of which {first.area:.0%} is of the class",
        head + kept,
        tuple(
            (
                row.method,
                f"{row.auc:.3f}",
                f"{row.pointing:.3f}",
                _number(row.share),
                f"{row.kept:.3f}",
                *((_number(row.mixed.inside), _number(row.mixed.outside)) if row.mixed else ("–", "–")),
                _pair(row.slide_wide),
                _pair(row.cut),
            )
            for row in rows
        ),
    )


def _pair(heat: Heat | None) -> str:
    return f"{_number(heat.inside)} / {_number(heat.outside)}" if heat else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _flat(suffix: str, by_measure: Any) -> dict[str, float | None]:
    """Return the columns of a table for estimates by measure."""
    columns: dict[str, float | None] = {}
    for measure, value in by_measure.items():
        columns |= value.as_columns(f"{measure}{suffix}")
    return columns


def _flat_slide(row: Localisation) -> dict[str, Any]:
    """Return the columns of a table; of heat by its name and place."""
    columns: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if name in ("mixed", "slide_wide", "cut"):
            columns |= {f"{name}_{place}": value and value[place] for place in ("inside", "outside")}
        else:
            columns[name] = value
    return columns


def _as_dicts(by_method: Any) -> dict[str, Any]:
    return {name: {key: asdict(value) for key, value in part.items()} for name, part in by_method.items()}
