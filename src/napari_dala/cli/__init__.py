"""The command `dala`: a few lines over the floors below. Torch and napari load only in the commands that need them."""

from __future__ import annotations

import sys

import typer

from napari_dala import __version__
from napari_dala.cli import (
    analyze,
    bench,
    compare,
    demo,
    evaluate,
    explain,
    explain_eval,
    finetune,
    info,
    models,
    train,
)
from napari_dala.errors import DalaError

app = typer.Typer(
    name="dala",
    help="DALAResNet50 and DT Grad-CAM over whole-slide images. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(info.info)
app.command()(analyze.analyze)
app.command()(explain.explain)
app.command()(explain_eval.explain_eval)
app.command()(demo.demo)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(finetune.finetune)
app.command()(bench.bench)
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of `dala` itself."""


def main() -> None:
    """Run `dala`; what the user can mend is one line on standard error, exit code 2."""
    try:
        app()
    except DalaError as error:
        print(f"dala: {error}", file=sys.stderr)
        sys.exit(2)
