"""Slides and what was drawn on them -> the labelled tiles that a fine-tuning learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.annotations.files import read_annotations
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
from napari_dala.errors import AnnotationError
from napari_dala.results.store import Setting
from napari_dala.results.stored_tiles import StoredFeatures, find_stored
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import Slide, open_slide
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.model.card import ClassInfo, ModelCard
    from napari_dala.training.finetune.job import FinetuneSettings, SlideExamples


@dataclass(frozen=True, eq=False)
class Source:
    """A slide that labelled tiles are from.

    Attributes
    ----------
    path, mpp, icc_profile
        As `open_slide` takes them.
    fingerprint
        Of the slide.
    grid
        Where its tiles lie: that of the analysis where there is one.
    stored
        What the analysis has of this trunk; None where there is none.
    """

    path: Path
    mpp: float | tuple[float, float] | None
    icc_profile: bool
    fingerprint: str
    grid: TileGrid
    stored: StoredFeatures | None


class LabelledTiles:
    """Labelled tiles of any number of slides, and their pixels when they are asked for.

    Parameters
    ----------
    examples
        Which tiles, with their labels.
    classes
        What the labels mean: the parent's classes, then those that only the annotations have.
    sources
        The slides.
    notes
        What the user must be told, a sentence each.
    """

    def __init__(
        self, examples: Examples, classes: tuple[ClassInfo, ...], sources: tuple[Source, ...], notes: tuple[str, ...]
    ) -> None:
        self.examples, self.classes, self.sources, self.notes = examples, classes, sources, notes
        self._source = {source.fingerprint: source for source in sources}
        self._open: dict[str, Slide] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def source_of(self, index: int) -> Source:
        """Return the slide of a tile."""
        return self._source[str(self.examples.slide[index])]

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of a tile, (tile_px, tile_px, 3), from any thread; `SlideError` if they are damaged."""
        source = self.source_of(index)
        slide = self._open.get(source.fingerprint)
        if slide is None:
            slide = open_slide(source.path, mpp=source.mpp, icc_profile=source.icc_profile)
            slide = self._open.setdefault(source.fingerprint, slide)
        return read_tiles(slide, source.grid, int(self.examples.row[index]), int(self.examples.column[index]), 1, 1)

    def only(self, keep: NDArray[np.bool_], notes: Sequence[str] = ()) -> LabelledTiles:
        """Return those tiles where `keep` (n,) is True, with further notes."""
        return LabelledTiles(self.examples.only(keep), self.classes, self.sources, (*self.notes, *notes))

    def close(self) -> None:
        """Release the slides' files."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> LabelledTiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def gather(
    slides: Sequence[SlideExamples], card: ModelCard, trunk_hash: str, settings: FinetuneSettings
) -> LabelledTiles:
    """Find the labelled tiles of slides.

    Classes match by name, whatever its case. Tiles that the analysis found to be background are left out, unless a
    class has no others; those that it could not decode always are.

    Parameters
    ----------
    slides
        Each with what was drawn on it.
    card, trunk_hash
        Of the parent.
    settings
        For `min_cover` and `precision`.

    Raises
    ------
    DalaError
        In one line: a slide or a file of regions cannot be read, annotations are of another slide, a slide comes
        twice, or no tile is labelled.
    """
    if not slides:
        raise AnnotationError("no slide to learn from: give at least one, with what was drawn on it")
    sources: list[Source] = []
    documents: list[AnnotationDocument] = []
    for one in slides:
        with open_slide(one.slide, mpp=one.mpp, icc_profile=one.icc_profile) as slide:
            document = read_annotations(one.annotations)
            if document.fingerprint not in ("", slide.fingerprint, slide.old_fingerprint):
                raise AnnotationError(
                    f"{one.annotations.name}: drawn on another slide than {slide.name}; give each slide its own file"
                )
            if slide.fingerprint in {source.fingerprint for source in sources}:
                raise AnnotationError(f"{slide.name}: this slide is given twice; give it once")
            grid = TileGrid.over(slide, card.tile_px, card.mpp, cell_px=card.cell_px)
            like = Setting(slide.fingerprint, grid, trunk_hash, settings.precision, slide.profile_id)
            stored = find_stored(one.analysis, like) if one.analysis else None
            grid = stored.setting.grid if stored else grid
            sources.append(Source(one.slide, one.mpp, one.icc_profile, slide.fingerprint, grid, stored))
            documents.append(replace(document, fingerprint=slide.fingerprint))
    classes = classes_to_learn(card, documents)
    names = tuple(info.name for info in classes)
    examples = concatenate(
        [
            tiles_of(with_names(document, names), source.grid, names, settings.min_cover)
            for document, source in zip(documents, sources, strict=True)
        ]
    )
    keep, notes = usable_tiles(examples, _status(examples, sources))
    examples = examples.only(keep)
    if not len(examples):
        hiding = {item.name for document in documents for item in document.classes if item.ignore}
        hides = f"; regions of {' and '.join(sorted(hiding))} hide what they touch" if hiding else ""
        raise AnnotationError(
            f"no tile is labelled: draw regions of each class, or lower the cover that a tile needs{hides}"
        )
    examples, classes = without_empty(examples, classes, len(card.classes))
    warning = imbalance_warning(examples.counts)
    return LabelledTiles(examples, classes, tuple(sources), (*notes, *([warning] if warning else [])))


def _status(examples: Examples, sources: Sequence[Source]) -> NDArray[np.uint8]:
    """Return `TileStatus` of each tile as the analyses know it, (n,)."""
    status = np.full(len(examples), TileStatus.TODO, np.uint8)
    for source in sources:
        if source.stored:
            here = examples.slide == source.fingerprint
            status[here] = source.stored.status[examples.row[here], examples.column[here]]
    return status
