"""`dala explain`: why the model says what it says of one patch."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli.console import say, say_json
from napari_dala.cli.options import ICC_PROFILE, SLIDE_MPP


def explain(
    image: Path = typer.Argument(help="A photograph or a small picture of tissue."),
    out: Path = typer.Option(..., "--out", help="Folder for the picture and the numbers."),
    mpp: float | None = SLIDE_MPP,
    whole: bool = typer.Option(False, "--whole", help="Fit the picture to the model's tile, whatever its resolution."),
    model: str = typer.Option("default", help="Name or file of a bundle."),
    target: str | None = typer.Option(None, "--class", help="Class to explain; by default the model's target class."),
    device: str = typer.Option("auto"),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
    icc_profile: bool = ICC_PROFILE,
) -> None:
    """Write original, Grad-CAM and DT Grad-CAM side by side, with threshold and kept fraction."""
    from napari_dala.analysis.patch import explain_patch
    from napari_dala.errors import DalaError
    from napari_dala.files import replacing, write_json
    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle import load_model
    from napari_dala.model.threshold import DynamicThreshold
    from napari_dala.results.report.pictures import explain_figure
    from napari_dala.slide import open_slide

    predictor = Predictor(load_model(model), device, precision)
    card = predictor.bundle.card
    if target is not None and target not in card.class_names:
        raise DalaError(f"class “{target}”: the model knows {', '.join(card.class_names)}")
    index = card.target_class if target is None else card.class_names.index(target)
    with open_slide(image, mpp=mpp, icc_profile=icc_profile) as slide:
        found = explain_patch(slide, predictor, DynamicThreshold(), whole=whole)
    figure = explain_figure(
        found.image,
        found.maps[index],
        class_name=card.classes[index].name,
        probability=float(found.probability[index]),
        warnings=[f"Model “{card.name}” is {card.warning}."] if card.warning else [],
    )
    picture = out / f"{image.stem}.explain.png"
    with replacing(picture) as temporary:
        figure.save(temporary, "PNG")
    numbers = {"model": card.name, "warning": card.warning, "classes": found.as_json(card.class_names)}
    write_json(picture.with_suffix(".json"), numbers)
    say_json(numbers)
    say(picture, err=True)
