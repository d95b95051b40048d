"""The command `dala`: a few lines over the layers below. Torch and napari load only in the commands that need them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from napari_dala.errors import DalaError

_COMMANDS = {
    "info": "Print a slide's size, levels and resolution.",
    "analyze": "Run a model on slides; write maps, tables and a report.",
    "explain": "Explain one patch: as it is, Grad-CAM, DT Grad-CAM.",
    "explain-eval": "Measure how good the explanations are.",
    "demo": "Draw the teaching slide and analyse it.",
    "train": "Train a network on labelled photographs.",
    "evaluate": "Score a model on labelled photographs.",
    "compare": "Train several networks under one split; compare them.",
    "finetune": "Retrain a model on regions drawn on slides.",
    "bench": "Measure how fast this machine is.",
    "models": "List, show and import model bundles.",
}


class _LazyCommands(TyperGroup):
    """Commands in modules of their names, each imported when it is used and not for the list of them all."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = import_module(f"{__name__}.{name}")
        if hasattr(module, "app"):  # a group of its own
            return get_command(module.app)
        alone = typer.Typer(**_PLAIN)
        alone.command(cmd_name)(getattr(module, name))
        return get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


_PLAIN: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # rich's import takes longer than all else that --help does
}
app = typer.Typer(
    name="dala",
    cls=_LazyCommands,
    help="DALAResNet50 and DT Grad-CAM over whole-slide images. Research use only.",
    no_args_is_help=True,
    **_PLAIN,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from napari_dala import __version__

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
