"""What is drawn on one slide as a napari Shapes layer, and what the user made of that layer.

The layer's data are level-0 edge coordinates (y, x), as the documents' are; `place_over` puts them half a pixel off the
slide's own data coordinates, so that both meet on the tissue.
"""

from __future__ import annotations

import math
import uuid
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
import shapely
from napari.layers import Shapes
from napari.layers.base import ActionType
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_dala.annotations.shapes import Shape, merge_edited, to_shapes
from napari_dala.plugin.viewer.slide_layers import PLACEMENT, place_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari.layers import Image
    from napari.utils.events import Event
    from numpy.typing import NDArray

    from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument

NAME = "Annotations"
NO_CLASS = (128, 128, 128)
_LINE = 2.5  # screen px
_FACE = 0.2  # opacity
_LEAST = 25.0  # screen px squared that a region has; a mouse that clicks moves by a pixel or two
_OPEN = ("line", "path")
_MADE_BY_USER = (ActionType.ADDED, ActionType.CHANGED, ActionType.REMOVED)


def make_shapes(document: AnnotationDocument) -> Shapes:
    """Return a Shapes layer of all that is drawn; napari takes up to 0.1 s a region, so not in the main thread."""
    shapes = [shape for annotation in document.annotations for shape in to_shapes(annotation)]
    kind = [shape.kind for shape in shapes] or "polygon"
    layer = Shapes([shape.vertices for shape in shapes] or None, ndim=2, shape_type=kind, name=NAME, opacity=1.0)
    layer.features = _features(shapes)
    _color(layer, shapes, document)
    return layer


