"""`dala models`: the bundles there are, what they say of themselves, and how others come in."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli.console import say, say_json, screen
from napari_dala.cli.options import mpp_option
from napari_dala.model.card import IMAGENET_MEAN, IMAGENET_STD
from napari_dala.model.trunks.names import NAMED

app = typer.Typer(
    help="List, show and import model bundles.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
_MOST_LICENCE = 256 << 10  # bytes
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
    trunk: str | None = typer.Option(
        None,
        help="The file is of this pretrained network, to learn a head on: "
        f"{', '.join(NAMED)}, or any of timm's as timm/NAME.",
    ),
    licence_text: Path | None = typer.Option(
        None, help="With --trunk: a text file, which the model's card then shows."
    ),
    mean: str | None = typer.Option(None, help="With --trunk: mean of red, green and blue from 0 to 1; ImageNet's."),
    std: str | None = typer.Option(None, help="With --trunk: their standard deviations; ImageNet's."),
) -> None:
    """Check a model file and copy it into the models folder. Pickled code is never run; nothing is downloaded."""
    from napari_dala.errors import BundleError
    from napari_dala.model.class_colors import class_infos
    from napari_dala.model.convert import import_checkpoint, install_model, is_bundle

    if is_bundle(file):
        say(install_model(file, name))
        return
    if trunk is None and (licence_text, mean, std) != (None, None, None):
        raise typer.BadParameter("--licence-text, --mean and --std are of --trunk: name the network too")
    if mpp is None:
        raise BundleError(f"{file.name}: weights do not say their resolution; give it with --mpp")
    infos = class_infos(part.strip() for part in classes.split(","))
    if trunk is not None:
        from napari_dala.model.trunks.importing import import_trunk

        bundle = import_trunk(
            file,
            trunk,
            classes=infos,
            mpp=mpp,
            tile_px=tile_px,
            name=name or file.stem,
            mean=_of_three(mean, IMAGENET_MEAN, "--mean"),
            std=_of_three(std, IMAGENET_STD, "--std"),
            licence="" if licence_text is None else _text_of(licence_text),
        )
        say(install_model(bundle, name))
        return
    bundle = import_checkpoint(file, classes=infos, mpp=mpp, tile_px=tile_px, name=name or file.stem)
    say(install_model(bundle, name))


def _of_three(text: str | None, otherwise: tuple[float, float, float], option: str) -> tuple[float, float, float]:
    """Return the three numbers of an option."""
    if text is None:
        return otherwise
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
            text = file.read(_MOST_LICENCE + 1).decode("utf-8")
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.name}: the licence cannot be read as text ({error})") from None
    if len(text) > _MOST_LICENCE:
        raise BundleError(f"{path.name}: more than {_MOST_LICENCE >> 10} KB are no licence text")
    return text
