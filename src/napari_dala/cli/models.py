"""`dala models`: the bundles there are, what they say of themselves, how others come in, and how they leave."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli.console import say, say_json, screen
from napari_dala.cli.options import mpp_option
from napari_dala.model.export.formats import ExportFormat

app = typer.Typer(
    help="List, show, import and export model bundles.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
_MPP = mpp_option("Micrometres per pixel that weights without a card expect")


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
        trained = "yes" if card.trained else "no"
        table.add_row(entry.name, ", ".join(card.class_names), str(card.tile_px), f"{card.mpp:g}", trained, note)
    screen().print(table)


@app.command()
def show(model: str = typer.Argument(help="Name or file of a bundle.")) -> None:
    """Print a model's card as JSON."""
    from napari_dala.model.catalog import find_card

    say_json(find_card(model).model_dump(mode="json"))


@app.command("import")
def import_(
    file: Path = typer.Argument(help="A bundle, or weights: .safetensors, or a PyTorch state dict (.pt, .pth, .ckpt)."),
    name: str | None = typer.Option(None, help="Name to install it under; by default the file's."),
    classes: str = typer.Option("benign,malignant", help="Class names of weights without a card, in order."),
    mpp: float | None = _MPP,
    tile_px: int = typer.Option(224, help="Tile side in pixels that weights without a card expect."),
) -> None:
    """Check a model file and copy it into the models folder. Pickled code is never run."""
    from napari_dala.errors import BundleError
    from napari_dala.model.class_colors import class_infos
    from napari_dala.model.convert import import_checkpoint, install_model, is_bundle

    if is_bundle(file):
        say(install_model(file, name))
        return
    if mpp is None:
        raise BundleError(f"{file.name}: weights do not say their resolution; give it with --mpp")
    infos = class_infos(part.strip() for part in classes.split(","))
    bundle = import_checkpoint(file, classes=infos, mpp=mpp, tile_px=tile_px, name=name or file.stem)
    say(install_model(bundle, name))


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
