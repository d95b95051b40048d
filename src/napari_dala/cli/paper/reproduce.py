"""`dala reproduce`: the paper's recipe on the paper's data sets, split by image and by patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from napari_dala.cli import console, options
from napari_dala.cli.recipe import NETWORKS, RECIPE, names_of
from napari_dala.datasets.folders import Kind, load_dataset
from napari_dala.datasets.images import ImageDataset, joined_datasets
from napari_dala.errors import DatasetError
from napari_dala.training.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

_SETS = ("breakhis", "bach", "mini-ddsm")


@options.with_options(settings=RECIPE)
def reproduce(
    settings: TrainSettings,
    dataset: str = typer.Option(..., "--dataset", help=f"{', '.join(_SETS)}."),
    root: list[Path] = typer.Option(..., "--root", help="The data set's folder; several times if it lies in parts."),
    out: Path = typer.Option(..., "--out", help="Folder of the runs, SET/SPLIT/MODEL/fold-K, and of the page."),
    magnification: list[int] = typer.Option([], help="Of BreakHis, several times; by default each that is there."),
    models: str = typer.Option("dalaresnet50", help=f"Names with commas between: {NETWORKS}."),
    init: str | None = typer.Option(None, help="Name or file of a bundle to begin from instead of ImageNet's weights."),
    folds: int = options.FOLDS,
) -> None:
    """Train by the paper's recipe (batch 32, 1e-4, 50 epochs) under both splits, beside what the paper published.

    A photograph is seen whole, as a square as large as it allows, unless --model-mpp says otherwise. Finished runs of
    the same configuration in --out are used as they are, interrupted ones are resumed.
    """
    if dataset not in _SETS:
        raise DatasetError(f"{dataset}: no data set of the paper's; there are {', '.join(_SETS)}")
    names = names_of(models)
    sets = _sets(cast("Kind", dataset), root, magnification)
    for images in sets:
        console.say(images.summary)

    from napari_dala.evaluation.reproduce import tables, train_under_both_splits, write_report
    from napari_dala.model.bundle import load_model

    bundle = load_model(init) if init else None
    found = [
        train_under_both_splits(
            images,
            names,
            settings,
            folds,
            out,
            init=bundle,
            command=console.command_line(),
            on_split=lambda split: console.say(f"split by {split}:"),
            on_run=console.tell_run,
            on_epoch=lambda row: console.tell(row, settings.epochs),
        )
        for images in sets
    ]
    written = write_report(found, out)
    console.show_tables(tables(found), dict.fromkeys(note for one in found for note in one.notes))
    for path in written:
        console.say(path)


def _sets(kind: Kind, roots: Sequence[Path], magnifications: Sequence[int]) -> list[ImageDataset]:
    """Return the photographs of each magnification, together from all folders; of other sets all of them."""
    if kind != "breakhis":
        if magnifications:
            raise DatasetError(f"{roots[0]}: only breakhis has magnifications to choose from, not {kind}")
        return [joined_datasets([load_dataset(kind, root) for root in roots])]
    there = {root: {image.magnification for image in load_dataset(kind, root).images} for root in roots}
    wanted = sorted(set(magnifications)) or sorted({power for powers in there.values() for power in powers if power})
    return [
        joined_datasets(
            [load_dataset(kind, root, magnification=power) for root in roots if power in there[root]]
            or [load_dataset(kind, roots[0], magnification=power)]  # says that it is not there
        )
        for power in wanted
    ]
