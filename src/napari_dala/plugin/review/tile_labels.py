"""Which class each tile was given on the current slide, and giving it another: labels are drawn regions at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import QSignalThrottler, create_worker

from napari_dala.annotations.document import AnnotationClass
from napari_dala.annotations.labels import tile_labels
from napari_dala.annotations.tile_regions import with_tile_regions, without_tile_regions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.plugin.annotate.drawing import Drawing
    from napari_dala.results.analysis import Analysis

    Tile = tuple[int, int]
    Found = tuple[AnnotationDocument, Analysis, tuple[AnnotationClass, ...], NDArray[np.intp]]

_SOON_MS = 100


class TileLabels(QObject):
    """The labels of the tiles of some results.

    Parameters
    ----------
    drawing
        What is drawn on the current slide.

    Attributes
    ----------
    classes
        Name and colour: the model's, then others that were drawn.
    of_tiles
        (rows, columns) index into `classes`, -1 where a tile has no label; None while it is not known.
    """

    changed = Signal()
    """Labels or classes are others."""
    failed = Signal(str)
    """Why labels cannot be found, one line."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self._drawing = drawing
        self._analysis: Analysis | None = None
        self._is_finding = self._is_asked_again = False
        self.classes: tuple[AnnotationClass, ...] = ()
        self.of_tiles: NDArray[np.intp] | None = None
        self._soon = QSignalThrottler(parent=self)
        self._soon.setTimeout(_SOON_MS)
        self._soon.triggered.connect(self._find)
        drawing.changed.connect(self._soon.throttle)

    def follow(self, analysis: Analysis | None) -> None:
        """Be about the tiles of other results from now on."""
        self._analysis, self.of_tiles = analysis, None
        self.changed.emit()
        self._find()

    def give(self, tiles: Sequence[Tile], info: AnnotationClass) -> None:
        """Label tiles; those that are labelled so already stay as they are."""
        self._edit({info: tiles})

    def agree(self, tiles: Sequence[Tile], called: NDArray[np.integer]) -> list[Tile]:
        """Label tiles as the model calls them, see `Opinion.called`; return those that it does not judge."""
        if self._analysis is None:
            return []
        wanted: dict[AnnotationClass, list[Tile]] = {}
        unjudged = []
        for tile in tiles:
            if called[tile]:
                info = self._analysis.card.classes[called[tile] - 1]
                wanted.setdefault(AnnotationClass(info.name, info.color), []).append(tile)
            else:
                unjudged.append(tile)
        self._edit(wanted)
        return unjudged

    def take_back(self, tiles: Sequence[Tile]) -> bool:
        """Remove labels that were given to single tiles; return whether there was one."""
        document = self._drawing.document
        if document is None or self._analysis is None:
            return False
        without = without_tile_regions(document, self._analysis.grid, tiles)
        if without is document:
            return False
        self._drawing.edit(without)
        return True

    def is_labelled(self, tiles: Sequence[Tile]) -> bool:
        """Return whether one of the tiles has a label."""
        return self.of_tiles is not None and any(self.of_tiles[tile] >= 0 for tile in tiles)

    def _edit(self, wanted: Mapping[AnnotationClass, Sequence[Tile]]) -> None:
        """Draw tiles of some classes, as one step that can be undone; the labels show at once."""
        document, analysis = self._drawing.document, self._analysis
        if document is None or analysis is None:
            return
        after, labels = document, self.of_tiles
        for info, tiles in wanted.items():
            index = self._index_of(info)
            new = [tile for tile in tiles if labels is None or labels[tile] != index]
            if new:
                after = with_tile_regions(after, analysis.grid, new, info)
                if labels is not None and index is not None:
                    labels[tuple(np.transpose(new))] = index
        if after is not document:
            self._drawing.edit(after)
            self.changed.emit()

    def _index_of(self, info: AnnotationClass) -> int | None:
        names = [item.name.casefold() for item in self.classes]
        return names.index(info.name.casefold()) if info.name.casefold() in names else None

    def _find(self) -> None:
        """Find the labels in a thread."""
        document, analysis = self._drawing.document, self._analysis
        if document is None or analysis is None:
            return
        if self._is_finding:
            self._is_asked_again = True
            return
        self._is_finding = True
        found = {info.name.casefold(): AnnotationClass(info.name, info.color) for info in analysis.card.classes}
        for item in document.classes:
            found.setdefault(item.name.casefold(), item)
        create_worker(
            _labels_in,
            document,
            analysis,
            tuple(found.values()),
            _connect={"returned": self._on_found, "errored": self._on_failed, "finished": self._on_finished},
        )

    def _on_found(self, found: Found) -> None:
        document, analysis, classes, labels = found
        if document is self._drawing.document and analysis is self._analysis:
            self.classes, self.of_tiles = classes, labels
            self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        self.failed.emit(str(error))

    def _on_finished(self) -> None:
        again, self._is_finding, self._is_asked_again = self._is_asked_again, False, False
        if again:
            self._find()


def _labels_in(document: AnnotationDocument, analysis: Analysis, classes: tuple[AnnotationClass, ...]) -> Found:
    names = [item.name for item in classes]
    return document, analysis, classes, tile_labels(document, analysis.grid, names)
