"""`dala models`: the bundles there are, what they say of themselves, how others come in, and how they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from napari_dala.cli.console import pace_fields, progress_bar, say, say_json, screen, warn_of
from napari_dala.cli.options import mpp_option
from napari_dala.model.export.formats import ExportFormat
from napari_dala.model.importing.request import ImportRequest
from napari_dala.model.trunks.names import NAMED

app = typer.Typer(
    help="List, show, import, fetch and export models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
_RESNET50 = "resnet50"
_MOST_BYTES = 4 << 20  # of a licence; a request holds fewer
_MPP = mpp_option("Micrometres per pixel that weights without a card expect")
_CLASSES = typer.Option("benign,malignant", help="Class names of weights without a card, in order.")
_TILE_PX = typer.Option(224, help="Tile side in pixels that weights without a card expect.")


@app.command("list", short_help="List the models by name.")
def list_() -> None:
    """List the models by name, with what is wrong with those that cannot be used."""
    from rich.table import Table

    from napari_dala.model.catalog import list_models

    table = Table("name", "classes", "tile", "um/px", "trained", "note")
    for entry in list_models():
        card = entry.card
        if card is None:
            table.add_row(entry.name, "", "", "", "", entry.problem or "")
            continue
        note = card.warning or card.summary
        trained = "yes" if card.trained else "trunk only" if card.trunk_only else "no"
        table.add_row(entry.name, ", ".join(card.class_names), str(card.tile_px), f"{card.mpp:g}", trained, note)
    screen().print(table)


@app.command()
def show(model: str = typer.Argument(help="Name or file of a bundle.")) -> None:
    """Print a model's card as JSON."""
    from napari_dala.model.catalog import find_card

    say_json(find_card(model).model_dump(mode="json"))


@app.command("import")
def import_(
    file: Path = typer.Argument(
        help="A bundle, or weights of a network: .safetensors, or a PyTorch state dict (.pth, .pt, .ckpt, .bin)."
    ),
    name: str | None = typer.Option(None, help="Name to install it under; by default the file's."),
    classes: str = _CLASSES,
    mpp: float | None = _MPP,
    tile_px: int = _TILE_PX,
    preset: str | None = typer.Option(
        None,
        help="How weights without a card read pixels: imagenet, lunit (Kang et al. 2023) or h-optimus; by default by "
        "the file's name and the network.",
    ),
    mean: str | None = typer.Option(None, help="Mean of red, green and blue from 0 to 1, in place of the preset's."),
    std: str | None = typer.Option(None, help="Their standard deviations, in place of the preset's."),
    prefix: str | None = typer.Option(None, help="Which of several networks in the file: what its names begin with."),
    trunk: str = typer.Option(
        _RESNET50, help=f"Which network the weights are of: {', '.join(NAMED)}, or any of timm's as timm/NAME."
    ),
    licence_text: Path | None = typer.Option(None, help="A text file with the weights' licence, for the card."),
) -> None:
    """Check a model file and copy it into the models folder. Pickled code is never run; nothing is downloaded."""
    from napari_dala.errors import BundleError
    from napari_dala.model.convert import install_model
    from napari_dala.model.importing.file_kind import is_bundle
    from napari_dala.model.importing.presets import preset_of

    given = (preset, mean, std, prefix, licence_text, mpp), (classes, tile_px, trunk)
    if is_bundle(file):
        if given != ((None,) * 6, (_CLASSES.default, _TILE_PX.default, _RESNET50)):
            raise BundleError(f"{file.name}: it has a model card, which says all of this: give --name alone")
        say(install_model(file, name))
        return
    if mpp is None:
        raise BundleError(f"{file.name}: weights do not say their resolution; give it with --mpp")
    wanted = _checked(
        file=file,
        name=name or file.stem,
        classes=_names(classes),
        mpp=mpp,
        tile_px=tile_px,
        preset=preset or preset_of(file.name, trunk),
        mean=_of_three(mean, "--mean"),
        std=_of_three(std, "--std"),
        prefix=prefix,
        trunk=trunk,
        licence="" if licence_text is None else _text_of(licence_text),
    )
    _bring_in(wanted)


