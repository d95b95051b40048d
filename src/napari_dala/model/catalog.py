"""The models that can be named: the built-in one and the bundles in the workspace. No torch."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from napari_dala.errors import BundleError
from napari_dala.files import replacing
from napari_dala.model.card import UNTRAINED_CARD, read_card
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from napari_dala.model.card import ModelCard

SUFFIX = ".safetensors"
BUILT_IN = ("default", "untrained")
"""Names of the built-in model; a bundle cannot be installed under them."""


@dataclass(frozen=True)
class ModelEntry:
    """A model by name: the file of its bundle (None: built in), and its card or why it has none."""

    name: str
    path: Path | None
    card: ModelCard | None
    problem: str | None = None


def list_models(folder: str | Path | None = None) -> list[ModelEntry]:
    """Return the built-in model and the bundles in the workspace by name; a damaged one carries its problem.

    `folder` is the workspace, the usual one by default.
    """
    entries = [ModelEntry("untrained", None, UNTRAINED_CARD)]
    for path in sorted(models_folder(folder).glob(f"[!.]*{SUFFIX}")):
        try:
            entries.append(ModelEntry(path.stem, path, read_card(path)))
        except BundleError as error:
            entries.append(ModelEntry(path.stem, path, None, str(error)))
    return entries


def free_name(name: str, folder: str | Path | None = None) -> str:
    """Return `name`, with a number behind it where a model of the workspace `folder` has it already."""
    taken = {entry.name for entry in list_models(folder)} | set(BUILT_IN)
    names = (name if number == 1 else f"{name} {number}" for number in count(1))
    return next(one for one in names if one not in taken)


def install_file(source: Path, name: str, folder: str | Path | None = None) -> ModelEntry:
    """Copy the file of a bundle into the workspace `folder`, byte by byte, under the free name nearest to `name`.

    Its card is checked; its weights are when they are loaded (`convert.install_model` checks them first, with torch).

    Raises
    ------
    BundleError
        If the file is not a bundle, the name is not fit for a file name, or the workspace cannot be written.
    """
    card = read_card(source)
    target = installed_path(free_name(name, folder), folder)
    try:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise BundleError(f"{target}: the model cannot be written there ({error.strerror or error})") from error
    return ModelEntry(target.stem, target, card)


def installed_path(name: str, folder: str | Path | None = None) -> Path:
    """Return where a bundle of this name lies in the workspace `folder`.

    Raises
    ------
    BundleError
        If the name is taken by the built-in model or is not fit for a file name.
    """
    if name in BUILT_IN:
        raise BundleError(f"{name}: this is the name of the built-in model; choose another")
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise BundleError(f"{name!r} cannot name a model: use letters, digits, spaces and . + - _")
    return models_folder(folder) / f"{name}{SUFFIX}"


def find_model(name_or_path: str | Path) -> Path | None:
    """Return the file of a model given by name or path; None for the built-in one.

    A name goes before a file of the same name in the current folder.

    Raises
    ------
    BundleError
        If there is neither; the line lists the names that are known.
    """
    name = str(name_or_path)
    if name in BUILT_IN:
        return None
    installed = models_folder() / f"{name}{SUFFIX}"
    if Path(name).name == name and installed.is_file():
        return installed
    path = Path(name).expanduser()
    if path.exists():
        return path
    known = ", ".join(entry.name for entry in list_models())
    raise BundleError(f"{name}: there is no model or file of this name; models: {known}")
