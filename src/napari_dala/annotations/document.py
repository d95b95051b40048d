"""What a user drew on one slide; `annotations.files` reads and writes it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import shapely

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Area: TypeAlias = shapely.Polygon | shapely.MultiPolygon
Shape = TypeVar("Shape", bound=shapely.Geometry)
Color: TypeAlias = tuple[int, int, int]
Corners: TypeAlias = tuple[tuple[float, float], ...]

ELLIPSE_POINTS = 64
_PAIRS = 1 << 18  # of lines, looked at at once


@dataclass(frozen=True)
class AnnotationClass:
    """A kind of tissue to draw.

    Attributes
    ----------
    name
        As shown, and as the classification in QuPath.
    color
        Red, green, blue, 0 to 255.
    ignore
        True where tiles of such regions are kept out of training and evaluation: folds, pen, blur.
    """

    name: str
    color: Color
    ignore: bool = False

    @property
    def is_learned(self) -> bool:
        """True where regions of this class label tiles: neither to be ignored nor a frame."""
        return not self.ignore and not is_frame(self.name)


@dataclass(frozen=True)
class Annotation:
    """One region.

    Attributes
    ----------
    id
        A UUID.
    class_name
        None where it has no class yet.
    geometry
        Exactly as drawn or read, level-0 px (x, y); holes and several parts are possible, and it may cross itself.
    extra
        Whatever else the feature held in its file (properties, measurements, lock); written back as it was.
    ellipse
        The four corners (x, y) of the box around an ellipse, which may be turned; `geometry` is then its polygon.
    """

    id: str
    class_name: str | None
    geometry: Area
    extra: Mapping[str, Any] = field(default_factory=dict)
    ellipse: Corners | None = None

    @classmethod
    def drawn(cls, geometry: Area, class_name: str | None = None, *, ellipse: Corners | None = None) -> Annotation:
        """Return a new annotation, with an id of its own."""
        return cls(str(uuid.uuid4()), class_name, geometry, ellipse=ellipse)

    @cached_property
    def area(self) -> Area:
        """The geometry made valid: 2-D, where it crosses itself by the even-odd rule; empty if it has no width."""
        return repaired(shapely.force_2d(self.geometry))


@dataclass(frozen=True)
class AnnotationDocument:
    """Everything that was drawn on one slide.

    Attributes
    ----------
    fingerprint
        Of the slide; empty for a file of another program.
    classes
        Those in the list, whether drawn already or not; names are unique.
    annotations
        In the order in which they were drawn: where two overlap, the later one is on top.
    patient
        As the user typed it; None where they did not.
    others
        Features that are no regions (points, lines, detections of QuPath) or cannot be read; written back as they were.
    notes
        What its reader should tell the user, a line each.
    """

    fingerprint: str
    classes: tuple[AnnotationClass, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    patient: str | None = None
    others: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    def class_named(self, name: str | None) -> AnnotationClass | None:
        """Return the class of this name, None where there is none."""
        return next((item for item in self.classes if item.name == name), None)

    def renamed(self, old: str, new: str) -> AnnotationDocument:
        """Return the document with a class renamed, in the list and on every annotation."""
        if self.class_named(new):
            raise ValueError(f"there is a class {new!r} already")
        classes = tuple(replace(item, name=new) if item.name == old else item for item in self.classes)
        annotations = tuple(
            replace(item, class_name=new) if item.class_name == old else item for item in self.annotations
        )
        return replace(self, classes=classes, annotations=annotations)

    def with_class(self, ids: Collection[str], name: str | None) -> AnnotationDocument:
        """Return the document with another class for some annotations; itself where they have that class already."""
        if all(item.class_name == name for item in self.annotations if item.id in ids):
            return self
        annotations = (replace(item, class_name=name) if item.id in ids else item for item in self.annotations)
        return replace(self, annotations=tuple(annotations))

    def joined(self, other: AnnotationDocument) -> AnnotationDocument:
        """Return the document with all that another one holds added after its own; classes are told by their names.

        An annotation keeps its id, unless there is one of that id already.
        """
        own = {item.id for item in self.annotations}
        named = {item.name.casefold(): item for item in (*other.classes, *self.classes)}  # of two, one's own
        added = []
        for item in other.annotations:
            known = named.get(item.class_name.casefold()) if item.class_name is not None else None
            identity = str(uuid.uuid4()) if item.id in own else item.id
            added.append(replace(item, id=identity, class_name=known.name if known else item.class_name))
        new = [item for item in other.classes if named[item.name.casefold()] is item]
        return replace(
            self,
            classes=(*self.classes, *new),
            annotations=(*self.annotations, *added),
            patient=self.patient or other.patient,
            others=(*self.others, *other.others),
            notes=(*self.notes, *other.notes),
        )


def is_frame(class_name: str | None) -> bool:
    """Return whether a class is QuPath's "Region*": around what was annotated, it labels nothing and hides nothing."""
    return class_name is not None and class_name.casefold() == "region*"


