"""`dala train`: a network from labelled photographs."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli import console, options
from napari_dala.cli.recipe import NETWORKS, RECIPE, check_scale
from napari_dala.datasets.images import ImageDataset
from napari_dala.datasets.splits import Split, folds_of, holdout, nothing_held_out
from napari_dala.training.settings import TrainSettings


@options.with_options(images=options.labelled_images, settings=RECIPE)
def train(
    images: ImageDataset,
    settings: TrainSettings,
    out: Path = typer.Option(..., "--out", help="Folder of the run."),
    protocol: str = options.PROTOCOL,
    folds: int = options.FOLDS,
    fold: int | None = typer.Option(
        None, min=1, help="The fold to hold out, from 1. Without it one of --folds parts of the patients is held out."
    ),
    everything: bool = typer.Option(False, "--all", help="Hold nobody out, once the folds were measured."),
    model: str = typer.Option("dalaresnet50", help=f"{NETWORKS}."),
    init: str | None = typer.Option(None, help="Name or file of a bundle to begin from."),
    resume: bool = typer.Option(False, "--resume", help="Go on with an interrupted run in --out."),
) -> None:
    """Train a network on labelled photographs and measure it on patients that it never saw."""
    check_scale(images, [model])
    split = nothing_held_out(len(images)) if everything else _split(images, protocol, folds, fold, settings.seed)
    console.say(images.summary)

    from napari_dala.model.bundle import load_model
    from napari_dala.results.model_check import PAGE_FILE
    from napari_dala.training.photographs.fit import train as fit

    result = fit(
        images,
        split,
        settings,
        out,
        model=model,
        init=load_model(init) if init else None,
        resume=resume,
        command=console.command_line(),
        on_epoch=lambda row: console.tell(row, settings.epochs),
        on_note=console.warn,
    )
    if result.table:
        console.show(result.table, f"{model}, {len(split.test)} held-out photographs")
        console.show_sets(result.by_set)
        console.say(result.folder / PAGE_FILE)
    console.say(result.weights)


def _split(images: ImageDataset, protocol: str, folds: int, fold: int | None, seed: int) -> Split:
    if fold is not None or protocol != "patient":
        number = fold or 1
        return folds_of(images, protocol, folds, seed, number)[number]
    split = holdout(images.labels, images.patients, 1 / folds, seed, class_names=images.classes)
    held_out = len(set(images.patients[split.test]))
    unit = "patients" if images.patients_known else "images"
    typer.echo(f"No --fold: {held_out} of {len(set(images.patients))} {unit} are held out, the others train.", err=True)
    return split
