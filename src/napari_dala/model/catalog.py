"""The models that can be named: the built-in ones and the bundles in the workspace. No torch."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.numpy import load_file, save_file

from napari_dala.errors import BundleError
from napari_dala.files import replacing, sweep
from napari_dala.model.card import UNTRAINED_CARD, read_card, within_threshold
from napari_dala.model.tensor_file import UNSEALED, read_header, seal
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from napari_dala.model.card import ModelCard

SUFFIX = ".safetensors"
DEFAULT = "breakhis-ucsb"
"""The model that "default" names, made by `scripts/train_default.py`."""
TEACHING = "teaching-slide"
"""The model of the drawn teaching slide, made by `scripts/train_teaching.py`."""
BUILT_IN = ("default", DEFAULT, TEACHING, "untrained")
"""Names of the built-in models; a bundle cannot be installed under them."""

_BUILT_IN_FILES = {name: Path(__file__).with_name("built_in") / f"{name}{SUFFIX}" for name in (DEFAULT, TEACHING)}


@dataclass(frozen=True)
class ModelEntry:
    """A model by name: the file of its bundle (None: random weights), and its card or why it has none."""

    name: str
    path: Path | None
    card: ModelCard | None
    problem: str | None = None


def list_models(folder: str | Path | None = None) -> list[ModelEntry]:
    """Return the built-in models and the bundles in the workspace by name; a damaged one carries its problem.

    `folder` is the workspace, the usual one by default.
    """
    try:
        installed = sorted(models_folder(folder).glob(f"[!.]*{SUFFIX}"))
    except OSError:  # a folder that may not be read holds no model for this user
        installed = []
    untrained = ModelEntry("untrained", None, UNTRAINED_CARD)
    return [*map(_entry, _BUILT_IN_FILES.values()), untrained, *map(_entry, installed)]


def _entry(path: Path) -> ModelEntry:
    try:
        return ModelEntry(path.stem, path, read_card(path))
    except BundleError as error:
        return ModelEntry(path.stem, path, None, str(error))


def free_name(name: str, folder: str | Path | None = None) -> str:
    """Return `name`, with a number behind it where a model of the workspace `folder` has it already."""
    taken = {entry.name for entry in list_models(folder)} | set(BUILT_IN)
    names = (name if number == 1 else f"{name} {number}" for number in count(1))
    return next(one for one in names if one not in taken)


def install_file(
    source: Path, name: str, folder: str | Path | None = None, *, threshold: float | None = None
) -> ModelEntry:
    """Copy the file of a bundle into the workspace `folder`, byte by byte, under the free name nearest to `name`.

    With a threshold the copy's card has this operating threshold instead of its own; weights and hashes stay. Its
    card is checked; its weights are when they are loaded (`convert.install_model` checks them first, with torch).

    Raises
    ------
    BundleError
        If the file is not a bundle, the name is not fit for a file name, or the workspace cannot be written.
    """
    card = read_card(source)
    target = installed_path(free_name(name, folder), folder)
    sweep(target.parent)
    try:
        if threshold is None:
            copy_bundle(source, target)
        else:
            card = card.model_copy(update={"operating_threshold": within_threshold(threshold)})
            metadata = {**read_header(source).metadata, "card": card.model_dump_json(), **UNSEALED}
            with replacing(target) as temporary:
                save_file(load_file(source), temporary, metadata)
                seal(temporary)
    except OSError as error:
        raise BundleError(f"{target}: the model cannot be written there ({error.strerror or error})") from error
    return ModelEntry(target.stem, target, card)


def copy_bundle(source: Path, target: Path) -> None:
    """Copy a bundle's file, byte by byte, whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def installed_path(name: str, folder: str | Path | None = None) -> Path:
    """Return where a bundle of this name lies in the workspace `folder`.

    Raises
    ------
    BundleError
        If the name is taken by a built-in model or is not fit for a file name.
    """
    if name in BUILT_IN:
        raise BundleError(f"{name}: this is the name of a built-in model; choose another")
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise BundleError(f"{name!r} cannot name a model: use letters, digits, spaces and . + - _")
    return models_folder(folder) / f"{name}{SUFFIX}"


def find_model(name_or_path: str | Path) -> Path | None:
    """Return the file of a model given by name or path; None for the untrained one, which has none.

    A name goes before a file of the same name in the current folder.

    Raises
    ------
    BundleError
        If there is neither; the line lists the names that are known.
    """
    name = str(name_or_path)
    if name in BUILT_IN:
        return _BUILT_IN_FILES.get(DEFAULT if name == "default" else name)
    installed = models_folder() / f"{name}{SUFFIX}"
    if Path(name).name == name and os.path.isfile(installed):
        return installed
    path = Path(os.path.expanduser(name))
    if os.path.exists(path):  # of `os`: it takes a name that cannot be one as that of nothing
        return path
    known = ", ".join(entry.name for entry in list_models())
    raise BundleError(f"{name}: there is no model or file of this name; models: {known}")


def find_card(name_or_path: str | Path) -> ModelCard:
    """Return the card of a model given by name or path.

    Raises
    ------
    BundleError
        If there is no such model, or its file has no valid card.
    """
    path = find_model(name_or_path)
    return UNTRAINED_CARD if path is None else read_card(path)