def repaired(area: Area) -> Area:
    """Return a valid area; what has no width is gone, and the result may be empty."""
    return area if area.is_valid and area.area else areas_of(shapely.make_valid(area))


def areas_of(geometry: shapely.Geometry) -> Area:
    """Return the union of the parts that have an area, without lines and points."""
    united = shapely.union_all([part for part in shapely.get_parts(geometry) if part.area])
    return united if isinstance(united, Area) else shapely.Polygon()


def prepared(area: Shape) -> Shape:
    """Return a copy of an area with an index of its outline, for one thread.

    GEOS builds that index when it is first asked, without a lock. An area of a document is read by several threads, so
    it must never get one itself: asked by two at once, the process would crash.
    """
    copy: Shape = shapely.force_2d(area)
    shapely.prepare(copy)
    return copy


def crossings(areas: Sequence[Area], most: int) -> int:
    """Return how often the outlines of areas cross themselves and each other; more than `most` are not counted."""
    outlines, whose = shapely.get_rings(areas, return_index=True)
    rings = [shapely.get_coordinates(ring) for ring in outlines]
    ends = np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    long = (ends[:, 0] != ends[:, 1]).any(axis=1)
    ends, owner = ends[long], np.repeat(whose, [len(ring) - 1 for ring in rings])[long]
    lines = shapely.linestrings(ends)
    tree, order = shapely.STRtree(lines), np.random.default_rng(0).permutation(len(lines))
    found = start = 0
    size = max(1, _PAIRS // max(1, len(lines)))
    while start < len(lines) and found <= 2 * most:  # each crossing is met from both sides
        place, other = tree.query(lines[order[start : start + size]], predicate="intersects")
        one = order[start + place]
        share_an_end = (ends[one][:, :, None] == ends[other][:, None]).all(axis=-1).any(axis=(1, 2))
        one, other = one[~share_an_end], other[~share_an_end]
        # Lines that run along each other count within an outline, not where two regions share a border.
        meet = np.where(owner[one] == owner[other], ~shapely.touches(lines[one], lines[other]), False)
        found += int((meet | shapely.crosses(lines[one], lines[other])).sum())
        start, size = start + size, 2 * size  # any part of a random order crosses about as often as any other
    return found // 2


def ellipse_polygon(corners: Iterable[Iterable[float]]) -> shapely.Polygon:
    """Return the 64-gon of the ellipse inside a box given by its corners, (4, 2), in order around it."""
    box = np.array([tuple(corner) for corner in corners], np.float64)
    angle = np.arange(ELLIPSE_POINTS) * (2 * np.pi / ELLIPSE_POINTS)
    along, across = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    return shapely.Polygon(box.mean(0) + np.outer(np.cos(angle), along) + np.outer(np.sin(angle), across))


def class_of_digit(classes: Sequence[AnnotationClass], digit: int) -> AnnotationClass | None:
    """Return the class that a digit key stands for: 1 to 9 by order, 0 the tenth, or else the first to ignore."""
    if digit == 0 and len(classes) < 10:
        return next((info for info in classes if info.ignore), None)
    index = (digit - 1) % 10
    return classes[index] if index < len(classes) else None


def digits_of(classes: Sequence[AnnotationClass], info: AnnotationClass) -> list[int]:
    """Return the digit keys of a class."""
    return [digit for digit in (*range(1, 10), 0) if class_of_digit(classes, digit) is info]
