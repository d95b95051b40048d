"""What `dala train` and `dala evaluate` ask alike: the data set, and how its scores are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_dala.evaluation.compare.report import Table as ReportTable
    from napari_dala.datasets.folders import GroupBy, Kind
    from napari_dala.datasets.images import ImageDataset
    from napari_dala.metrics.scores import ScoreTable

DATASET = typer.Option(
    ...,
    "--dataset",
    help="breakhis, ucsb, bach, mini-ddsm or folder (one folder per class). Several times, each with its --root.",
)
ROOT = typer.Option(..., "--root", help="The data set's folder.")
GROUP = typer.Option(
    None, "--group", help="What a split keeps together. Of ucsb: file or array. Of folder: likeness of the images."
)
MAGNIFICATION = typer.Option(None, "--magnification", help="Of BreakHis: 40, 100, 200 or 400.")
MPP = typer.Option(
    [], "--mpp", min=0.01, max=100, help="Micrometres per pixel of images of which the data set does not say it."
)


def load(
    kinds: Sequence[str],
    roots: Sequence[Path],
    magnification: int | None,
    mpp: Sequence[float],
    group: str | None = None,
) -> ImageDataset:
    """List the images of all data sets together.

    `magnification` is for BreakHis and `group` for sets that know it; `mpp` has a number for all sets that do not know
    theirs, or one for each of these in their order.
    """
    from napari_dala.datasets.folders import GROUPS, load_dataset
    from napari_dala.datasets.images import joined_datasets

    if len(kinds) != len(roots):
        raise DatasetError(f"--dataset is there {len(kinds)} times and --root {len(roots)} times; give each its own")
    takes_power = [kind == "breakhis" for kind in kinds]
    takes_group = [group in GROUPS.get(kind, ()) for kind in kinds]
    sets = [
        load_dataset(
            cast("Kind", kind),
            root,
            magnification=magnification if power or not any(takes_power) else None,
            group=cast("GroupBy | None", group if grouped or not any(takes_group) else None),
        )
        for kind, root, power, grouped in zip(kinds, roots, takes_power, takes_group, strict=True)
    ]
    unknown = [place for place, one in enumerate(sets) if one.mpp is None]
    if mpp and not unknown:
        raise DatasetError(f"{sets[0].name}: its resolution is known, {sets[0].mpp:.3f} um/px; leave --mpp out")
    if mpp and len(mpp) not in (1, len(unknown)):
        raise DatasetError(f"--mpp is there {len(mpp)} times; give it once, or for each of {len(unknown)} data sets")
    for place, value in zip(unknown, mpp if len(mpp) > 1 else list(mpp) * len(unknown), strict=False):
        sets[place] = sets[place].with_mpp(value)
    return joined_datasets(sets)


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


def show_sets(tables: Mapping[str, ScoreTable]) -> None:
    """Print the figures of each data set in a row."""
    if not tables:
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table("data set", "images", "patients", "accuracy", "GMean", "AUROC", title="by data set")
    for name, table in tables.items():
        scores = table.scores
        figures = [str(figure) for figure in (scores.accuracy, scores.gmean, scores.auroc)]
        shown.add_row(name, str(table.n), str(table.n_patients or "–"), *figures)
    Console().print(shown)


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
