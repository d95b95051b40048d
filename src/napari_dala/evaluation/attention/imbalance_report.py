"""A study of imbalance as tables, a plot and one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.evaluation.attention.imbalance import FIGURES, WITH, WITHOUT
from napari_dala.evaluation.attention.panels import beyond_chance, difference_panels, figure_key, heading
from napari_dala.evaluation.figures import write_figures
from napari_dala.evaluation.page import evaluation_page
from napari_dala.evaluation.tables import Table, signed
from napari_dala.files import csv_text, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_dala.evaluation.attention.imbalance import ImbalanceStudy, RatioResult
    from napari_dala.metrics.scores import Estimate

_CAPTION = (
    "What the attention adds when it is trained with: figures with it less figures without it, on the same held-out "
    "photographs. Filled dot and line: mean of the seeds, 95 % interval. Hollow dots: single seeds."
)


def tables(study: ImbalanceStudy) -> list[Table]:
    """Return the tables: figures of both networks, differences, and those of single seeds."""
    classes = study.dataset.classes
    headings = [heading(name, classes) for name in FIGURES]
    seeds = f"{len(study.seeds)} seed{'s'[: len(study.seeds) > 1]}"
    return [
        Table(
            f"Held-out figures, mean of {seeds} (95 % interval)",
            ("Class ratio in training", "Network", "Photographs", "Patients", *headings),
            tuple(
                (_title(study, result), model, *_trained_on(result), *(str(found[name]) for name in FIGURES))
                for result in study.results
                for model, found in result.figures.items()
            ),
        ),
        Table(
            f"{WITH} less {WITHOUT} on the same photographs (95 % interval)",
            ("Class ratio in training", *headings),
            tuple(
                (_title(study, result), *(signed(result.differences[name]) for name in FIGURES))
                for result in study.results
            ),
        ),
        Table(
            "The same of each seed",
            ("Class ratio in training", "Seed", *headings),
            tuple(
                (_title(study, result), str(seed), *(_plus(found[name]) for name in FIGURES))
                for result in study.results
                for seed, found in zip(study.seeds, result.by_seed, strict=True)
            ),
        ),
    ]


def write_report(study: ImbalanceStudy, out: Path) -> list[Path]:
    """Write imbalance.html, .csv and .json and the plot into a folder; return their paths."""
    write_json(out / "imbalance.json", study.as_json())
    write_text(out / "imbalance.csv", as_csv(study))
    single = {_title(study, result): result.by_seed for result in study.results}
    labels = "with less without the attention", "class ratio in training"
    figure = difference_panels(differences(study), study.dataset.classes, labels, single)
    unit = "patients" if study.dataset.patients_known else "images"
    words = [
        "Asked: does the channel attention help the rare class? Both networks learned from the same photographs, in "
        "every ratio equally many, and were judged on the same held-out ones, whose ratio was left as it is. A "
        f"photograph counts as its likelier class. Photographs are drawn alike: balance “{study.settings.balance}”.",
        "With the attention, against without it:",
        *beyond_chance(differences(study), study.dataset.classes),
    ]
    held_out = f"{study.held_out[0]} photographs of {study.held_out[1]} {unit} held out in {len(study.folds)} fold"
    page = evaluation_page(
        f"The attention under class imbalance: {study.dataset.name}",
        f"{study.dataset.summary}; {held_out}{'s'[: len(study.folds) > 1]}. {study.command}",
        words,
        tables(study),
        notes(study),
        {_CAPTION: figure},
    )
    write_text(out / "imbalance.html", page)
    plots = write_figures({"imbalance": figure}, out)
    return [*(out / f"imbalance.{kind}" for kind in ("html", "csv", "json")), *plots]


def notes(study: ImbalanceStudy) -> list[str]:
    """Return what must be read beside the figures."""
    return [
        "the intervals are by patient at these seeds: how much the seeds themselves differ, the hollow dots show",
        "the network without the attention is the same but for the gates, so it has fewer weights",
        *study.notes,
    ]


def as_csv(study: ImbalanceStudy) -> str:
    """Return a row per class ratio and network, and one for the difference."""
    classes = study.dataset.classes
    rows = []
    for result in study.results:
        for model, found in (*result.figures.items(), ("difference", result.differences)):
            row: dict[str, object] = {"ratio": _title(study, result), "network": model}
            row |= {f"photographs_{name}": n for name, n in zip(classes, result.photographs, strict=True)}
            for name, value in found.items():
                row |= value.as_columns(figure_key(name, classes))
            rows.append(row)
    return csv_text(rows)


def differences(study: ImbalanceStudy) -> dict[str, Mapping[str, Estimate]]:
    """Return the differences by class ratio."""
    return {_title(study, result): result.differences for result in study.results}


def _title(study: ImbalanceStudy, result: RatioResult) -> str:
    return result.ratio.title(study.dataset.classes)


def _trained_on(result: RatioResult) -> tuple[str, str]:
    """Return the counts of both classes: photographs, and patients from the fewest to the most of all runs."""
    patients = (f"{low}–{high}" if low < high else str(low) for low, high in result.patients)
    return " + ".join(map(str, result.photographs)), " + ".join(patients)


def _plus(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"
