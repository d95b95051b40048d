"""`dala bench`: how fast this machine is on a slide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from napari_dala.cli.display import has_display
from napari_dala.errors import DalaError


def bench(
    slide: Path = typer.Argument(help="A slide with some tissue."),
    model: str = typer.Option("default", help="Name or file of a bundle."),
    mpp: float | None = typer.Option(None, help="Micrometres per pixel of the slide."),
    device: str = typer.Option("auto"),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
    workers: int = typer.Option(1, min=1, help="Threads that read tiles."),
    repeats: int = typer.Option(5, min=1, help="Turns to take medians of."),
    gui: bool = typer.Option(
        False,
        "--gui",
        help="Measure instead how late napari's window is while the slide is panned: alone, beside an analysis and "
        "beside a learning job.",
    ),
    seconds: float = typer.Option(8.0, min=2, help="With --gui: how long each of the three is measured in a turn."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Measure the bare forward pass, forward + Grad-CAM and the whole pipeline, in one run; or the window (--gui)."""
    if gui:
        figures = _of_window(slide, model, repeats, seconds)
    else:
        from napari_dala.analysis.bench import bench as measure
        from napari_dala.analysis.predictor import Predictor
        from napari_dala.model.bundle import load_model
        from napari_dala.slide import open_slide

        with open_slide(slide, mpp=mpp) as opened:
            figures = measure(opened, Predictor(load_model(model), device, precision), repeats=repeats, workers=workers)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value")
    for name, value in figures.items():
        for line, text in value.items() if isinstance(value, dict) else ((name, value),):
            table.add_row(str(line), _described(text))
    Console().print(table)


def _of_window(slide: Path, model: str, rounds: int, seconds: float) -> dict[str, Any]:
    if not has_display():
        raise DalaError("no display: --gui opens a napari window; run it where there is one, or under xvfb-run")
    try:
        from napari_dala.plugin.bench_gui import bench_gui
    except ImportError as error:
        raise DalaError(f"napari's window cannot open ({error}); install napari-dala[all]") from error
    return bench_gui(slide, model, rounds=rounds, seconds=seconds)


def _described(value: object) -> str:
    """Return a figure, or those of one callback."""
    if not isinstance(value, dict):
        return str(value)
    return f"longest {value['longest_ms']} ms, of processor time {value['longest_cpu_ms']} ms; {value['calls']} calls"
