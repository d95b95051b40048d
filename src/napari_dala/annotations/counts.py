"""How many tiles of each class the drawings of slides label, counted without opening a slide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from napari_dala.annotations.document import AnnotationDocument
from napari_dala.annotations.held_out import hold_out
from napari_dala.annotations.labels import (
    Examples,
    classes_to_learn,
    concatenate,
    imbalance_warning,
    tiles_of,
    usable_tiles,
    with_names,
    without_empty,
)
from napari_dala.errors import AnnotationError, DalaError
from napari_dala.results.opening import open_store
from napari_dala.results.stored_tiles import read_scattered
from napari_dala.results.tile_results import LEFT_OUT, TileStatus
from napari_dala.slide.tiles import BLOCK, TileGrid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_dala.annotations.document import Color
    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.card import ModelCard
    from napari_dala.results.store import AnalysisStore

_WHOLE = 3  # reading all blocks at once takes a third of the time that reading each by itself takes

KnownLabels: TypeAlias = dict[str, tuple[AnnotationDocument, tuple[TileGrid, tuple[str, ...]], Examples]]


@dataclass(frozen=True)
class ClassCount:
    """How much of one class is labelled.

    Attributes
    ----------
    name, color
        Of the class.
    tiles, slides, patients
        Labelled tiles, and in how many slides and of how many patients they lie.
    """

    name: str
    color: Color
    tiles: int
    slides: int
    patients: int


@dataclass(frozen=True)
class Counts:
    """What there is to learn from.

    Attributes
    ----------
    classes
        The model's, then those that were drawn and that it does not know yet.
    problems
        Why slides do not count, a line each.
    plan
        How many labelled tiles teach, how many check and how many are left out, and why: one sentence, or empty.
    """

    classes: tuple[ClassCount, ...]
    problems: tuple[str, ...] = ()
    plan: str = ""

    @property
    def warning(self) -> str | None:
        """What a user should know before training on it, or None."""
        return imbalance_warning({entry.name: entry.tiles for entry in self.classes})


def label_counts(slides: Sequence[AnnotatedSlide], card: ModelCard, known: KnownLabels | None = None) -> Counts:
    """Count the labelled tiles that a model would learn from, without opening a slide.

    Tiles count as in a fine-tuning (`labelling.usable_tiles`), as far as the slides' analyses know them.

    Parameters
    ----------
    slides
        Those to learn from.
    card
        Of the parent: its classes, and the size and resolution of its tiles.
    known
        Labels of slides that were counted before; kept by the caller, so that only what changed is counted again.
    """
    known = {} if known is None else known
    problems: list[str] = []
    drawn: list[_Drawn] = []
    for slide in slides:
        try:
            drawn.append(_drawn_on(slide, card))
        except DalaError as error:
            problems.append(str(error))
    classes = classes_to_learn(card, (one.document for one in drawn))
    names = tuple(info.name for info in classes)
    labels = []
    for one in list(drawn):
        try:
            labels.append(_labels(one, names, known))
        except AnnotationError as error:
            problems.append(str(error))
            drawn.remove(one)
    if not labels:
        return Counts(tuple(ClassCount(info.name, info.color, 0, 0, 0) for info in classes), tuple(problems))
    status = [one.status(examples) for one, examples in zip(drawn, labels, strict=True)]
    examples, known_status = concatenate(labels), np.concatenate(status)
    keep, _ = usable_tiles(examples, known_status)
    unreadable = int((known_status == TileStatus.UNREADABLE).sum())
    artefacts = int(np.isin(known_status, LEFT_OUT).sum())
    background = int((~keep).sum()) - unreadable - artefacts
    examples = examples.only(keep)
    examples, classes = without_empty(examples, classes, len(card.classes))
    plan = plan_of(examples, {one.fingerprint: one.grid for one in drawn}, background, unreadable, artefacts)
    tiles, in_slides, of_patients = (
        examples.counts,
        examples.units_per_class("slide"),
        examples.units_per_class("patient"),
    )
    return Counts(
        tuple(
            ClassCount(info.name, info.color, tiles[info.name], in_slides[info.name], of_patients[info.name])
            for info in classes
        ),
        tuple(problems),
        plan,
    )


def plan_of(
    examples: Examples, grids: Mapping[str, TileGrid], background: int = 0, unreadable: int = 0, artefacts: int = 0
) -> str:
    """Say how many labelled tiles a fine-tuning uses to learn, to check itself, and leaves out, and why.

    Parameters
    ----------
    examples
        Those that can be learned from.
    grids
        By fingerprint of the slide.
    background, unreadable, artefacts
        How many more lie on background, cannot be decoded, or are ink or out of focus.
    """
    left_out = background + unreadable + artefacts
    total = len(examples) + left_out
    if not len(examples):
        return ""
    held_out = hold_out(examples, grids)
    train, test, dropped = (len(part) for part in (held_out.split.train, held_out.split.test, held_out.split.dropped))
    said = f"Of {total} labelled tile{'s'[: total != 1]} {train} {'teach' if train != 1 else 'teaches'} the model"
    said += f", {test} of other {held_out.unit}s check it" if test else ", none checks it"
    reasons = (
        (dropped, "next to a checking tile"),
        (background, "on background"),
        (unreadable, "not readable"),
        (artefacts, "ink or out of focus"),
    )
    why = ", ".join(f"{count} {reason}" for count, reason in reasons if count)
    said += f", {dropped + left_out} left out ({why})." if why else "."
    if not test:
        said += " To check it, draw two regions of each class, apart from each other, or label another slide."
    return said


@dataclass(frozen=True)
class _Drawn:
    """What was drawn on a slide, the model's tiles, and an analysis that has these very tiles, if there is one."""

    fingerprint: str
    document: AnnotationDocument
    grid: TileGrid
    store: AnalysisStore | None

    def status(self, examples: Examples) -> NDArray[np.uint8]:
        """Return the `TileStatus` of labelled tiles, (n,)."""
        if self.store is None or not len(examples):
            return np.full(len(examples), TileStatus.TODO, np.uint8)
        blocks = np.unique(np.stack((examples.row, examples.column)) // BLOCK, axis=1).shape[1]
        if blocks * _WHOLE > np.prod(self.grid.blocks()):
            return self.store.status[examples.row, examples.column]
        return read_scattered(partial(self.store.read, "status"), examples.row, examples.column)


def _drawn_on(slide: AnnotatedSlide, card: ModelCard) -> _Drawn:
    document = slide.document
    if document is None or slide.note is None:
        raise AnnotationError(slide.problem)
    grid = TileGrid.over(slide.note, card.tile_px, card.mpp, cell_px=card.cell_px)
    try:
        store = open_store(slide.analysis / "analysis.zarr") if slide.analysis else None
    except DalaError:
        store = None
    here = slide.fingerprint, slide.profile_id
    if (
        store is None
        or (store.setting.fingerprint, store.setting.profile_id) != here
        or not store.grid.has_tiles_of(grid)
    ):
        return _Drawn(slide.fingerprint, document, grid, None)
    return _Drawn(slide.fingerprint, document, store.grid, store)


def _labels(drawn: _Drawn, names: tuple[str, ...], known: KnownLabels) -> Examples:
    before = known.get(drawn.fingerprint)
    if before is not None and before[0] is drawn.document and before[1] == (drawn.grid, names):
        return before[2]
    labels = tiles_of(with_names(drawn.document, names), drawn.grid, names)
    known[drawn.fingerprint] = (drawn.document, (drawn.grid, names), labels)
    return labels
