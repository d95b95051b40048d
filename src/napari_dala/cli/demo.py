"""`dala demo`: the teaching slide, analysed, with or without a display."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli.console import has_display, say
from napari_dala.errors import DalaError


def demo(
    headless: bool = typer.Option(False, "--headless", help="Open no window; write pictures, report and tables."),
    side: int = typer.Option(4096, min=512, help="Side of the drawn slide in pixels."),
    out: Path = typer.Option(Path("dala-demo"), "--out", help="Folder for the headless results."),
) -> None:
    """Draw the teaching slide and analyse it: in napari where there is a display, else into a folder."""
    from napari_dala.slide.teaching.slide import cached_teaching_slide

    typer.echo("Drawing the teaching slide (a drawing of tissue, not a patient's)...")
    slide = cached_teaching_slide(side)
    if not headless and has_display():
        try:
            from napari_dala.plugin.demo import show_demo
        except ImportError as error:
            raise DalaError(
                f"napari's window cannot open ({error}); install napari-dala[all], or use --headless"
            ) from error
        show_demo(slide)
        return
    from napari_dala.cli.analyze import analyze_slides
    from napari_dala.model.catalog import TEACHING
    from napari_dala.results.request import AnalysisRequest

    folders = analyze_slides([slide], AnalysisRequest(out=out, model=TEACHING))
    for folder in folders:
        for name in ("overview.png", "report.html", "tiles.csv", "regions.geojson"):
            say((folder / name).resolve())
