"""`dala bench`: how fast this machine is on a slide."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def bench(
    slide: Path = typer.Argument(help="A slide with some tissue."),
    model: str = typer.Option("default", help="Name or file of a bundle."),
    mpp: float | None = typer.Option(None, help="Micrometres per pixel of the slide."),
    device: str = typer.Option("auto"),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
    workers: int = typer.Option(1, min=1, help="Threads that read tiles."),
    repeats: int = typer.Option(5, min=1, help="Turns to take medians of."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Measure the bare forward pass, forward + Grad-CAM and the whole pipeline, in one run."""
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
        table.add_row(name, str(value))
    Console().print(table)
