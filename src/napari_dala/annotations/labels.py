"""Labelled regions -> labelled tiles: where they are and whose, never their pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import shapely

from napari_dala.annotations.document import areas_of, crossings, is_frame, prepared
from napari_dala.errors import AnnotationError
from napari_dala.model.card import ClassInfo
from napari_dala.results.tile_results import LEFT_OUT, TileStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_dala.annotations.document import AnnotationDocument, Area
    from napari_dala.model.card import ModelCard
    from napari_dala.slide.tiles import TileGrid


UNBALANCED = 10  # times as many tiles of one class as of another
_COLUMNS = ("slide", "patient", "row", "column", "label", "region")
_MOST_CROSSINGS = 200_000  # of regions with each other: cutting them apart takes some seconds
_TOUCH = 1e-6  # part of a tile: less is the rounding of an edge that two regions share


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled tiles of any number of slides.

    Attributes
    ----------
    class_names
        What the labels mean.
    slide, patient
        (n,) str: fingerprint of the slide; patient, or the fingerprint again where the patient is not known.
    row, column
        (n,) place in the slide's grid.
    label
        (n,) index into `class_names`.
    region
        (n,) str: id of the annotation that labelled the tile.
    """

    class_names: tuple[str, ...]
    slide: NDArray[np.str_]
    patient: NDArray[np.str_]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    label: NDArray[np.intp]
    region: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def counts(self) -> dict[str, int]:
        """How many tiles each class has, in the order of the classes; 0 where there are none."""
        numbers = np.bincount(self.label, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, numbers, strict=True))

    def counts_by(self, unit: Literal["slide", "patient", "region"]) -> dict[str, dict[str, int]]:
        """Return how many tiles each class has in each slide, patient or region: {unit: {class: tiles}}."""
        units, number = np.unique(getattr(self, unit), return_inverse=True)
        table = np.zeros((len(units), len(self.class_names)), np.intp)
        np.add.at(table, (number, self.label), 1)
        return {
            str(name): dict(zip(self.class_names, tiles, strict=True))
            for name, tiles in zip(units, table.tolist(), strict=True)
        }

    def units_per_class(self, unit: Literal["slide", "patient", "region"]) -> dict[str, int]:
        """Return in how many slides, patients or regions each class has a tile."""
        tables = self.counts_by(unit).values()
        return {name: sum(table[name] > 0 for table in tables) for name in self.class_names}

    def only(self, keep: NDArray[np.bool_]) -> Examples:
        """Return those tiles where `keep` (n,) is True."""
        return Examples(self.class_names, *(getattr(self, name)[keep] for name in _COLUMNS))


def tiles_of(
    document: AnnotationDocument, grid: TileGrid, class_names: Sequence[str], min_cover: float = 0.5
) -> Examples:
    """Return the tiles that the regions of one slide label.

    A tile has the class that covers most of it, if that is at least `min_cover` of the part of it that lies on the
    slide. Where regions overlap the one drawn last counts. A region that labels no tile, because it is too small or
    too thin, labels the one whose centre is nearest, unless regions drawn after it label that or hide most of it. No
    tile that a region of an "ignore" class touches is among them; QuPath's frames (`is_frame`) count for nothing. They
    come by row, then column.

    Parameters
    ----------
    document
        Of the slide. Classes that are not among `class_names` cover tiles, but label none.
    grid
        Of the slide.
    class_names
        Of the model, in the order of its labels.
    min_cover
        Above 0, at most 1.

    Raises
    ------
    AnnotationError
        When outlines of regions cross each other too often; one line.
    """
    if not 0 < min_cover <= 1:
        raise ValueError(f"min_cover {min_cover}: must be above 0 and at most 1")
    ignored = {item.name for item in document.classes if item.ignore}
    named = [item for item in document.annotations if item.class_name is not None and not is_frame(item.class_name)]
    drawn = [item for item in named if not item.area.is_empty]
    regions = [item for item in drawn if item.class_name not in ignored]
    names = [*class_names, *sorted({str(item.class_name) for item in regions} - set(class_names))]
    classes = [names.index(str(item.class_name)) for item in regions]
    areas = _uppermost([item.area for item in regions])

    cover = np.zeros((len(names), *grid.shape))
    largest = np.zeros_like(cover)
    owner = np.full(cover.shape, -1)
    for number, (index, area) in enumerate(zip(classes, areas, strict=True)):
        tiles, part = _cover(area, grid)
        cover[index][tiles] += part
        larger = part > largest[index][tiles]
        largest[index][tiles][larger] = part[larger]
        owner[index][tiles][larger] = number
    label = cover.argmax(0)
    enough = cover.max(0) >= min_cover - _TOUCH
    region = np.where(enough, np.take_along_axis(owner, label[None], 0)[0], -1)
    for number in sorted(set(range(len(regions))) - set(region.ravel().tolist())):
        hidden = areas[number].area < regions[number].area.area / 2
        tile = None if hidden else _nearest_tile(areas[number], grid)
        if tile and (region[tile] < 0 or (region[tile] < number and label[tile] != classes[number])):
            region[tile], label[tile] = number, classes[number]

    for item in drawn:
        if item.class_name in ignored:
            tiles, part = _cover(item.area, grid)
            region[tiles][part > _TOUCH] = -1
    row, column = np.nonzero((region >= 0) & (label < len(class_names)))
    ids = np.array([item.id for item in regions], np.str_)
    return Examples(
        class_names=tuple(class_names),
        slide=np.full(len(row), document.fingerprint),
        patient=np.full(len(row), document.patient or document.fingerprint),
        row=row,
        column=column,
        label=label[row, column],
        region=ids[region[row, column]],
    )


