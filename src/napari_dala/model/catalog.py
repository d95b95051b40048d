"""The models that can be named: the built-in ones and the bundles in the workspace. No torch."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.numpy import load_file, save_file

from napari_dala.errors import BundleError
from napari_dala.files import replacing, sweep
from napari_dala.model.card import TRUNK_OF, UNTRAINED_CARD, read_card, within_threshold
from napari_dala.model.tensor_file import HASH, UNSEALED, check_seal, read_header, seal
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_dala.model.card import ModelCard

SUFFIX, PAGE_SUFFIX = ".safetensors", ".html"
DEFAULT = "breakhis-ucsb"
"""The model that "default" names, made by `scripts/train_default.py`."""
TEACHING = "teaching-slide"
"""The model of the drawn teaching slide, made by `scripts/train_teaching.py`."""
BUILT_IN = ("default", DEFAULT, TEACHING, "untrained")
"""Names of the built-in models; a bundle cannot be installed under them."""

_BUILT_IN_FILES = {name: Path(__file__).with_name("built_in") / f"{name}{SUFFIX}" for name in (DEFAULT, TEACHING)}


@dataclass(frozen=True)
class ModelEntry:
    """A model by name: the file of its bundle (None: random weights), and its card or why it has none.

    Attributes
    ----------
    hash
        The bundle's, as its file says; older files do not.
    """

    name: str
    path: Path | None
    card: ModelCard | None
    problem: str | None = None
    hash: str | None = None

    @property
    def is_built_in(self) -> bool:
        """True for a model that came with the program and cannot be renamed or removed."""
        return self.name in BUILT_IN

    def made(self, bundle_hash: str, card: ModelCard) -> bool:
        """Return whether this model is the one with this hash and card, whatever its name and threshold are now.

        Where the file does not say its hash, the cards decide, which tell when and on what a model was trained.
        """
        if self.hash is not None or self.card is None:
            return self.hash == bundle_hash
        return _unnamed(self.card) == _unnamed(card)


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


def _unnamed(card: ModelCard) -> ModelCard:
    """Return a card without what can be changed of a model that stays the same."""
    return card.model_copy(update={"name": "", "summary": "", "operating_threshold": 0.5})


def _entry(path: Path) -> ModelEntry:
    try:
        return ModelEntry(path.stem, path, read_card(path), hash=read_header(path).metadata.get(HASH))
    except BundleError as error:
        return ModelEntry(path.stem, path, None, str(error))


def free_name(name: str, folder: str | Path | None = None) -> str:
    """Return `name`, with a number behind it where a model of the workspace `folder` has it already."""
    taken = {entry.name for entry in list_models(folder)} | set(BUILT_IN)
    names = (name if number == 1 else f"{name} {number}" for number in count(1))
    return next(one for one in names if one not in taken)


def install_file(
    source: Path,
    name: str,
    folder: str | Path | None = None,
    *,
    threshold: float | None = None,
    page: Path | None = None,
) -> ModelEntry:
    """Copy the file of a bundle into the workspace `folder` under the free name nearest to `name`, which its card says.

    With a threshold the copy's card has this operating threshold instead of its own; weights and hashes stay. Its
    card is checked; its weights are when they are loaded (`convert.install_model` checks them first, with torch).

    Parameters
    ----------
    page
        *How good is it?* of this model, which is kept beside it (`page_of`) where there is one.

    Raises
    ------
    BundleError
        If the file is not a bundle, the name is not fit for a file name, or the workspace cannot be written.
    """
    card = read_card(source)
    target = installed_path(free_name(name, folder), folder)
    sweep(target.parent)
    wanted: dict[str, object] = {"name": target.stem}
    if threshold is not None:
        wanted["operating_threshold"] = within_threshold(threshold)
    with _writing(target):
        _write_with_card(source, target, card.model_copy(update=wanted))
        if page is not None and page.is_file():
            copy_bundle(page, target.with_suffix(PAGE_SUFFIX))
    return _entry(target)


def check_new_name(name: str, folder: str | Path | None = None) -> None:
    """Raise BundleError where no new model of the workspace `folder` can have this name; one line says why."""
    if installed_path(name, folder).exists():
        raise BundleError(f"{name}: there is a model of this name already; choose another")


def rename_model(entry: ModelEntry, name: str, folder: str | Path | None = None) -> ModelEntry:
    """Give a model of the workspace `folder` another name, in its card too; its results and its page stay its own.

    Raises
    ------
    BundleError
        If it is built in, another model has its trunk, the name is taken or not fit for a file name, or the workspace
        cannot be written. Nothing is changed then.
    """
    source, name = _own_file(entry, folder), name.strip()
    target = installed_path(name, folder)
    if target == source:
        return entry
    if not (target.exists() and target.samefile(source)):  # the same where only capitals change, on some systems
        check_new_name(name, folder)
    with _writing(target):
        is_same = target.exists()
        if entry.card is None:
            source.rename(target)
        else:
            _write_with_card(source, target, entry.card.model_copy(update={"name": name}))
            if not is_same:
                source.unlink()
        page = source.with_suffix(PAGE_SUFFIX)
        if page.is_file():
            page.replace(target.with_suffix(PAGE_SUFFIX))
    return _entry(target)


def remove_model(entry: ModelEntry, folder: str | Path | None = None) -> None:
    """Remove a model of the workspace `folder`, and its page; what it found on slides stays.

    Raises
    ------
    BundleError
        If it is built in, another model has its trunk, or the file cannot be removed.
    """
    path = _own_file(entry, folder)
    with _writing(path):
        path.unlink(missing_ok=True)
        path.with_suffix(PAGE_SUFFIX).unlink(missing_ok=True)


def page_of(entry: ModelEntry) -> Path | None:
    """Return the page *How good is it?* that was kept beside a model, or None."""
    page = None if entry.path is None else entry.path.with_suffix(PAGE_SUFFIX)
    return page if page is not None and page.is_file() else None


def _own_file(entry: ModelEntry, folder: str | Path | None) -> Path:
    """Return the file of a model that may be changed."""
    if entry.is_built_in or entry.path is None:
        raise BundleError(f"{entry.name}: this model came with the program and stays as it is")
    for other in list_models(folder):
        if other.path and other.card and read_header(other.path).metadata.get(TRUNK_OF) == entry.path.name:
            raise BundleError(f"{entry.name}: the model “{other.name}” is built on it; remove that one first")
    return entry.path


def _write_with_card(source: Path, target: Path, card: ModelCard) -> None:
    """Write a copy of a bundle's file with another card, whole or not at all; byte by byte where it has this card."""
    if card == read_card(source):
        return copy_bundle(source, target)
    before = read_header(source).metadata
    check_seal(source, before)  # what is sealed anew below was whole
    metadata = {**before, "card": card.model_dump_json(), **UNSEALED}
    with replacing(target) as temporary:
        save_file(load_file(source), temporary, metadata)
        seal(temporary)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(f"{path}: the model cannot be written there ({error.strerror or error})") from error


def copy_bundle(source: Path, target: Path) -> None:
    """Copy a bundle's file, or its page, byte by byte, whole or not at all."""
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
