"""`dala compare`: several networks, one split, one table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from napari_dala.cli import console, options
from napari_dala.cli.recipe import NETWORKS, RECIPE, check_scale, names_of
from napari_dala.datasets.images import ImageDataset
from napari_dala.datasets.splits import folds_of
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
    init: str | None = typer.Option(None, help="Name or file of a bundle to begin from (dalaresnet50 alone)."),
    finished: bool = typer.Option(
        False, "--finished", help="Train nothing; compare the networks of which all folds are finished."
    ),
    cost_only: bool = typer.Option(False, "--cost-only", help="Measure what the networks cost, and nothing else."),
) -> None:
    """Train networks under one split and compare what they can and what they cost.

    Finished runs of the same configuration in --out are used as they are (those of `dala train` too), interrupted ones
    are resumed. What networks cost is measured once for a machine and kept in --out.
    """
    names = names_of(models)
    splits = folds_of(images, protocol, folds, settings.seed, fold)
    check_scale(images, names)
    console.say(images.summary)

    from napari_dala.evaluation.compare.compare import compare as measure
    from napari_dala.evaluation.compare.cost import kept_costs
    from napari_dala.evaluation.compare.cost_report import cost_tables, write_costs
    from napari_dala.evaluation.compare.report import tables, write_report
    from napari_dala.model.bundle import load_model

    notes: tuple[str, ...] = ()
    if cost_only:
        costs = kept_costs(out, names, len(images.classes), settings.tile_px)
        shown, written = cost_tables(costs), write_costs(costs, out)
    else:
        comparison = measure(
            images,
            splits,
            names,
            settings,
            out,
            init=load_model(init) if init else None,
            finished_only=finished,
            command=console.command_line(),
            on_run=console.tell_run,
            on_epoch=lambda row: console.tell(row, settings.epochs),
        )
        comparison = replace(comparison, costs=kept_costs(out, names, len(images.classes), settings.tile_px))
        shown, written = tables(comparison), write_report(comparison, out)
        notes = (*comparison.notes, *comparison.results[0].table.notes)
    console.show_tables(shown, notes)
    for path in written:
        console.say(path)
