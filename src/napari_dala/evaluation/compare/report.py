"""A comparison as tables, as Markdown, CSV and JSON."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from napari_dala.evaluation.compare.cost_report import cost_tables, how_measured
from napari_dala.evaluation.compare.plots import write_plots
from napari_dala.evaluation.tables import PAPER_FIGURES, Table, signed
from napari_dala.files import csv_text, write_json, write_text
from napari_dala.metrics.bootstrap import FIGURES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_dala.evaluation.compare.compare import Comparison, ModelResult
    from napari_dala.metrics.scores import Estimate

_FURTHER = {"ece": "ECE", "auroc": "AUROC", "brier": "Brier"}


def tables(comparison: Comparison) -> list[Table]:
    """Return the tables of a comparison: scores, differences, folds, patients, training, cost."""
    results = comparison.results
    classes = comparison.dataset.classes
    parts = [
        Table(
            "Held-out figures (95 % interval)",
            ("Model", *PAPER_FIGURES.values(), *(f"Recall {name}" for name in classes), *_FURTHER.values()),
            tuple((result.model, *map(str, _estimates(result).values())) for result in results),
        )
    ]
    if len(results) > 1:
        parts.append(
            Table(
                f"Difference from {results[0].model} on the same photographs (95 % interval)",
                ("Model", "Accuracy", "GMean"),
                tuple(
                    (result.model, signed(result.differences["accuracy"]), signed(result.differences["gmean"]))
                    for result in results[1:]
                ),
            )
        )
    parts.append(
        Table(
            "GMean and accuracy of each fold's own photographs",
            ("Model", *(f"Fold {fold}" for fold in comparison.folds)),
            tuple(
                (result.model, *(f"{_short(fold.gmean)} / {_short(fold.accuracy)}" for fold in result.folds))
                for result in results
            ),
        )
    )
    if results[0].table.patients:
        parts += [_spread(results), _patients(results)]
    parts.append(_training(comparison))
    return parts + cost_tables(comparison.costs)


def write_report(comparison: Comparison, out: Path) -> list[Path]:
    """Write compare.json, compare.csv, compare.md and the plots into a folder; return their paths."""
    write_json(out / "compare.json", comparison.as_json())
    write_text(out / "compare.csv", as_csv(comparison))
    plots = write_plots(comparison, out)
    write_text(out / "compare.md", as_markdown(comparison, [path.name for path in plots if path.suffix == ".png"]))
    return [*(out / f"compare.{kind}" for kind in ("md", "csv", "json")), *plots]


def as_markdown(comparison: Comparison, pictures: Sequence[str] = ()) -> str:
    """Return the page: what was compared and how, the tables, what must be read beside them, the plots."""
    folds = ", ".join(map(str, comparison.folds))
    lines = [
        f"# Networks compared on {comparison.dataset.name}",
        "",
        f"{comparison.dataset.summary}. Held out: {len(comparison.indices)} images in fold {folds}, each predicted by "
        "the run that never saw its fold.",
        "",
        f"    {comparison.command}",
        "",
        *(table.as_markdown() for table in tables(comparison)),
        *how_measured(comparison.costs),
        *(
            f"- {result.model}: {'; '.join(result.initial_weights)}; trained on {'; '.join(result.trained_on)}"
            for result in comparison.results
        ),
        *(f"- {note}" for note in comparison.notes),
        *(f"- {note}" for note in comparison.results[0].table.notes),
        "",
        *(f"![{name}]({name})\n" for name in pictures),
    ]
    return "\n".join(lines)


def as_csv(comparison: Comparison) -> str:
    """Return a row per network: every figure with the ends of its interval, and the time of training."""
    rows = []
    for result in comparison.results:
        scores = result.table.scores
        estimates = {name: getattr(scores, name) for name in FIGURES}
        estimates |= {f"recall_{name}": value for name, value in zip(result.table.classes, scores.recall, strict=True)}
        estimates |= {f"{name}_difference": value for name, value in result.differences.items()}
        row: dict[str, object] = {"model": result.model}
        for name, value in estimates.items():
            row |= value.as_columns(name)
        rows.append(row | {"train_seconds": result.seconds})
    return csv_text(rows)


def _estimates(result: ModelResult) -> dict[str, Estimate]:
    """Return the figures that the table shows, in its order."""
    scores = result.table.scores
    recall = {f"recall {name}": value for name, value in zip(result.table.classes, scores.recall, strict=True)}
    figures = {name: getattr(scores, name) for name in (*PAPER_FIGURES, *_FURTHER)}
    return {name: figures[name] for name in PAPER_FIGURES} | recall | {name: figures[name] for name in _FURTHER}


def _spread(results: Sequence[ModelResult]) -> Table:
    rows = []
    for result in results:
        cells = []
        for name in result.table.classes:
            right = [row.accuracy for row in result.table.patients if row.label == name]
            cells.append(f"{median(right):.0%} ({min(right):.0%}–{max(right):.0%}), n = {len(right)}" if right else "–")
        rows.append((result.model, *cells))
    head = ("Model", *results[0].table.classes)
    return Table("Rightly classified per patient: median (least–most)", head, tuple(rows))


def _patients(results: Sequence[ModelResult]) -> Table:
    every = zip(*(result.table.patients for result in results), strict=True)
    return Table(
        "Rightly classified, patient by patient",
        ("Patient", "Class", "Images", *(result.model for result in results)),
        tuple((row[0].patient, row[0].label, str(row[0].n), *(f"{one.accuracy:.0%}" for one in row)) for row in every),
    )


def _training(comparison: Comparison) -> Table:
    rows = tuple(
        (result.model, f"{result.seconds / 60:.1f}", f"{result.seconds / result.epochs:.0f}")
        for result in comparison.results
    )
    return Table("Training, all folds", ("Model", "Together (min)", "An epoch (s)"), rows)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