class AnnotationLayer(QObject):
    """Keeps a Shapes layer and a document the same.

    Parameters
    ----------
    layer
        From `make_shapes`, of the same document.
    slide_layer
        What it lies on; it follows how that is placed.
    document
        What is drawn.

    Attributes
    ----------
    layer
        The Shapes layer; its features say each shape's `class`, `annotation` (id) and `part`.
    """

    edited = Signal()
    """The user drew, moved, changed or removed shapes: ask `merged_into`."""
    ignored = Signal()
    """What the mouse drew was too small to be meant, and is gone."""

    def __init__(self, layer: Shapes, slide_layer: Image, document: AnnotationDocument) -> None:
        super().__init__()
        self.layer = layer
        self._slide_layer: Image | None = None
        self._busy = False
        self._zoom = math.inf  # screen px per level-0 px
        self._seen: dict[tuple[str, int], Shape] = {}  # as they were when the document was made of them
        self._shown: dict[str, Annotation] = {}
        self._remember(document)
        self.lay_on(slide_layer)
        self._lasso_timer = QTimer(self)
        self._lasso_timer.setSingleShot(True)
        self._lasso_timer.timeout.connect(self.finish)
        layer.mouse_drag_callbacks.append(_ending_lasso(ref(self._lasso_timer)))
        layer.events.data.connect(self._on_data)
        layer.events.features.connect(self._on_features)

    def lay_on(self, slide_layer: Image) -> None:
        """Follow a layer of the slide, and no other one."""
        for name in PLACEMENT:
            if self._slide_layer is not None:
                getattr(self._slide_layer.events, name).disconnect(self._place)
            getattr(slide_layer.events, name).connect(self._place)
        if self._slide_layer is not None:
            self._slide_layer.events.name.disconnect(self._name)
        slide_layer.events.name.connect(self._name)
        self._slide_layer = slide_layer
        self._place()
        self._name()

    @property
    def is_creating(self) -> bool:
        """True while a shape is being drawn."""
        return bool(self.layer._is_creating)  # napari has no public name for it

    @property
    def selected(self) -> set[str]:
        """Ids of the annotations that are selected."""
        ids = self.layer.features["annotation"]
        return {str(ids[index]) for index in self.layer.selected_data if index < len(ids)} - {""}

    def select(self, ids: set[str]) -> None:
        """Select annotations."""
        self.layer.selected_data = {
            index for index, name in enumerate(self.layer.features["annotation"]) if name in ids
        }

    def finish(self) -> bool:
        """End the shape that is being drawn, as Escape does; return whether there was one."""
        creating = self.is_creating
        if creating:
            self.layer._finish_drawing()
        return creating

    def take_back_point(self) -> bool:
        """Take back the last corner of a polygon that is being drawn, and it with its first; return whether one is."""
        layer = self.layer
        if not self.is_creating:
            return False
        index, moving = layer._moving_value
        if layer.mode != "add_polygon" or moving < 2:
            return self.finish()
        corners = np.delete(layer.data[index], moving - 1, axis=0)  # the last one follows the mouse
        layer._data_view.edit(index, corners, new_type="polygon" if len(corners) > 2 else "path")
        layer._value = layer._moving_value = (index, moving - 1)
        layer._last_cursor_position = np.full(2, np.nan)  # a click at the same place sets it again
        layer.refresh(extent=False, thumbnail=False)
        return True

    def draw_with(self, info: AnnotationClass | None, *, selected: bool) -> None:
        """Give the next shape, and what is selected if `selected`, the colours of a class."""
        layer = self.layer
        line, face = _rgba([info])[0], _rgba([info], _FACE)[0]
        with self._quietly():
            layer.feature_defaults = {"class": info.name if info else "", "annotation": "", "part": 0}
            if selected:
                layer.current_edge_color, layer.current_face_color = line, face
            else:
                with layer.block_update_properties():
                    layer.current_edge_color, layer.current_face_color = line, face

    def fit_lines(self, zoom: float) -> None:
        """Draw lines as thick on the screen at any zoom (screen px per world unit), in steps of 2."""
        self._zoom = zoom * abs(float(self.layer.scale[-1]))
        width = float(2.0 ** np.round(np.log2(_LINE / self._zoom)))
        if width != self.layer.current_edge_width:
            with self.layer.block_update_properties():
                self.layer.current_edge_width = width
            self.layer.edge_width = width
            self.layer.refresh(extent=False, thumbnail=False)

    def merged_into(self, document: AnnotationDocument) -> AnnotationDocument:
        """Return the document as the layer says now; itself where nothing was changed.

        Parameters
        ----------
        document
            That of the last `merged_into` or `show`.
        """
        shapes = self._shapes()
        now = {(shape.annotation, shape.part): shape for shape in shapes}
        changed = {key[0] for key in now.keys() ^ self._seen.keys()}
        for key in now.keys() & self._seen.keys():
            if now[key].class_name != self._seen[key].class_name or not _same(now[key], self._seen[key]):
                changed.add(key[0])
        if not changed:
            return document
        self._seen = now
        before = replace(document, annotations=tuple(item for item in document.annotations if item.id in changed))
        after = merge_edited(before, [shape for shape in shapes if shape.annotation in changed])
        edited = {item.id: item for item in after.annotations}
        kept = [edited.pop(item.id, None) if item.id in changed else item for item in document.annotations]
        merged = (*(item for item in kept if item is not None), *edited.values())
        same = len(merged) == len(document.annotations) and all(
            one is other for one, other in zip(merged, document.annotations, strict=True)
        )
        return document if same else replace(document, annotations=merged)

    def show(self, document: AnnotationDocument) -> None:
        """Make the layer show a document, touching only the shapes that differ; not while one is being drawn."""
        if self.is_creating:
            return
        layer, shapes = self.layer, self._shapes()
        stale = {shape.annotation for shape, kind in zip(shapes, layer.shape_type, strict=True) if kind in _OPEN}
        stale |= {shape.annotation for shape in shapes} - {item.id for item in document.annotations}
        there = defaultdict(list)
        for shape in shapes:
            there[shape.annotation].append(shape)
        for item in document.annotations:
            if self._shown.get(item.id) is not item and not _same_parts(there[item.id], to_shapes(item)):
                stale.add(item.id)
        fresh = [shape for item in document.annotations if item.id in stale for shape in to_shapes(item)]
        kept = [shape for shape in shapes if shape.annotation not in stale]
        classes = {item.id: item.class_name for item in document.annotations}
        labelled = [replace(shape, class_name=classes[shape.annotation]) for shape in (*kept, *fresh)]
        selected = set() if layer.mode.startswith("add_") else self.selected
        with self._quietly():
            if len(kept) < len(shapes):
                layer.remove([index for index, shape in enumerate(shapes) if shape.annotation in stale])
            if fresh:
                infos = [document.class_named(classes[shape.annotation]) for shape in fresh]
                layer.add(
                    [shape.vertices for shape in fresh],
                    shape_type=[shape.kind for shape in fresh],
                    edge_color=_rgba(infos),
                    face_color=_rgba(infos, _FACE),
                )
            features = _features(labelled)
            if any(list(layer.features[name]) != list(column) for name, column in features.items()):
                defaults = layer.feature_defaults
                layer.features = features
                layer.feature_defaults = defaults
            _color(layer, labelled, document)
            if self.selected != selected:
                self.select(selected)
        self._remember(document)

    def _place(self) -> None:
        place_over(self.layer, ((1.0, 1.0), (0.0, 0.0)), self._slide_layer)

    def _name(self) -> None:
        assert self._slide_layer is not None
        self.layer.name = f"{NAME} · {self._slide_layer.name}"

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Change the layer without taking that for the user's doing."""
        self._busy, before = True, self._busy
        try:
            yield
        finally:
            self._busy = before

    def _on_data(self, event: Event) -> None:
        if not self._busy and event.action in _MADE_BY_USER:
            self._drop_tiny()
            is_dropped = self._drop_leftovers(event.data_indices)
            self._identify()
            self.edited.emit()
            if is_dropped:
                self.ignored.emit()

    def _on_features(self) -> None:
        """Pasting says nothing else."""
        if not self._busy and not self.is_creating:
            self._identify()
            self.edited.emit()

    def _drop_tiny(self) -> None:
        """Drop what the mouse has just drawn where it is too small to be meant, as napari drops two points."""
        layer = self.layer
        if self.is_creating and len(layer.features) == layer.nshapes > 0:
            drawn = shapely.convex_hull(shapely.MultiPoint(layer.data[-1]))
            if drawn.area * self._zoom**2 < _LEAST:
                layer._data_view.remove(layer.nshapes - 1)
                layer.selected_data.clear()

    def _drop_leftovers(self, indices: Sequence[int]) -> bool:
        """Remove features and colours that napari 0.9 keeps of a shape that was dropped; return whether one was."""
        layer = self.layer
        is_dropped = bool(len(layer.features) > layer.nshapes)
        if is_dropped:
            index = indices[0] % len(layer.features)
            with self._quietly():
                layer._feature_table.remove([index])
            for name in ("_edge_color", "_face_color"):
                colors = getattr(layer._data_view, name)
                if len(colors) > layer.nshapes:
                    setattr(layer._data_view, name, np.delete(colors, index, axis=0))
        return is_dropped

    def _identify(self) -> None:
        """Give an id to each shape that has none, or that of another one: just drawn, or a copy."""
        table = self.layer.features
        ids, parts = [str(name) for name in table["annotation"]], [int(part) for part in table["part"]]
        seen: set[tuple[str, int]] = set()
        new = []
        for index, key in enumerate(zip(ids, parts, strict=True)):
            if not key[0] or key in seen:
                new.append(index)
            seen.add(key)
        if not new:
            return
        classes, default = [str(name) for name in table["class"]], str(self.layer.feature_defaults["class"][0])
        for index in new:
            if not ids[index]:
                classes[index] = default  # another one may have been chosen while it was drawn
            ids[index], parts[index] = str(uuid.uuid4()), 0
        with self._quietly():
            defaults = self.layer.feature_defaults
            self.layer.features = {"class": _texts(classes), "annotation": _texts(ids), "part": np.array(parts)}
            self.layer.feature_defaults = defaults

    def _shapes(self) -> list[Shape]:
        """Return the layer's shapes as they are."""
        layer, table = self.layer, self.layer.features
        columns = (table[name].tolist() for name in ("annotation", "part", "class"))
        return [
            Shape(np.array(vertices), name, part, label or None, "ellipse" if kind == "ellipse" else "polygon")
            for vertices, kind, name, part, label in zip(layer.data, layer.shape_type, *columns, strict=False)
        ]

    def _remember(self, document: AnnotationDocument) -> None:
        self._seen = {(shape.annotation, shape.part): shape for shape in self._shapes()}
        self._shown = {item.id: item for item in document.annotations}


