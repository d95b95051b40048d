"""What commands print alike: figures, tables, progress of a training, warnings and failures."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import sys
import traceback
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_dala.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.progress import Progress as Bar

    from napari_dala.evaluation.tables import Table as ReportTable
    from napari_dala.metrics.scores import ScoreTable
    from napari_dala.model.card import ModelCard
    from napari_dala.training.epochs import Epoch
    from napari_dala.training.photographs.run_folder import State

DEBUG = "DALA_DEBUG"
"""Environment variable that is set where tracebacks are wanted."""
_GOES_ON = {
    "analyze": "what is analysed is kept; the same command goes on from there",
    "demo": "what is analysed is kept; the same command goes on from there",
    "train": "finished epochs are kept; the same command with --resume goes on from there",
    "reproduce": "finished epochs are kept; the same command goes on from there",
    "compare": "finished epochs are kept; the same command goes on from there",
    "attention-train": "finished epochs are kept; the same command goes on from there",
    "finetune": "what is learned is kept; `dala finetune --out FOLDER` goes on from there",
}
_WHAT_TO_DO = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose one that you may read or write",
    errno.EPERM: "choose one that you may read or write",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def say(text: object, *, err: bool = False, fg: str | None = None) -> None:
    """Print a line, on standard error with `err`; what would steer the terminal is shown escaped."""
    typer.secho(shown(text), err=err, fg=fg)


def warn(text: object) -> None:
    """Print a line that stands out, on standard error."""
    say(text, err=True, fg="yellow")


def say_json(value: Any) -> None:
    """Print a value as indented JSON; what would steer the terminal is written as JSON's escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo("\n".join(json_escaped(line) for line in text.split("\n")))


def json_escaped(line: str) -> str:
    """Return a line of JSON with everything that `shown` would escape as an escape of JSON."""
    return "".join(char if shown(char) == char else f"\\u{ord(char):04x}" for char in line)


def screen(*, stderr: bool = False) -> Console:
    """Return rich's console for text from anywhere: brackets are no markup, what steers the terminal is escaped."""
    from rich.console import Console

    class Screen(Console):
        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(shown(text), **options)

    return Screen(stderr=stderr, markup=False, emoji=False, highlight=False)


def show_traceback(error: BaseException) -> None:
    """Print where an error comes from, if `--debug` asks for that."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)


def line_of(error: BaseException) -> str:
    """Return one line for an error that a user can act on: which file, what is wrong, what to do."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; close other programs, or choose a smaller part"
    if not isinstance(error, OSError) or error.strerror is None:
        return shown(error) or type(error).__name__
    names = (name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes)))
    files = " -> ".join(map(os.fsdecode, names))
    what = error.strerror[:1].lower() + error.strerror[1:]
    to_do = _WHAT_TO_DO.get(error.errno or 0)
    return shown(": ".join(part for part in (files, what) if part) + (f"; {to_do}" if to_do else ""))


def warn_of(card: ModelCard) -> None:
    """Say of a model what must be known before its numbers are believed."""
    if card.warning:
        warn(f"Model “{card.name}” is {card.warning}")


def tell_no_tissue(path: Path) -> None:
    """Say that a slide has nothing to analyse."""
    warn(f"{path.name}: no tissue found; nothing was analysed")


def report_failures(failures: list[str], done: int, incomplete: Sequence[str] = ()) -> None:
    """Say why slides could not be done, or not wholly, and exit: code 1, or 2 when none was done."""
    for line in (*failures, *incomplete):
        say(f"dala: {line}", err=True, fg="red")
    if failures and done + len(failures) > 1:
        say(f"{done} of {done + len(failures)} slides done, {len(failures)} failed.", err=True)
    if failures or incomplete:
        raise typer.Exit(1 if done else 2)


class CommandStopped(Exception):
    """Ctrl-C or SIGTERM came; its text says how to go on, `code` is the exit code."""

    def __init__(self, command: str | None, code: int) -> None:
        super().__init__(": ".join(part for part in ("stopped", _GOES_ON.get(command or "")) if part))
        self.code = code


