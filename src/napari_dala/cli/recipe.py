"""What `dala train` and `dala compare` ask alike: the recipe, and how the photographs are split."""

from __future__ import annotations

import os
import shlex
import sys
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_dala.training.epochs import Epoch
    from napari_dala.datasets.images import ImageDataset
    from napari_dala.training.settings import TrainSettings
    from napari_dala.datasets.splits import Split

PROTOCOL = typer.Option("patient", help="What the split keeps together: patient, or image as in the papers.")
FOLDS = typer.Option(5, min=2, help="Folds of the cross-validation.")
NETWORKS = (
    "dalaresnet50, dalaresnet50-no-attention, resnet50, seresnet50, densenet121, vgg16, vgg16-inception, vit_b_16, "
    "swin_t or dinov2_vitb14"
)


def with_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_recipe`, behind its own; it gets what they come to as `settings`."""
    own, shared = (signature(function, eval_str=True).parameters for function in (command, _recipe))

    @wraps(command)
    def run(**values: Any) -> None:
        settings = _settings({name: values.pop(name) for name in shared})
        command(**values, settings=settings)

    options = [*(own[name] for name in own if name != "settings"), *shared.values()]
    named = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in options]
    run.__signature__ = signature(run).replace(parameters=named)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in named}
    return run


def _recipe(
    epochs: int = typer.Option(50, min=1),
    batch_size: int = typer.Option(32, min=2),
    lr: float = typer.Option(1e-4, help="Learning rate."),
    dropout: float = typer.Option(0.25, min=0.0, max=0.99, help="In DALAResNet50's head."),
    tile: int = typer.Option(224, help="Side of a tile in pixels, a multiple of 32."),
    train_px: int | None = typer.Option(None, help="Side of the tiles to learn from, at the same resolution."),
    model_mpp: float | None = typer.Option(
        None, min=0.01, max=100, help="Micrometres per pixel of a tile; by default that of the coarsest photographs."
    ),
    crops: int = typer.Option(1, min=1, help="Random squares of each photograph in an epoch."),
    augmentation: str = typer.Option("stains", help="Of stains and colours: none, stains, mild or strong."),
    scale_variation: float = typer.Option(
        0.75, min=0.1, max=1.0, help="The smallest squares, as part of a tile's side."
    ),
    balance: str = typer.Option("patient", help="What is drawn alike: patient, sampler (classes), loss or none."),
    averaging: float = typer.Option(0.99, min=0.0, max=0.9999, help="Of the weights over the steps; 0 for none."),
    optimizer: str = typer.Option("adam", help="adam or adamw."),
    schedule: str = typer.Option("constant", help="Of the learning rate: constant or one-cycle."),
    label_smoothing: float = typer.Option(0.0, min=0.0, max=0.99),
    early_stopping: int | None = typer.Option(
        None, min=1, help="Stop after so many epochs without a lower loss on a fifth of the training patients."
    ),
    judge_every: int = typer.Option(1, min=1, help="Epochs between two looks at the photographs to be judged."),
    imagenet: bool = typer.Option(True, help="Begin with ImageNet weights if they are on this machine."),
    seed: int = typer.Option(0, min=0),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
    accelerator: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    devices: int = typer.Option(1, min=1, help="How many of them on each machine."),
    nodes: int = typer.Option(1, min=1, help="How many machines."),
    workers: int = typer.Option(0, min=0, help="Processes that read photographs."),
    logger: str = typer.Option("csv", help="Figures of the epochs as csv, or for tensorboard as well."),
) -> None:
    """Hold the options that every recipe has; the names are those of `TrainSettings`, but for the tile's."""


def _settings(values: dict[str, Any]) -> TrainSettings:
    from pydantic import ValidationError

    from napari_dala.model.card import first_problem
    from napari_dala.training.settings import TrainSettings

    try:
        named = {"tile_px": values.pop("tile"), "mpp": values.pop("model_mpp")}
        return TrainSettings.model_validate({**named, **values})
    except ValidationError as error:
        raise DatasetError(f"these settings cannot be used: {first_problem(error)}") from None


def all_folds(images: ImageDataset, protocol: str, folds: int, seed: int) -> dict[int, Split]:
    """Return the split of each fold by its number, from 1."""
    from napari_dala.datasets.splits import image_folds, patient_folds

    if protocol not in ("patient", "image"):
        raise DatasetError(f"protocol {protocol}: choose patient or image")
    splits = (
        image_folds(images.labels, folds, seed)
        if protocol == "image"
        else patient_folds(images.labels, images.patients, folds, seed, class_names=images.classes)
    )
    return dict(enumerate(splits, start=1))


def only(splits: dict[int, Split], fold: int | None) -> dict[int, Split]:
    """Return the split of one fold, or all of them for None."""
    if fold is None:
        return splits
    if fold not in splits:
        raise DatasetError(f"fold {fold}: there are {len(splits)} folds, 1 to {len(splits)}")
    return {fold: splits[fold]}


def tell(row: Epoch, epochs: int) -> None:
    """Print the figures of an epoch."""
    held_out = "" if row.val_loss is None else f", held out: loss {row.val_loss:.4f}, GMean {row.val_gmean:.3f}"
    typer.echo(
        f"epoch {row.epoch + 1}/{epochs}: loss {row.train_loss:.4f}, accuracy {row.train_accuracy:.3f}"
        f"{held_out} ({row.seconds:.0f} s)"
    )


def command_line() -> str:
    """Return the command line for the record: names of files and folders without where they lie."""
    return shlex.join(["dala", *(Path(part).name if os.sep in part else part for part in sys.argv[1:])])