def _ending_lasso(timer: ref[QTimer]) -> Callable[[Shapes, Any], Iterator[None]]:
    """Let a lasso end where the button is released; after a click, napari's goes on with the mouse."""

    def drag(layer: Shapes, event: Any) -> Iterator[None]:
        yield
        while event.type == "mouse_move":
            yield
        if layer.mode == "add_polygon_lasso" and (found := timer()) is not None:
            found.start(0)  # napari's own end comes first

    return drag


def _same(one: Shape, other: Shape) -> bool:
    """Return whether two shapes look the same to napari, which keeps float32."""
    first, second = (np.asarray(shape.vertices, np.float32) for shape in (one, other))
    return one.kind == other.kind and np.array_equal(first, second)


def _same_parts(there: Sequence[Shape], wanted: Sequence[Shape]) -> bool:
    parts = {shape.part: shape for shape in there}
    return len(there) == len(wanted) and all(
        shape.part in parts and _same(shape, parts[shape.part]) for shape in wanted
    )


def _features(shapes: Sequence[Shape]) -> dict[str, NDArray[Any]]:
    return {
        "class": _texts(shape.class_name or "" for shape in shapes),
        "annotation": _texts(shape.annotation for shape in shapes),
        "part": np.array([shape.part for shape in shapes], np.int64),
    }


def _texts(values: Iterable[str]) -> NDArray[Any]:
    return np.array(list(values), object)


def _rgba(infos: Iterable[AnnotationClass | None], alpha: float = 1.0) -> NDArray[np.float32]:
    """Return the colours of classes, (n, 4), 0 to 1."""
    colors = [(*(value / 255 for value in (info.color if info else NO_CLASS)), alpha) for info in infos]
    return np.array(colors, np.float32).reshape(-1, 4)


def _color(layer: Shapes, shapes: Sequence[Shape], document: AnnotationDocument) -> None:
    """Give each shape the colour of its class."""
    infos = [document.class_named(shape.class_name) for shape in shapes]
    line, face = _rgba(infos), _rgba(infos, _FACE)
    if infos and not np.allclose(layer.edge_color, line):
        layer.edge_color = line
    if infos and not np.allclose(layer.face_color, face):
        layer.face_color = face
