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
    rich_markup_mode=None,  # rich's import takes longer than all else that --help does
)
for command, summary in (
    (info.info, "Print a slide's size, levels and resolution."),
    (analyze.analyze, "Run a model on slides; write maps, tables and a report."),
    (explain.explain, "Explain one patch: as it is, Grad-CAM, DT Grad-CAM."),
    (explain_eval.explain_eval, "Measure how good the explanations are."),
    (demo.demo, "Draw the teaching slide and analyse it."),
    (train.train, "Train a network on labelled photographs."),
    (evaluate.evaluate, "Score a model on labelled photographs."),
    (compare.compare, "Train several networks under one split; compare them."),
    (finetune.finetune, "Retrain a model on regions drawn on slides."),
    (bench.bench, "Measure how fast this machine is."),
):
    app.command(short_help=summary)(command)
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
