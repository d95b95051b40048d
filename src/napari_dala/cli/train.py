"""`dala train`: a network from labelled photographs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_dala.cli import data_options
from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    from napari_dala.training.datasets import ImageDataset
    from napari_dala.training.learner import Epoch
    from napari_dala.training.splits import Split


def train(
    dataset: str = data_options.DATASET,
    root: Path = data_options.ROOT,
    out: Path = typer.Option(..., "--out", help="Folder of the run."),
    magnification: int | None = data_options.MAGNIFICATION,
    mpp: float | None = data_options.MPP,
    protocol: str = typer.Option("patient", help="What the split keeps together: patient, or image as in the papers."),
    folds: int = typer.Option(5, min=2, help="Folds of the cross-validation."),
    fold: int | None = typer.Option(
        None, min=1, help="The fold to hold out, from 1. Without it one of --folds parts of the patients is held out."
    ),
    model: str = typer.Option(
        "dalaresnet50",
        help="dalaresnet50, dalaresnet50-no-attention, resnet50, densenet121, vgg16, vit_b_16 or swin_t.",
    ),
    epochs: int = typer.Option(50, min=1),
    batch_size: int = typer.Option(32, min=2),
    lr: float = typer.Option(1e-4, help="Learning rate."),
    tile: int = typer.Option(224, help="Side of a tile in pixels, a multiple of 32."),
    crops: int = typer.Option(1, min=1, help="Random squares of each photograph in an epoch."),
    balance: str = typer.Option("loss", help="Against unequal classes: loss, sampler or none."),
    optimizer: str = typer.Option("adam", help="adam or adamw."),
    schedule: str = typer.Option("constant", help="Of the learning rate: constant or one-cycle."),
    label_smoothing: float = typer.Option(0.0, min=0.0, max=0.99),
    early_stopping: int | None = typer.Option(
        None, min=1, help="Stop after so many epochs without a lower loss on a fifth of the training patients."
    ),
    init: str | None = typer.Option(None, help="Name or file of a bundle to begin from."),
    imagenet: bool = typer.Option(True, help="Begin with torchvision's ImageNet weights if they are on this machine."),
    seed: int = typer.Option(0, min=0),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
    accelerator: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    devices: int = typer.Option(1, min=1, help="How many of them on each machine."),
    nodes: int = typer.Option(1, min=1, help="How many machines."),
    workers: int = typer.Option(0, min=0, help="Processes that read photographs."),
    resume: bool = typer.Option(False, "--resume", help="Go on with an interrupted run in --out."),
) -> None:
    """Train a network on labelled photographs and measure it on patients that it never saw."""
    from pydantic import ValidationError

    from napari_dala.model.card import first_problem
    from napari_dala.training.settings import TrainSettings

    try:
        settings = TrainSettings.model_validate(
            {
                "epochs": epochs,
                "batch_size": batch_size,
                "lr": lr,
                "tile_px": tile,
                "crops": crops,
                "balance": balance,
                "optimizer": optimizer,
                "schedule": schedule,
                "label_smoothing": label_smoothing,
                "early_stopping": early_stopping,
                "imagenet": imagenet,
                "seed": seed,
                "precision": precision,
                "accelerator": accelerator,
                "devices": devices,
                "nodes": nodes,
                "workers": workers,
            }
        )
    except ValidationError as error:
        raise DatasetError(f"these settings cannot be used: {first_problem(error)}") from None
    images = data_options.load(dataset, root, magnification, mpp)
    split = _split(images, protocol, folds, fold, seed)
    typer.echo(images.summary)
    _run(images, split, settings, out, model, init, resume)


def _run(
    images: ImageDataset, split: Split, settings: Any, out: Path, model: str, init: str | None, resume: bool
) -> None:
    from napari_dala.model.bundle import load_model
    from napari_dala.training.fit import train as fit

    def tell(row: Epoch) -> None:
        held_out = "" if row.val_loss is None else f", held out: loss {row.val_loss:.4f}, GMean {row.val_gmean:.3f}"
        typer.echo(
            f"epoch {row.epoch + 1}/{settings.epochs}: loss {row.train_loss:.4f}, accuracy {row.train_accuracy:.3f}"
            f"{held_out} ({row.seconds:.0f} s)"
        )

    result = fit(
        images,
        split,
        settings,
        out,
        model=model,
        init=load_model(init) if init else None,
        resume=resume,
        command=_command(),
        on_epoch=tell,
        on_note=lambda note: typer.secho(note, fg="yellow", err=True),
    )
    if result.table:
        data_options.show(result.table, f"{model}, {len(split.test)} held-out photographs")
    typer.echo(str(result.weights))


def _split(images: ImageDataset, protocol: str, folds: int, fold: int | None, seed: int) -> Split:
    from napari_dala.training.splits import holdout, image_folds, patient_folds

    if protocol not in ("patient", "image"):
        raise DatasetError(f"protocol {protocol}: choose patient or image")
    if fold is not None and fold > folds:
        raise DatasetError(f"fold {fold}: there are {folds} folds, 1 to {folds}")
    if protocol == "image":
        return image_folds(images.labels, folds, seed)[(fold or 1) - 1]
    if fold is not None:
        return patient_folds(images.labels, images.patients, folds, seed, class_names=images.classes)[fold - 1]
    split = holdout(images.labels, images.patients, 1 / folds, seed, class_names=images.classes)
    held_out = len(set(images.patients[split.test]))
    unit = "patients" if images.patients_known else "images"
    typer.echo(f"No --fold: {held_out} of {len(set(images.patients))} {unit} are held out, the others train.", err=True)
    return split


def _command() -> str:
    """Return the command line for the model's card: names of files and folders without where they lie."""
    return shlex.join(["dala", *(Path(part).name if os.sep in part else part for part in sys.argv[1:])])
