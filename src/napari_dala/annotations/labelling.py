"""From what was drawn to what is learnt: which classes, under which names, and which of the tiles they label."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.results.store import TileStatus
from napari_dala.model.card import ClassInfo
from napari_dala.annotations.labels import tiles_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_dala.model.card import ModelCard
    from napari_dala.slide.tiles import TileGrid
    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.annotations.labels import Examples


def classes_to_learn(card: ModelCard, documents: Iterable[AnnotationDocument]) -> tuple[ClassInfo, ...]:
    """Return the card's classes, then those of the documents that it lacks, but for "ignore" classes.

    Classes match by name, whatever its case.
    """
    found = {info.name.casefold(): info for info in card.classes}
    for document in documents:
        for item in document.classes:
            if not item.ignore:
                found.setdefault(item.name.casefold(), ClassInfo(name=item.name, color=item.color))
    return tuple(found.values())


def with_names(document: AnnotationDocument, names: Iterable[str]) -> AnnotationDocument:
    """Return the document with the case of its classes' names as in `names`."""
    known = {name.casefold(): name for name in names}
    ignored = {item.name for item in document.classes if item.ignore}

    def written(name: str | None) -> str | None:
        return name if name is None or name in ignored else known.get(name.casefold(), name)

    return replace(
        document,
        classes=tuple(replace(item, name=written(item.name) or item.name) for item in document.classes),
        annotations=tuple(
            item if written(item.class_name) == item.class_name else replace(item, class_name=written(item.class_name))
            for item in document.annotations
        ),
    )


def usable_tiles(examples: Examples, status: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which labelled tiles can be learnt from, and what to tell about the others.

    Tiles that an analysis found to be background are left out, unless their class has no others; those that it
    could not decode always are.

    Parameters
    ----------
    examples
        n tiles.
    status
        (n,) `TileStatus` of each; TODO where no analysis knows it.

    Returns
    -------
    (n,) bool, and a sentence for each thing to tell.
    """
    keep = np.isin(status, (TileStatus.TODO, TileStatus.DONE))
    background = status == TileStatus.BACKGROUND
    notes = []
    if unreadable := int((status == TileStatus.UNREADABLE).sum()):
        notes.append(f"{unreadable} labelled tiles cannot be decoded and were left out")
    for label in np.unique(examples.label[background]).tolist():
        of_class = examples.label == label
        tiles, name = int((background & of_class).sum()), examples.class_names[label]
        if (keep & of_class).any():
            lie = "1 tile lies on background and was" if tiles == 1 else f"{tiles} tiles lie on background and were"
            notes.append(f"{name}: {lie} left out")
        else:
            keep |= background & of_class
            notes.append(f"{name} was drawn on background only: its {tiles} tiles were used all the same")
    return keep, notes


def without_empty(
    examples: Examples, classes: Sequence[ClassInfo], known: int
) -> tuple[Examples, tuple[ClassInfo, ...]]:
    """Drop classes without tiles, but for the first `known` ones, which the parent has."""
    there = np.bincount(examples.label, minlength=len(classes)) > 0
    there[:known] = True
    kept = tuple(info for info, yes in zip(classes, there.tolist(), strict=True) if yes)
    names = tuple(info.name for info in kept)
    return replace(examples, class_names=names, label=(np.cumsum(there) - 1)[examples.label]), kept


def drawn_tiles(document: AnnotationDocument, grid: TileGrid) -> NDArray[np.bool_]:
    """Return which tiles have a label already, of whatever class, "ignore" among them, (rows, columns)."""
    plain = replace(document, classes=())  # none of them to be ignored
    names = sorted({item.class_name for item in document.annotations if item.class_name is not None})
    drawn = np.zeros(grid.shape, np.bool_)
    if names:
        examples = tiles_of(plain, grid, names)
        drawn[examples.row, examples.column] = True
    return drawn
