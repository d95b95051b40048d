"""`dala evaluate`: how good a bundle is on labelled photographs."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli import console, options
from napari_dala.cli.recipe import NETWORKS
from napari_dala.datasets.images import ImageDataset


@options.with_options(images=options.labelled_images)
def evaluate(
    images: ImageDataset,
    model: str = typer.Argument(
        help=f"Name or file of a bundle; `dala compare` trains and measures several networks: {NETWORKS}."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1, mps."),
    out: Path | None = typer.Option(None, "--out", help="JSON file for the figures."),
) -> None:
    """Score a bundle on labelled photographs, at its own resolution and tile size, with intervals by patient."""
    from napari_dala.evaluation.photographs import evaluate as measure
    from napari_dala.files import write_json
    from napari_dala.model.bundle import load_model

    bundle = load_model(model)
    console.say(images.summary)
    evaluation = measure(bundle, images, device=device)
    if out:
        write_json(
            out,
            {"model": bundle.card.name, "hash": bundle.hash, "dataset": images.name, **evaluation.table.as_json()}
            | {"by_set": {name: table.as_json() for name, table in evaluation.by_set.items()}},
        )
    console.show_sets(evaluation.by_set)
    console.show(evaluation.table, f"{bundle.card.name} on {images.name}: {len(images)} photographs")
