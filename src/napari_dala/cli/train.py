"""`dala train`: a network from labelled photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_dala.cli import options as data_options
from napari_dala.cli import recipe as recipe_options

if TYPE_CHECKING:
    from napari_dala.datasets.images import ImageDataset
    from napari_dala.datasets.splits import Split


@recipe_options.with_recipe
def train(
    dataset: list[str] = data_options.DATASET,
    root: list[Path] = data_options.ROOT,
    out: Path = typer.Option(..., "--out", help="Folder of the run."),
    magnification: int | None = data_options.MAGNIFICATION,
    mpp: list[float] = data_options.MPP,
    group: str | None = data_options.GROUP,
    protocol: str = recipe_options.PROTOCOL,
    folds: int = recipe_options.FOLDS,
    fold: int | None = typer.Option(
        None, min=1, help="The fold to hold out, from 1. Without it one of --folds parts of the patients is held out."
    ),
    everything: bool = typer.Option(False, "--all", help="Hold nobody out, once the folds were measured."),
    model: str = typer.Option("dalaresnet50", help=f"{recipe_options.NETWORKS}."),
    init: str | None = typer.Option(None, help="Name or file of a bundle to begin from."),
    resume: bool = typer.Option(False, "--resume", help="Go on with an interrupted run in --out."),
    settings: Any = None,
) -> None:
    """Train a network on labelled photographs and measure it on patients that it never saw."""
    images = data_options.load(dataset, root, magnification, mpp, group)
    split = split_all(len(images)) if everything else _split(images, protocol, folds, fold, settings.seed)
    typer.echo(images.summary)

    from napari_dala.model.bundle import load_model
    from napari_dala.training.photographs.fit import train as fit
    from napari_dala.training.model_check import PAGE_FILE

    result = fit(
        images,
        split,
        settings,
        out,
        model=model,
        init=load_model(init) if init else None,
        resume=resume,
        command=recipe_options.command_line(),
        on_epoch=lambda row: recipe_options.tell(row, settings.epochs),
        on_note=lambda note: typer.secho(note, fg="yellow", err=True),
    )
    if result.table:
        data_options.show(result.table, f"{model}, {len(split.test)} held-out photographs")
        data_options.show_sets(result.by_set)
        typer.echo(str(result.folder / PAGE_FILE))
    typer.echo(str(result.weights))


def split_all(count: int) -> Split:
    """Return the split that holds nothing out."""
    import numpy as np

    from napari_dala.datasets.splits import Split

    return Split(np.arange(count), np.zeros(0, np.intp))


def _split(images: ImageDataset, protocol: str, folds: int, fold: int | None, seed: int) -> Split:
    if fold is not None or protocol != "patient":
        fold = fold or 1
        return recipe_options.only(recipe_options.all_folds(images, protocol, folds, seed), fold)[fold]

    from napari_dala.datasets.splits import holdout

    split = holdout(images.labels, images.patients, 1 / folds, seed, class_names=images.classes)
    held_out = len(set(images.patients[split.test]))
    unit = "patients" if images.patients_known else "images"
    typer.echo(f"No --fold: {held_out} of {len(set(images.patients))} {unit} are held out, the others train.", err=True)
    return split
