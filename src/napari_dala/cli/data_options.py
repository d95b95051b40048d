"""What `dala train` and `dala evaluate` ask alike: the data set, and how its scores are shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_dala.training.compare_report import Table as ReportTable
    from napari_dala.training.datasets import ImageDataset, Kind
    from napari_dala.training.metrics import ScoreTable

DATASET = typer.Option(..., "--dataset", help="breakhis, bach, mini-ddsm or folder (one folder per class).")
ROOT = typer.Option(..., "--root", help="The data set's folder.")
MAGNIFICATION = typer.Option(None, "--magnification", help="Of BreakHis: 40, 100, 200 or 400.")
MPP = typer.Option(
    None, "--mpp", min=0.01, max=100, help="Micrometres per pixel of the images, where the data set does not say it."
)


def load(kind: str, root: Path, magnification: int | None, mpp: float | None) -> ImageDataset:
    """List the images; `mpp` is for data sets that do not know theirs."""
    from napari_dala.training.datasets import load_dataset

    dataset = load_dataset(cast("Kind", kind), root, magnification=magnification)
    if mpp is None:
        return dataset
    if dataset.mpp is not None:
        raise DatasetError(f"{dataset.name}: its resolution is known, {dataset.mpp:.3f} um/px; leave --mpp out")
    return replace(dataset, mpp=mpp)


def show(table: ScoreTable, title: str) -> None:
    """Print figures with their intervals, then patient by patient, then what must be read beside them."""
    from rich.console import Console
    from rich.table import Table

    scores = table.scores
    figures = Table("figure", "value (95 % interval)", title=title)
    rows = [("accuracy", scores.accuracy), ("F1", scores.f1), ("IBA", scores.iba), ("GMean", scores.gmean)]
    rows += [(f"recall {name}", value) for name, value in zip(table.classes, scores.recall, strict=True)]
    rows += [("calibration error", scores.ece), ("AUROC", scores.auroc)]
    for name, value in rows:
        figures.add_row(name, str(value))
    console = Console()
    console.print(figures)
    if table.patients:
        patients = Table("patient", "class", "images", "right", title=f"{table.n_patients} patients")
        for row in table.patients:
            patients.add_row(row.patient, row.label, str(row.n), f"{row.accuracy:.0%}")
        console.print(patients)
    for note in table.notes:
        console.print(f"Note: {note}", markup=False, highlight=False)


def show_tables(tables: Iterable[ReportTable], notes: Iterable[str]) -> None:
    """Print the tables of a report, then what must be read beside them."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for table in tables:
        shown = Table(title=table.title)
        for name in table.head:
            shown.add_column(name, overflow="fold")  # narrow terminals lose nothing
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for note in notes:
        console.print(f"Note: {note}", markup=False, highlight=False)
