"""`dala bench`: how fast this machine is on a slide."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_dala.cli.console import has_display, say_json, screen
from napari_dala.cli.options import SLIDE_MPP
from napari_dala.errors import DalaError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCALING_CELLS, CELL_PX = (8, 16, 32, 64), 384


def bench(
    slides: list[Path] = typer.Argument(None, help="A slide with some tissue; with --scaling several, or none."),
    model: str = typer.Option("default", help="Name or file of a bundle."),
    mpp: float | None = SLIDE_MPP,
    device: str = typer.Option("auto"),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
    workers: int = typer.Option(0, min=0, help="Readers of tiles; 0: as the device needs."),
    decode_on_device: bool = typer.Option(False, "--decode-on-device", help="Decode JPEG tiles on the GPU."),
    repeats: int = typer.Option(5, min=1, help="Turns to take medians of."),
    against: str | None = typer.Option(None, help="Measure this in the same run: pytorch-grad-cam."),
    scaling: bool = typer.Option(
        False,
        "--scaling",
        help="Measure instead how the time grows with the slide: over the slides given, or else over drawn ones of 8, "
        "16, 32 and 64 cells of 384 px a side.",
    ),
    gui: bool = typer.Option(
        False,
        "--gui",
        help="Measure instead how late napari's window is while the slide is panned: alone, beside an analysis and "
        "beside a learning job.",
    ),
    seconds: float = typer.Option(8.0, min=2, help="With --gui: how long each of the three is measured in a turn."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Measure network, Grad-CAM, reading and the whole pipeline in one run; or how they scale; or the window."""
    if not scaling and len(slides or ()) != 1:
        raise DalaError("give one slide to measure on, or --scaling")
    if gui:
        figures = _of_window(slides[0], model, repeats, seconds)
    else:
        from napari_dala.analysis import bench as measure
        from napari_dala.inference.predictor import Predictor
        from napari_dala.model.bundle import load_model
        from napari_dala.slide import open_slide

        predictor = Predictor(load_model(model), device, precision)
        with ExitStack() as stack:
            if scaling:
                opened = (stack.enter_context(open_slide(path, mpp=mpp)) for path in slides or _drawn_slides())
                figures = measure.scaling(opened, predictor, workers=workers)
            else:
                slide = stack.enter_context(open_slide(slides[0], mpp=mpp))
                figures = measure.bench(
                    slide,
                    predictor,
                    repeats=repeats,
                    workers=workers,
                    decode_on_device=decode_on_device,
                    against=against,
                )
    if as_json:
        say_json(figures)
        return
    from rich.table import Table

    console = screen()
    if rows := figures.pop("slides", None):
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*map(str, row.values()))
        console.print(table)
    table = Table("figure", "value")
    for name, value in figures.items():
        for line, text in value.items() if isinstance(value, dict) else ((name, value),):
            table.add_row(str(line), _described(text))
    console.print(table)


def _drawn_slides() -> Iterator[Path]:
    """Yield drawn slides of growing size, each drawn when it is asked for and kept for the next time."""
    from napari_dala.slide.teaching.slide import cached_teaching_slide

    return (cached_teaching_slide(cells * CELL_PX) for cells in SCALING_CELLS)


def _of_window(slide: Path, model: str, rounds: int, seconds: float) -> dict[str, Any]:
    if not has_display():
        raise DalaError("no display: --gui opens a napari window; run it where there is one, or under xvfb-run")
    try:
        from napari_dala.plugin.bench.bench import bench_gui
    except ImportError as error:
        raise DalaError(f"napari's window cannot open ({error}); install napari-dala[all]") from error
    return bench_gui(slide, model, rounds=rounds, seconds=seconds)


def _described(value: object) -> str:
    """Return a figure, or those of one callback."""
    if not isinstance(value, dict):
        return str(value)
    return f"longest {value['longest_ms']} ms, of processor time {value['longest_cpu_ms']} ms; {value['calls']} calls"