def concatenate(parts: Sequence[Examples]) -> Examples:
    """Return the examples of several slides as one.

    Raises
    ------
    ValueError
        When there is none, or their classes differ.
    """
    if len({part.class_names for part in parts}) != 1:
        raise ValueError(f"examples of one list of classes are needed, found {[part.class_names for part in parts]}")
    return Examples(
        parts[0].class_names, *(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS)
    )


def imbalance_warning(counts: Mapping[str, int]) -> str | None:
    """Return what a user should know before training on so many tiles of each class; None where all is well.

    Parameters
    ----------
    counts
        Labelled tiles of each class; 0 where there are none.
    """
    missing = [name for name, tiles in counts.items() if not tiles]
    if len(missing) == len(counts):
        return "No tile is labelled yet: draw regions of each class."
    if missing:
        names = " or ".join(missing)
        return (
            f"No tile is labelled {names}: draw at least one region of it, or the model may forget what it looks like."
        )
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] > UNBALANCED * counts[least]:
        return (
            f"{most} has {counts[most] / counts[least]:.0f} times as many tiles as {least} ({counts[most]} against "
            f"{counts[least]}): draw more {least}, or the model learns little about it."
        )
    return None


def _uppermost(areas: list[Area]) -> list[Area]:
    """Return what each area shows where later ones lie on top; empty where it is hidden."""
    tree = shapely.STRtree(areas)
    below, above = tree.query(tree.geometries, predicate="intersects")
    involved = np.unique([below[above > below], above[above > below]]).tolist()
    if involved and crossings([areas[number] for number in involved], _MOST_CROSSINGS) > _MOST_CROSSINGS:
        raise AnnotationError(
            f"outlines of regions cross each other more than {_MOST_CROSSINGS:,} times: simplify them"
        )
    shown = list(areas)
    for number in np.unique(below[above > below]).tolist():
        later = shapely.union_all([areas[other] for other in above[(below == number) & (above > number)]])
        shown[number] = areas_of(shapely.difference(areas[number], later))
    return shown


def _cover(area: Area, grid: TileGrid) -> tuple[tuple[slice, slice], NDArray[np.float64]]:
    """Return the tiles (rows, columns) around an area and the part of each, within the slide, that it covers."""
    left, top = grid.origins()
    right, bottom = (
        np.minimum(edge + side, size)
        for edge, side, size in zip((left, top), grid.tile_size, grid.slide_size, strict=True)
    )
    if area.is_empty:
        return (slice(0), slice(0)), np.zeros((0, 0))
    min_x, min_y, max_x, max_y = area.bounds
    columns = slice(np.searchsorted(right, min_x, "right"), np.searchsorted(left, max_x))
    rows = slice(np.searchsorted(bottom, min_y, "right"), np.searchsorted(top, max_y))
    boxes = shapely.box(left[None, columns], top[rows, None], right[None, columns], bottom[rows, None])
    area = prepared(area)
    whole = shapely.covers(area, boxes)
    part = whole.astype(np.float64)
    border = ~whole & shapely.intersects(area, boxes)
    part[border] = shapely.area(shapely.intersection(boxes[border], area)) / shapely.area(boxes[border])
    return (rows, columns), part


def _nearest_tile(area: Area, grid: TileGrid) -> tuple[int, int] | None:
    """Return the tile (row, column) whose centre is nearest to a point of the area; None where none is on the slide."""
    on_slide = shapely.intersection(area, shapely.box(0, 0, *grid.slide_size))
    if not on_slide.area:
        return None
    point = on_slide.representative_point()
    return grid.nearest(point.x, point.y)


def classes_to_learn(card: ModelCard, documents: Iterable[AnnotationDocument]) -> tuple[ClassInfo, ...]:
    """Return the card's classes, then those of the documents that it lacks, but for "ignore" classes and frames.

    Classes match by name, whatever its case.
    """
    found = {info.name.casefold(): info for info in card.classes}
    for document in documents:
        for item in document.classes:
            if item.is_learned:
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
    could not decode, and those that are ink or out of focus, always are.

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
    if left_out := int(np.isin(status, LEFT_OUT).sum()):
        notes.append(f"{left_out} labelled tiles are ink or out of focus and were left out")
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


def tile_labels(document: AnnotationDocument, grid: TileGrid, names: Sequence[str]) -> NDArray[np.intp]:
    """Return what each tile is labelled, an index into `names`, -1 where it is not, (rows, columns).

    As `tiles_of` has it, but that classes to ignore label like others. Names match whatever their case.

    Raises
    ------
    AnnotationError
        When outlines of regions cross each other too often; one line.
    """
    plain = replace(document, classes=())  # none of them to be ignored
    labels = np.full(grid.shape, -1)
    if names and plain.annotations:
        examples = tiles_of(with_names(plain, names), grid, names)
        labels[examples.row, examples.column] = examples.label
    return labels


def drawn_tiles(document: AnnotationDocument, grid: TileGrid) -> NDArray[np.bool_]:
    """Return which tiles have a label already, of whatever class, "ignore" among them, (rows, columns)."""
    names = sorted({item.class_name for item in document.annotations if item.class_name is not None})
    drawn: NDArray[np.bool_] = tile_labels(document, grid, names) >= 0
    return drawn
