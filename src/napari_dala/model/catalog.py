"""The models that can be named: the built-in one and the bundles in the workspace. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_dala.errors import BundleError
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


def installed_path(name: str) -> Path:
    """Return where a bundle of this name lies in the workspace.

    Raises
    ------
    BundleError
        If the name is taken by the built-in model or is not fit for a file name.
    """
    if name in BUILT_IN:
        raise BundleError(f"{name}: this is the name of the built-in model; choose another")
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise BundleError(f"{name!r} cannot name a model: use letters, digits, spaces and . + - _")
    return models_folder() / f"{name}{SUFFIX}"


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
