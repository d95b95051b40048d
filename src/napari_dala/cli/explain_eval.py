"""`dala explain-eval`: how good the explanations of a model are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_dala.cli import console, options
from napari_dala.datasets.images import ImageDataset
from napari_dala.datasets.splits import folds_of
from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_dala.model.bundle import ModelBundle


@options.with_options(images=options.labelled_images)
def explain_eval(
    images: ImageDataset,
    model: str = typer.Option(..., help="Name or file of a bundle."),
    out: Path = typer.Option(..., "--out", help="Folder for the tables and the plots."),
    slide: list[Path] = typer.Option(
        [], "--slide", help="A slide with its true outlines in NAME.truth.geojson beside it; may be repeated."
    ),
    protocol: str = options.PROTOCOL,
    folds: int = options.FOLDS,
    fold: int | None = typer.Option(
        None, min=1, help="The fold to measure on; by default the patients that the model's card says it never saw."
    ),
    limit: int | None = typer.Option(None, min=1, help="The most photographs to measure, chosen at random."),
    references: bool = typer.Option(True, help="Grad-CAM++ and EigenCAM as well, by pytorch-grad-cam."),
    seed: int = typer.Option(0, min=0, help="Of the folds and of all that is random."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1, mps."),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
) -> None:
    """Measure Grad-CAM and DT Grad-CAM: faithfulness on photographs, localisation on slides, and randomised weights."""
    from napari_dala.evaluation.explanations.maps import ExplainSettings
    from napari_dala.evaluation.explanations.photographs import explain_photographs
    from napari_dala.evaluation.explanations.report import ExplainEvaluation, tables, write_report
    from napari_dala.evaluation.explanations.slides import explain_slide
    from napari_dala.model.bundle import load_model

    bundle = load_model(model)
    chosen = _held_out(bundle, images, protocol, folds, fold, seed)
    data = f"{images.summary}; {len(chosen)} photographs of {len(set(images.patients[chosen]))} patients held out"
    console.say(data)
    settings = ExplainSettings(device, precision, references, seed)
    by_slide = []
    for path in slide:
        by_slide.append(explain_slide(path, bundle, settings))
        console.say(f"{path.name}: done")
    photographs = explain_photographs(
        bundle,
        images,
        chosen,
        settings,
        limit=limit,
        on_progress=console.tell_photographs,
    )
    found = ExplainEvaluation(
        bundle,
        data,
        console.command_line(),
        photographs,
        tuple(row for rows, _ in by_slide for row in rows),
        tuple(row for _, rows in by_slide for row in rows),
    )
    written = write_report(found, out)
    console.show_tables(tables(found), found.notes)
    for path in written:
        console.say(path)


def _held_out(
    bundle: ModelBundle, images: ImageDataset, protocol: str, folds: int, fold: int | None, seed: int
) -> NDArray[np.intp]:
    """Return the photographs of a fold, or those of patients whom the model was not trained on."""
    if fold is not None:
        return folds_of(images, protocol, folds, seed, fold)[fold].test

    from napari_dala.evaluation.photographs import unseen

    try:
        return unseen(images, bundle.card.training)
    except DatasetError as error:
        raise DatasetError(f"{error}; choose what to hold out: --fold") from None
