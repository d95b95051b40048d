"""Opening a GeoJSON file: its features one by one, their outlines, and what is wrong with them in plain words."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import shapely
import shapely.geometry

from napari_dala.errors import AnnotationError
from napari_dala.validation import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_dala.annotations.document import Area

Feature: TypeAlias = dict[str, Any]

_FARTHEST = 1e9  # px: no slide is as large
_FORMER_IDS = {  # of QuPath 0.2
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "TMA core",
    "PathRootObject": "root object",
}
_OBJECTS = {"detection": "detection", "cell": "cell", "tile": "tile", "root": "root object"}
_OBJECTS |= {"tmacore": "TMA core", "tma_core": "TMA core"}
_OBJECTS |= {former.casefold(): kind for former, kind in _FORMER_IDS.items()}
_SHAPES = {"Point": "point", "MultiPoint": "point", "LineString": "line", "MultiLineString": "line"}
_WRONG = (
    shapely.errors.ShapelyError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@contextmanager
def open_geojson(path: str | Path) -> Iterator[Any]:
    """Give the parsed content of a GeoJSON file; what the block finds wrong with it becomes an error naming the file.

    Parameters
    ----------
    path
        UTF-8, with or without a byte order mark.

    Raises
    ------
    AnnotationError
        When the file cannot be read or is not JSON, or the block raised what a wrong value raises; one line.
    """
    path = Path(path)
    content = read_json(path, AnnotationError, source=path.name, special=True)
    try:
        yield content
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error
    except _WRONG as error:
        raise AnnotationError(
            f"{path.name}: not a GeoJSON file of regions ({type(error).__name__}: {error})"
        ) from error


def features_of(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Give every feature of a GeoJSON value, each with its place in words ("feature 3, part 1").

    Those that QuPath nests in another one (`childObjects`) come after it, as if they stood beside it; a bare geometry
    becomes a feature, an annotation's geometry collection one for each of its parts if there are polygons among them.
    What is no feature at all is given as it is.
    """
    if isinstance(value, list):
        for number, part in enumerate(value, 1):
            yield from features_of(part, f"{place}, part {number}" if place else f"feature {number}")
    elif isinstance(value, dict) and "features" in value:
        yield from features_of(value["features"], place)
    elif isinstance(value, dict) and {"coordinates", "geometries"} & value.keys():
        yield from features_of({"type": "Feature", "geometry": value, "properties": {}}, place)
    else:
        feature, children = _without_children(value)
        parts = _parts_of(feature)
        for number, part in enumerate(parts, 1):
            yield (place or "feature 1") + (f", part {number}" if len(parts) > 1 else ""), part
        if children:
            yield from features_of(children, place or "feature 1")


def is_annotation(feature: Feature) -> bool:
    """Return False for QuPath's other objects: detections, cells, tiles, cores of a tissue array, roots."""
    return _object_of(feature) is None


def kind_of_feature(feature: Feature) -> str:
    """Return what a feature that is no region is, for a count, so that an s makes it many: "cell", "point"."""
    geometry = feature.get("geometry")
    if (kind := _object_of(feature)) is not None:
        return kind
    if not isinstance(geometry, dict):
        return "outlineless object"
    return _SHAPES.get(str(geometry.get("type")), "empty outline")


def _object_of(feature: Feature) -> str | None:
    """Return which of QuPath's objects a feature is, None for an annotation.

    Its kind stands in `objectType`; in `object_type` of QuPath 0.3, in the `id` of 0.2.
    """
    properties = feature.get("properties")
    said = properties if isinstance(properties, dict) else {}
    kind = said.get("objectType") or said.get("object_type") or said.get("type")
    return _OBJECTS.get(str(kind).casefold()) or _FORMER_IDS.get(str(feature.get("id")))


def outline_of(geometry: Feature) -> Area:
    """Return a Polygon or MultiPolygon as shapely has it, exactly as written.

    Raises
    ------
    AnnotationError
        What is wrong with it, in plain words.
    """
    try:
        with np.errstate(invalid="ignore"):
            outline: Area = shapely.geometry.shape(geometry)
            if outline.is_empty:
                raise ValueError("no corner")
    except _WRONG as error:
        raise AnnotationError("its outline is not a list of at least three corners (x, y)") from error
    if not (np.abs(shapely.get_coordinates(outline)) < _FARTHEST).all():
        raise AnnotationError("a corner is not a finite number of pixels on a slide")
    return outline


def _without_children(value: Any) -> tuple[Any, list[Any]]:
    properties = value.get("properties") if isinstance(value, dict) else None
    if isinstance(properties, dict):
        for name in ("childObjects", "children"):  # QuPath takes either name
            children = properties.get(name)
            if isinstance(children, list) and any(isinstance(each, dict) and "geometry" in each for each in children):
                rest = {key: held for key, held in properties.items() if key != name}
                return {**value, "properties": rest}, children
    return value, []


def _parts_of(feature: Any) -> list[Any]:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    parts = list(_geometries(geometry))
    if not any(_is_polygonal(part) for part in parts) or not is_annotation(feature):
        return [feature]
    return [{**feature, "geometry": part} for part in parts]


def _geometries(geometry: Any) -> Iterator[Any]:
    """Give the geometries of a collection, or the one."""
    if isinstance(geometry, dict) and isinstance(geometry.get("geometries"), list):
        for part in geometry["geometries"]:
            yield from _geometries(part)
    else:
        yield geometry


def _is_polygonal(geometry: Any) -> bool:
    return isinstance(geometry, dict) and geometry.get("type") in ("Polygon", "MultiPolygon")