@app.command()
def fetch(
    weights: str = typer.Argument(help="imagenet-resnet50: torchvision's ResNet-50, trained on ImageNet."),
    name: str | None = typer.Option(None, help="Name to install it under; by default the same."),
    classes: str = _CLASSES,
    mpp: float | None = _MPP,
    tile_px: int = _TILE_PX,
) -> None:
    """Download published weights, about 100 MB, and import them; without --mpp for tiles of 0.5 um/px."""
    from napari_dala.errors import FetchError
    from napari_dala.model.fetch import PUBLISHED, by_hand, fetch_weights, place_of
    from napari_dala.model.importing.presets import IMAGENET, USUAL_MPP

    if weights not in PUBLISHED:
        raise FetchError(f"{weights}: there is nothing of this name to fetch; there is: {', '.join(PUBLISHED)}")
    asked = PUBLISHED[weights]
    wanted = _checked(
        file=place_of(asked),
        name=name or weights,
        classes=_names(classes),
        mpp=mpp or USUAL_MPP,
        tile_px=tile_px,
        preset=IMAGENET,
    )
    say(f"{asked.about} From {asked.url}; {by_hand(asked)}.", err=True)
    with progress_bar(asked.file_name, "MB") as bar:
        task = bar.add_task("", total=asked.size >> 20, **pace_fields())
        path = fetch_weights(asked, lambda done, _: bar.update(task, completed=done >> 20))
    assert path == wanted.file  # nobody stops it but Ctrl-C
    _bring_in(wanted)


@app.command()
def export(
    model: str = typer.Argument(help="Name or file of a trained bundle."),
    to: ExportFormat = typer.Option(..., help="wsinfer is for QuPath, too."),
    out: Path = typer.Option(..., "--out", help="A new folder for it; in QuPath its name is the model's."),
) -> None:
    """Write a model for QuPath, WSInfer or a program of your own, and compare what was written with it."""
    from napari_dala.inference.export import export_model
    from napari_dala.model.bundle import load_model

    difference = export_model(load_model(model), to, out)
    say(f"On tiles of noise the largest difference of a probability is {difference:.1g}.", err=True)
    say(out)


def _names(classes: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in classes.split(","))


def _checked(**asked: Any) -> ImportRequest:
    """Return what is asked of an import, checked before anything that takes long."""
    from napari_dala.errors import BundleError
    from napari_dala.model.catalog import check_new_name
    from napari_dala.validation import checked

    wanted = checked(ImportRequest, BundleError, **asked)
    check_new_name(wanted.name)
    return wanted


def _bring_in(wanted: ImportRequest) -> None:
    """Make weights a model, install it, and say what was taken and what it lacks."""
    from napari_dala.model.convert import import_checkpoint, install_model

    bundle = import_checkpoint(wanted)
    say(install_model(bundle))
    training = bundle.card.training
    if wanted.mean is None and wanted.std is None:
        say(f"Pixels are normalised as preset {wanted.preset}.", err=True)
    if isinstance(left_out := training.get("left_out"), list):
        taken = training.get("taken_from", "the ResNet-50")
        say(f"Taken: {taken}. Left out: {', '.join(map(str, left_out))}.", err=True)
    warn_of(bundle.card)


def _of_three(text: str | None, option: str) -> tuple[float, float, float] | None:
    """Return the three numbers of an option."""
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option}: three numbers with commas between, such as 0.485,0.456,0.406") from None
    return red, green, blue


def _text_of(path: Path) -> str:
    """Return the text of a licence's file, of which a card holds so much."""
    from napari_dala.errors import BundleError
    from napari_dala.files import open_to_read

    try:
        with open_to_read(path) as file:
            return file.read(_MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.name}: the licence cannot be read as text ({error})") from None
