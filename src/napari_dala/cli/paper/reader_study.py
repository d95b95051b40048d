"""`dala reader-study`: a blinded form in which readers hold Grad-CAM against DT Grad-CAM, and what filled ones say."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli import console, options
from napari_dala.datasets.images import ImageDataset

app = typer.Typer(
    help="Make blinded forms in which readers hold Grad-CAM against DT Grad-CAM; score filled ones.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command("form")
@options.with_options(images=options.labelled_images)
def make_form(
    images: ImageDataset,
    models: list[str] = options.LEFT_OUT_MODELS,
    out: Path = typer.Option(..., "--out", help="Folder for form.html, and for its key, which readers must not have."),
    pairs: int = typer.Option(24, min=1, help="Tiles that are shown, drawn at random: classes alike, patients alike."),
    repeats: int = typer.Option(6, min=0, help="How many of them come a second time, sides swapped."),
    seed: int = typer.Option(0, min=0, help="Of the tiles, their order and the sides."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1, mps."),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
) -> None:
    """Make a form: one HTML file that works without a network, with pairs of maps side by side, in hidden order.

    Give readers the form and a code each; keep the key. The form holds photographs of your data set.
    """
    from napari_dala.evaluation.cases.left_out import judge_left_out
    from napari_dala.evaluation.reading.form import check_folder, write_form
    from napari_dala.model.bundle import load_model

    check_folder(out)
    bundles = [load_model(model) for model in models]
    console.say(images.summary)
    found = judge_left_out(bundles, images, device=device, precision=precision, on_progress=console.tell_photographs)
    command = console.command_line()
    for path in write_form(found, out, pairs=pairs, repeats=repeats, seed=seed, command=command):
        console.say(path)


@app.command("score")
def score_forms(
    forms: list[Path] = typer.Argument(help="Filled forms that readers saved, one of each.", metavar="FORM.json..."),
    key: Path = typer.Option(..., "--key", help="The form's key, form.key.json."),
    out: Path = typer.Option(..., "--out", help="Folder for reading.html, reading.md and reading.json."),
    seed: int = typer.Option(0, min=0, help="Of the intervals' draws."),
) -> None:
    """Say which map was preferred, how well each matched, and how far readers agree with each other and themselves."""
    from napari_dala.evaluation.reading.documents import read_forms, read_key
    from napari_dala.evaluation.reading.report import tables, write_scores
    from napari_dala.evaluation.reading.scores import score_readings

    opened = read_key(key)
    found = score_readings(opened, read_forms(forms, opened), seed=seed)
    console.show_tables(tables(found), found.notes)
    for path in write_scores(found, console.command_line(), out):
        console.say(path)
