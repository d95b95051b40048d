"""Slides that the workspace knows by the fingerprint of before: their folders, under the new one from now on."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dala.annotations.slides import note_of
from napari_dala.errors import DalaError
from napari_dala.files import write_text
from napari_dala.results.opening import STORE_FILE, reseal
from napari_dala.results.store import Setting
from napari_dala.validation import read_json
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from napari_dala.slide import Slide

_TEXTS = (".json", ".jsonl", ".geojson")
_CHUNKS = "c"  # zarr's folder of an array's values


def adopt_old_folder(slide: Slide, folder: str | Path | None = None) -> None:
    """Rename a slide's folder in the workspace, and the slide in its files, where both have its former fingerprint.

    Two files could have the same one: a folder is this slide's if its note is of this size and resolution and of this
    path, or of this name where there is no file any more; without a note if its results are of a slide of this size,
    and it is no photograph. Another's folder stays where it is, and so does one that cannot be written.

    Parameters
    ----------
    folder
        The workspace, as for `slide_folder`.
    """
    old, new = (slide_folder(name, folder) for name in (slide.old_fingerprint, slide.fingerprint))
    if new.exists() or not old.is_dir() or not _is_of(slide, old):
        return
    with suppress(OSError, KeyError, TypeError, ValueError):  # cut short, it begins anew
        _replace(old, slide.old_fingerprint, slide.fingerprint)
        store = old / "analyses" / STORE_FILE
        for group in sorted(store.glob("*/zarr.json")):
            about, name = _attributes(group), group.parent.name
            key = Setting.from_attributes(about["setting"]).key if "setting" in about else name
            if name != key:
                _replace_in(store / "zarr.json", name, key)  # which says what is latest
                group.parent.rename(store / key)
        reseal(store)
        old.rename(new)


def _is_of(slide: Slide, folder: Path) -> bool:
    """Return whether a folder with a slide's former fingerprint is that slide's."""
    note = note_of(folder)
    if note is None:
        groups = [_attributes(group) for group in folder.glob(f"analyses/{STORE_FILE}/*/zarr.json")]
        sizes = [(about["slide"].get("width"), about["slide"].get("height")) for about in groups if "slide" in about]
        return bool(sizes) and set(sizes) == {slide.dimensions} and not slide.is_photograph
    if slide.path is None or note.path is None or note.dimensions != slide.dimensions:
        return False
    if "file" == note.mpp_source == slide.mpp_source and note.mpp != slide.mpp:
        return False
    here = slide.path.absolute()
    return note.path == here or (note.path.name == here.name and not note.path.exists())


def _attributes(path: Path) -> dict[str, Any]:
    """Return the attributes in a `zarr.json`; none where it cannot be read."""
    try:
        return dict(read_json(path, DalaError, special=True)["attributes"])
    except (DalaError, ValueError, LookupError, TypeError):
        return {}


def _replace(folder: Path, old: str, new: str) -> None:
    """Write `new` for `old` in every text of a folder."""
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _CHUNKS]
        for name in files:
            if name.endswith(_TEXTS):
                _replace_in(Path(root, name), old, new)


def _replace_in(path: Path, old: str, new: str) -> None:
    if not path.is_symlink() and old in (text := path.read_text(encoding="utf-8", errors="surrogateescape")):
        write_text(path, text.replace(old, new))
