"""What commands print alike: figures, tables, progress of a training, warnings and failures."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from napari_dala.training.epochs import Epoch


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from napari_dala.evaluation.tables import Table as ReportTable
    from napari_dala.metrics.scores import ScoreTable


if TYPE_CHECKING:
    from napari_dala.model.card import ModelCard


def warn_of(card: ModelCard) -> None:
    """Say of a model what must be known before its numbers are believed."""
    if card.warning:
        typer.secho(f"Model “{card.name}” is {card.warning}", fg="yellow", err=True)


def tell_no_tissue(path: Path) -> None:
    """Say that a slide has nothing to analyse."""
    typer.secho(f"{path.name}: no tissue found; nothing was analysed", fg="yellow", err=True)


def report_failures(failures: list[str], done: int, incomplete: Sequence[str] = ()) -> None:
    """Say why slides could not be done, or not wholly, and exit: code 1, or 2 when none was done."""
    for line in (*failures, *incomplete):
        typer.secho(f"dala: {line}", fg="red", err=True)
    if failures and done + len(failures) > 1:
        typer.echo(f"{done} of {done + len(failures)} slides done, {len(failures)} failed.", err=True)
    if failures or incomplete:
        raise typer.Exit(1 if done else 2)


@contextmanager
def saying_what_is_kept() -> Iterator[None]:
    """When interrupted or told to end, say how to go on; exit code 130 or 143."""

    def end(*_: object) -> None:
        raise _Ended

    before = signal.signal(signal.SIGTERM, end) if threading.current_thread() is threading.main_thread() else None
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("Stopped. What is stored is kept: the same command goes on from there.", err=True)
        raise typer.Exit(143 if isinstance(error, _Ended) else 130) from None
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class _Ended(KeyboardInterrupt):
    """SIGTERM came."""


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


def has_display() -> bool:
    """Return True where a window can be shown."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def tell(row: Epoch, epochs: int) -> None:
    """Print the figures of an epoch."""
    held_out = "" if row.val_loss is None else f", held out: loss {row.val_loss:.4f}, GMean {row.val_gmean:.3f}"
    typer.echo(
        f"epoch {row.epoch + 1}/{epochs}: loss {row.train_loss:.4f}, accuracy {row.train_accuracy:.3f}"
        f"{held_out} ({row.seconds:.1f} s)"
    )


def command_line() -> str:
    """Return the command line for the record: names of files and folders without where they lie."""
    return shlex.join(["dala", *(Path(part).name if os.sep in part else part for part in sys.argv[1:])])


def progress_bar(first: str, unit: str = "") -> Bar:
    """Return a bar on standard error; its tasks have the fields that `pace_fields` gives."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    texts = (TextColumn(text) for text in (unit, "{task.fields[rate]}", "{task.fields[left]}") if text)
    return Progress(TextColumn(first), BarColumn(), MofNCompleteColumn(), *texts, console=Console(stderr=True))


def pace_fields(tiles_per_s: float = 0.0, seconds_left: float | None = None) -> dict[str, str]:
    """Return how fast it goes and how long it takes still, in words."""
    left = "" if seconds_left is None else f"{timedelta(seconds=int(seconds_left))} left"
    return {"rate": f"{tiles_per_s:.1f} tiles/s" if tiles_per_s else "", "left": left}
