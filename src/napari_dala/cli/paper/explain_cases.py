"""`dala explain-cases`: single tiles of left-out patients, explained on one page."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli import console, options
from napari_dala.datasets.images import ImageDataset


@options.with_options(images=options.labelled_images)
def explain_cases(
    images: ImageDataset,
    models: list[str] = options.LEFT_OUT_MODELS,
    out: Path = typer.Option(..., "--out", help="Folder for cases.html and cases.json."),
    each: int = typer.Option(2, min=1, help="Cases of each kind (best, typical, failed) and class."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1, mps."),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
) -> None:
    """Show best, typical and failed maps of each class, of patients that the models never saw, with what was measured.

    The page holds photographs of your data set: pass it on only where these may go.
    """
    from napari_dala.evaluation.cases.left_out import judge_left_out
    from napari_dala.evaluation.cases.page import study_cases, write_cases
    from napari_dala.model.bundle import load_model

    bundles = [load_model(model) for model in models]
    console.say(images.summary)
    found = judge_left_out(bundles, images, device=device, precision=precision, on_progress=console.tell_photographs)
    cases = study_cases(found, each, lambda case: console.say(f"{case.label}, {case.kind}: {case.name}"))
    for path in write_cases(found, cases, console.command_line(), out):
        console.say(path)
