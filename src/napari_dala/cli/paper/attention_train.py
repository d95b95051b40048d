"""`dala attention-train`: networks with and without the attention, trained where a class is rare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_dala.cli import console, options
from napari_dala.cli.recipe import RECIPE
from napari_dala.datasets.images import ImageDataset
from napari_dala.datasets.splits import folds_of
from napari_dala.errors import DatasetError
from napari_dala.training.settings import TrainSettings

if TYPE_CHECKING:
    from napari_dala.training.photographs.run_folder import State


@options.with_options(images=options.labelled_images, settings=RECIPE)
def attention_train(
    images: ImageDataset,
    settings: TrainSettings,
    out: Path = typer.Option(..., "--out", help="Folder of the runs, RATIO/seed-S/MODEL/fold-K, and of the report."),
    ratios: str = typer.Option(
        "1,3,10", help="How many photographs of the common class there are for each of the rare one, commas between."
    ),
    seeds: int = typer.Option(3, min=1, help="How many, from --seed on; the folds are those of --seed."),
    protocol: str = options.PROTOCOL,
    folds: int = options.FOLDS,
    fold: int | None = typer.Option(None, min=1, help="One fold only, from 1; all by default."),
    keep_weights: bool = typer.Option(False, "--keep-weights", help="Keep each run's weights, about 100 MB a run."),
) -> None:
    """Train DALAResNet50 with and without its attention under imbalance: either class rare, several seeds.

    Finished runs in --out are used as they are, interrupted ones are resumed. The report is written after each seed.
    """
    try:
        times = [int(part) for part in ratios.split(",") if part.strip()]
    except ValueError:
        raise DatasetError(f"--ratios {ratios}: give whole numbers with commas between, such as 1,3,10") from None
    splits = folds_of(images, protocol, folds, settings.seed, fold)
    console.say(images.summary)

    from napari_dala.evaluation.attention.imbalance import train_under_imbalance
    from napari_dala.evaluation.attention.imbalance_report import differences, notes, tables, write_report
    from napari_dala.evaluation.attention.panels import beyond_chance

    def tell(ratio: str, model: str, seed: int, number: int, state: State) -> None:
        if state != "finished":  # each seed begins with those before it
            console.tell_run(f"{ratio}, {model}, seed {seed}", number, state)

    numbers = range(settings.seed, settings.seed + seeds)
    for last in numbers:
        study = train_under_imbalance(
            images,
            splits,
            times,
            range(settings.seed, last + 1),
            settings,
            out,
            keep_weights=keep_weights,
            command=console.command_line(),
            on_run=tell,
            on_epoch=lambda row: console.tell(row, settings.epochs),
        )
        written = write_report(study, out)
        console.say(f"seed {last}: done, {written[0]} is of {len(study.seeds)} of {seeds} seeds")
    console.show_tables(tables(study), (*beyond_chance(differences(study), images.classes), *notes(study)))
    for path in written:
        console.say(path)
