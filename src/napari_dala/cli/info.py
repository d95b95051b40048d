"""`dala info`: what a slide is."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli.console import say_json


def info(
    slide: Path = typer.Argument(help="A slide, a photograph, a DICOM folder, or an OME-Zarr (also an address)."),
) -> None:
    """Print a slide's size, levels, resolution and fingerprint as JSON."""
    from napari_dala.slide import open_slide

    with open_slide(slide) as opened:
        say_json(opened.properties)