class Terminated(KeyboardInterrupt):
    """SIGTERM came: everything is tidied up as after Ctrl-C."""


@contextmanager
def saying_what_is_kept(context: typer.Context) -> Iterator[None]:
    """Raise `CommandStopped` where the command that is run in the block is interrupted or told to end."""
    try:
        yield
    except KeyboardInterrupt as error:
        code = 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
        raise CommandStopped(context.invoked_subcommand, code) from error


def show(table: ScoreTable, title: str) -> None:
    """Print figures with their intervals, then patient by patient, then what must be read beside them."""
    from rich.table import Table

    scores = table.scores
    figures = Table("figure", "value (95 % interval)", title=title)
    rows = [("accuracy", scores.accuracy), ("F1", scores.f1), ("IBA", scores.iba), ("GMean", scores.gmean)]
    rows += [(f"recall {name}", value) for name, value in zip(table.classes, scores.recall, strict=True)]
    rows += [("calibration error", scores.ece), ("AUROC", scores.auroc)]
    for name, value in rows:
        figures.add_row(name, str(value))
    console = screen()
    console.print(figures)
    if table.patients:
        patients = Table("patient", "class", "images", "right", title=f"{table.n_patients} patients")
        for row in table.patients:
            patients.add_row(row.patient, row.label, str(row.n), f"{row.accuracy:.0%}")
        console.print(patients)
    for note in table.notes:
        console.print(f"Note: {note}")


def show_sets(tables: Mapping[str, ScoreTable]) -> None:
    """Print the figures of each data set in a row."""
    if not tables:
        return
    from rich.table import Table

    rows = Table("data set", "images", "patients", "accuracy", "GMean", "AUROC", title="by data set")
    for name, table in tables.items():
        scores = table.scores
        figures = [str(figure) for figure in (scores.accuracy, scores.gmean, scores.auroc)]
        rows.add_row(name, str(table.n), str(table.n_patients or "–"), *figures)
    screen().print(rows)


def show_tables(tables: Iterable[ReportTable], notes: Iterable[str]) -> None:
    """Print the tables of a report, then what must be read beside them."""
    from rich.table import Table

    console = screen()
    for table in tables:
        rows = Table(title=table.title)
        for name in table.head:
            rows.add_column(name, overflow="fold")  # narrow terminals lose nothing
        for row in table.rows:
            rows.add_row(*row)
        console.print(rows)
    for note in notes:
        console.print(f"Note: {note}")


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


def tell_photographs(done: int, count: int) -> None:
    """Print how many of how many photographs are done."""
    typer.echo(f"photograph {done}/{count}")


def tell_run(model: str, fold: int, state: State) -> None:
    """Print what becomes of a run of several."""
    said = {"finished": "finished already", "interrupted": "resuming an interrupted run", "new": "training"}
    say(f"{model}, fold {fold}: {said[state]}")


def command_line() -> str:
    """Return the command line for the record: names of files and folders without where they lie."""
    return shown(shlex.join(["dala", *(Path(part).name if os.sep in part else part for part in sys.argv[1:])]))


def progress_bar(first: str, unit: str = "") -> Bar:
    """Return a bar on standard error; its tasks have the fields that `pace_fields` gives."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    begin, *texts = (
        TextColumn(text, markup=False) for text in (first, unit, "{task.fields[rate]}", "{task.fields[left]}") if text
    )
    return Progress(begin, BarColumn(), MofNCompleteColumn(), *texts, console=screen(stderr=True))


def pace_fields(tiles_per_s: float = 0.0, seconds_left: float | None = None) -> dict[str, Any]:
    """Return how fast it goes and how long it takes still, in words."""
    left = "" if seconds_left is None else f"{timedelta(seconds=int(seconds_left))} left"
    return {"rate": f"{tiles_per_s:.1f} tiles/s" if tiles_per_s else "", "left": left}
