"""The command `dala`: a few lines over the layers below. Torch and napari load only in the commands that need them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from napari_dala.cli.console import DEBUG, CommandStopped, Terminated, line_of, say, saying_what_is_kept, show_traceback
from napari_dala.errors import DalaError, shown

if TYPE_CHECKING:
    from types import FrameType

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
    "attention": "Measure what the attention does to a model.",
    "attention-train": "Train with and without attention under imbalance.",
    "explain-cases": "Show single maps of left-out patients, with what was measured.",
    "reader-study": "Make blinded forms for readers; score filled ones.",
    "reproduce": "Train by the paper's recipe, split by image and by patient.",
    "bench": "Measure how fast this machine is.",
    "models": "List, show, import, fetch and export models.",
}
_IN_PAPER = frozenset({"attention", "attention-train", "explain-cases", "reader-study", "reproduce"})  # in `cli/paper`


class _LazyCommands(TyperGroup):
    """Commands in modules of their names, each imported when it is used and not for the list of them all."""

    def invoke(self, ctx: Any) -> Any:
        with saying_what_is_kept(ctx):  # typer would exit without a word
            try:
                return super().invoke(ctx)
            except Exception as error:
                if hasattr(error, "format_message"):  # typer's, about what was typed
                    vars(error)["message"] = shown(vars(error).get("message", ""))
                raise

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = import_module(f"{__name__}.paper.{name}" if cmd_name in _IN_PAPER else f"{__name__}.{name}")
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
    debug: bool = typer.Option(False, "--debug", help=f"Show where an error comes from; also with {DEBUG}=1."),
) -> None:
    """Options of `dala` itself."""
    if debug:
        os.environ[DEBUG] = "1"  # for the processes that this one starts, too


def main() -> None:
    """Run `dala`: what goes wrong is one line on standard error.

    Exit codes: 2 for what the user can mend, 1 for a fault of this program, 130 after Ctrl-C, 143 after SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the terminal's encoding lacks is replaced
            stream.reconfigure(errors="replace")
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _terminate)
        if hasattr(os, "register_at_fork"):  # the helper processes of torch are ended by it and must not tidy up
            os.register_at_fork(after_in_child=_die_of_sigterm)
    try:
        app()
    except CommandStopped as error:
        _end(str(error), error, error.code)
    except KeyboardInterrupt as error:
        _end("stopped", error, 128 + signal.SIGINT)
    except (DalaError, OSError, ValueError, MemoryError) as error:
        _end(line_of(error), error, 2)
    except Exception as error:
        if "allocate memory" in str(error) or type(error).__name__ == "OutOfMemoryError":  # torch's
            _end(line_of(MemoryError()), error, 2)
        what = f"{type(error).__name__}: {line_of(error)}"
        _end(f"this is a fault of napari-dala: {what}; run it again as `dala --debug ...` and report it", error, 1)


def _end(line: str, error: BaseException, code: int) -> NoReturn:
    show_traceback(error)
    say(f"dala: {line}", err=True)
    sys.exit(code)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _die_of_sigterm() -> None:
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
