"""`dala compare`: several networks, one split, one table."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli import console, options
from napari_dala.cli.recipe import NETWORKS, RECIPE
from napari_dala.datasets.images import ImageDataset
from napari_dala.datasets.splits import folds_of
from napari_dala.errors import DatasetError
from napari_dala.training.settings import TrainSettings


@options.with_options(images=options.labelled_images, settings=RECIPE)
def compare(
    images: ImageDataset,
    settings: TrainSettings,
    models: str = typer.Option(
        "dalaresnet50,dalaresnet50-no-attention,resnet50",
        help=f"Names with commas between, the first is what the others are compared with: {NETWORKS}.",
    ),
    out: Path = typer.Option(..., "--out", help="Folder of the runs, MODEL/fold-K, and of the tables and plots."),
    protocol: str = options.PROTOCOL,
    folds: int = options.FOLDS,
    fold: int | None = typer.Option(None, min=1, help="One fold only, from 1; all by default."),
) -> None:
    """Train networks under one split and compare what they can and what they cost.

    Finished runs of the same configuration in --out are used as they are (those of `dala train` too), interrupted ones
    are resumed.
    """
    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    if not names:
        raise DatasetError("--models: give at least one name")
    splits = folds_of(images, protocol, folds, settings.seed, fold)
    console.say(images.summary)

    from napari_dala.evaluation.compare.compare import compare as measure
    from napari_dala.evaluation.compare.report import tables, write_report

    said = {"finished": "finished already", "interrupted": "resuming an interrupted run", "new": "training"}
    comparison = measure(
        images,
        splits,
        names,
        settings,
        out,
        command=console.command_line(),
        on_run=lambda model, number, state: console.say(f"{model}, fold {number}: {said[state]}"),
        on_epoch=lambda row: console.tell(row, settings.epochs),
    )
    written = write_report(comparison, out)
    console.show_tables(tables(comparison), (*comparison.notes, *comparison.results[0].table.notes))
    for path in written:
        console.say(path)
