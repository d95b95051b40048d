"""`dala compare`: several networks, one split, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from napari_dala.cli import options as data_options
from napari_dala.cli import recipe as recipe_options
from napari_dala.errors import DatasetError


@recipe_options.with_recipe
def compare(
    models: str = typer.Option(
        "dalaresnet50,dalaresnet50-no-attention,resnet50",
        help=f"Names with commas between, the first is what the others are compared with: {recipe_options.NETWORKS}.",
    ),
    dataset: list[str] = data_options.DATASET,
    root: list[Path] = data_options.ROOT,
    out: Path = typer.Option(..., "--out", help="Folder of the runs, MODEL/fold-K, and of the tables and plots."),
    magnification: int | None = data_options.MAGNIFICATION,
    mpp: list[float] = data_options.MPP,
    group: str | None = data_options.GROUP,
    protocol: str = recipe_options.PROTOCOL,
    folds: int = recipe_options.FOLDS,
    fold: int | None = typer.Option(None, min=1, help="One fold only, from 1; all by default."),
    settings: Any = None,
) -> None:
    """Train networks under one split and compare what they can and what they cost.

    Finished runs of the same configuration in --out are used as they are (those of `dala train` too), interrupted ones
    are gone on with.
    """
    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    if not names:
        raise DatasetError("--models: give at least one name")
    images = data_options.load(dataset, root, magnification, mpp, group)
    splits = recipe_options.only(recipe_options.all_folds(images, protocol, folds, settings.seed), fold)
    typer.echo(images.summary)

    from napari_dala.evaluation.compare.compare import compare as measure
    from napari_dala.evaluation.compare.report import tables, write_report

    said = {"finished": "finished already", "interrupted": "going on with an interrupted run", "new": "training"}
    comparison = measure(
        images,
        splits,
        names,
        settings,
        out,
        command=recipe_options.command_line(),
        on_run=lambda model, number, state: typer.echo(f"{model}, fold {number}: {said[state]}"),
        on_epoch=lambda row: recipe_options.tell(row, settings.epochs),
    )
    written = write_report(comparison, out)
    data_options.show_tables(tables(comparison), (*comparison.notes, *comparison.results[0].table.notes))
    for path in written:
        typer.echo(str(path))
