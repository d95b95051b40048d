"""Annotations as GeoJSON that QuPath opens too, and where the workspace keeps them."""

from __future__ import annotations

import json
import shutil
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
import shapely.geometry
from PIL import ImageColor

from napari_dala.annotations.document import (
    Annotation,
    AnnotationClass,
    AnnotationDocument,
    Color,
    Corners,
    crossings,
    ellipse_polygon,
    is_frame,
)
from napari_dala.annotations.geojson import (
    Feature,
    features_of,
    is_annotation,
    kind_of_feature,
    open_geojson,
    outline_of,
)
from napari_dala.errors import AnnotationError
from napari_dala.files import replacing, sweep
from napari_dala.model.class_colors import PALETTE
from napari_dala.validation import parse_json
from napari_dala.words import counted
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from napari_dala.annotations.document import Area

ANNOTATIONS_FILE = "annotations.geojson"
_MEMBER = "napari_dala"  # of the FeatureCollection: RFC 7946 allows foreign members, readers pass over them
_AREAS = ("Polygon", "MultiPolygon")
_NO_AREAS = ("Point", "MultiPoint", "LineString", "MultiLineString", "GeometryCollection")
_MOST_CROSSINGS = 3000  # of outlines with themselves: making their areas valid takes some seconds
_NAMED = 3  # features that a note names
_NAMESPACE = uuid.UUID("5d3f1a52-6a5c-4f0e-9b1e-2f3d8a7c4e61")


def read_annotations(path: str | Path) -> AnnotationDocument:
    """Read a GeoJSON file of napari-dala, QuPath (of any version) or another program.

    Parameters
    ----------
    path
        A FeatureCollection, a list of features, a feature or a geometry; level-0 px, x before y. Where it does not
        list its classes they come from the features; a name that ends with ``*`` is one that QuPath ignores.

    Returns
    -------
    AnnotationDocument
        What cannot be read of a feature, or what QuPath does not call an annotation (detections, cells, tiles), is
        among its `others`; its `notes` say what is wrong.

    Raises
    ------
    AnnotationError
        When the file cannot be read, is not such a file or no feature of it is sound; one line.
    """
    with open_geojson(path) as content:
        return _document(content)


def write_annotations(document: AnnotationDocument, path: str | Path, *, keep_previous: bool = False) -> None:
    """Write a document as GeoJSON, whole or not at all.

    Parameters
    ----------
    document
        Of any slide, or of none.
    path
        The ``.geojson`` file.
    keep_previous
        Keep what the file held before in ``<stem>.previous.geojson`` beside it.

    Raises
    ------
    AnnotationError
        When it cannot be written (folder read-only, disk full); the old files are then as they were.
    """
    path = Path(path)
    text = _text(document)
    try:
        if path.is_file() and path.read_bytes() == text.encode():
            return
        named = bool(document.patient)
        with replacing(path, private=named) as temporary:
            temporary.write_text(text, encoding="utf-8")
            if keep_previous and path.is_file():
                with replacing(previous_of(path), private=named or not path.stat().st_mode & 0o077) as previous:
                    shutil.copyfile(path, previous)
    except OSError as error:
        raise AnnotationError(
            f"{path}: the annotations cannot be saved: {error.strerror or error}; what was saved before is intact"
        ) from error


def annotations_path(fingerprint: str, folder: str | Path | None = None) -> Path:
    """Return where the workspace keeps a slide's annotations, whether there are any or not."""
    return slide_folder(fingerprint, folder) / ANNOTATIONS_FILE


def previous_of(path: Path) -> Path:
    """Return where the version before the last is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_for(fingerprint: str, folder: str | Path | None = None) -> AnnotationDocument | None:
    """Return what was drawn on the slide with this fingerprint, whatever its path; None where nothing was.

    Raises
    ------
    AnnotationError
        When the file is damaged; the message names the version before it.
    """
    path = annotations_path(fingerprint, folder)
    if not path.exists():
        return None
    try:
        return replace(read_annotations(path), fingerprint=fingerprint)
    except AnnotationError as error:
        previous = previous_of(path)
        advice = f"; the version before it is {previous}" if previous.exists() else f"; the file is {path}"
        raise AnnotationError(f"{error}{advice}") from error


def save_for(document: AnnotationDocument, folder: str | Path | None = None) -> Path:
    """Save a document in its slide's folder of the workspace, the previous version beside it; return the file.

    Raises
    ------
    AnnotationError
        As `write_annotations`.
    """
    if not document.fingerprint:
        raise ValueError("the document has no slide: give it a fingerprint")
    path = annotations_path(document.fingerprint, folder)
    sweep(path.parent)
    write_annotations(document, path, keep_previous=True)
    return path


def set_aside(fingerprint: str, folder: str | Path | None = None) -> Path:
    """Rename a slide's annotation file that is damaged, so that a new one can be begun; return its new name.

    Raises
    ------
    AnnotationError
        When it cannot be renamed.
    """
    path = annotations_path(fingerprint, folder)
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    try:
        return path.rename(aside)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be renamed: {error.strerror or error}") from error


def _document(content: Any) -> AnnotationDocument:
    own = content.get(_MEMBER) if isinstance(content, dict) else None
    own = own if isinstance(own, dict) else {}
    classes = {item.name: item for item in _listed_classes(own.get("classes"))}
    annotations: list[Annotation] = []
    others: list[Feature] = []
    wrong: dict[str, str] = {}
    taken: set[str] = set()
    crossings_left = _MOST_CROSSINGS
    left_out: Counter[str] = Counter()
    total = 0
    for total, (place, feature) in enumerate(features_of(content), 1):
        try:
            if not _is_region(feature):
                others.append(feature)
                left_out[kind_of_feature(feature)] += 1
                continue
            outline = outline_of(feature["geometry"])
            if not outline.is_valid:
                crossings_left -= (crossed := crossings([outline], crossings_left))
                if crossings_left < 0:
                    crossings_left += crossed
                    raise AnnotationError(f"its outline crosses itself too often, at most {_MOST_CROSSINGS:,} times")
            annotation, color = _annotation(feature, outline, str(total), taken)
        except AnnotationError as error:
            wrong[place] = str(error)
            others += [feature] if isinstance(feature, dict) else []
            continue
        taken.add(annotation.id)
        annotations.append(annotation)
        name = annotation.class_name
        if name is not None and name not in classes:
            color = color or PALETTE[len(classes) % len(PALETTE)]
            classes[name] = AnnotationClass(name, color, name.endswith("*") and not is_frame(name))
    if wrong and len(wrong) == total:
        raise AnnotationError(f"not a GeoJSON file of regions: {_named(wrong)}")
    notes = [f"{len(wrong)} of {total} features cannot be read as regions: {_named(wrong)}"] if wrong else []
    if left_out:
        found = ", ".join(counted(number, kind) for kind, number in left_out.items())
        notes.append(f"left out, for they are no drawn regions: {found}; they stay in the file")
    return AnnotationDocument(
        fingerprint=str(own.get("fingerprint") or ""),
        classes=tuple(classes.values()),
        annotations=tuple(annotations),
        patient=str(own["patient"]) if own.get("patient") else None,
        others=tuple(others),
        notes=tuple(notes),
    )


def _named(wrong: Mapping[str, str]) -> str:
    """Say what is wrong with features, of the first few by their places."""
    said = [f"{place} ({why})" for place, why in islice(wrong.items(), _NAMED)]
    return ", ".join(said) + (f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else "")


def _listed_classes(listed: Any) -> Iterator[AnnotationClass]:
    """Give the classes of our own list; what is no class of ours is passed over."""
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, dict) and (name := _name(item)):
            ignore = bool(item.get("ignore")) and not is_frame(name)
            yield AnnotationClass(name, _color(item) or (128, 128, 128), ignore)


def _is_region(feature: Any) -> bool:
    """Return whether a feature is an annotation that has an area, as far as its kind says.

    Raises
    ------
    AnnotationError
        When it is not what GeoJSON calls a feature, in plain words.
    """
    if not isinstance(feature, dict) or "geometry" not in feature:
        raise AnnotationError("not a feature")
    geometry, properties = feature["geometry"], feature.get("properties")
    if not all(part is None or isinstance(part, dict) for part in (geometry, properties)):
        raise AnnotationError("its geometry or its properties are not as GeoJSON has them")
    if geometry is None:
        return False
    if geometry.get("type") not in (*_AREAS, *_NO_AREAS):
        raise AnnotationError("its geometry is of no kind that GeoJSON knows")
    return geometry["type"] in _AREAS and geometry.get("coordinates") != [] and is_annotation(feature)


def _annotation(
    feature: Feature, outline: Area, number: str, taken: Collection[str]
) -> tuple[Annotation, Color | None]:
    """Return the annotation of a feature, and its class' colour."""
    properties = dict(feature.get("properties") or {})
    classification = _classification(properties.pop("classification", None))
    ellipse = _ellipse(properties.pop(_MEMBER, None), outline)
    identity = str(feature.get("id", ""))
    try:
        uuid.UUID(identity)
    except ValueError:
        identity = ""
    if not identity or identity in taken:
        identity = str(uuid.uuid5(_NAMESPACE, f"{number}/{json.dumps(feature['geometry'])}"))
    rest = {key: value for key, value in feature.items() if key not in ("type", "id", "geometry", "properties")}
    extra = {**rest, "properties": properties}
    return Annotation(identity, _name(classification), outline, extra, ellipse), _color(classification)


def _classification(said: Any) -> Mapping[str, Any]:
    """Return QuPath's {name, color}; other programs write the name alone, or the whole as JSON text."""
    if isinstance(said, str) and said.lstrip().startswith(("{", "[", '"', "null")):
        with suppress(AnnotationError):
            said = parse_json(said, "classification", AnnotationError)
    if isinstance(said, dict):
        return said
    return {"names": said} if isinstance(said, list) else {"name": said}


def _name(classification: Mapping[str, Any]) -> str | None:
    """Return the name of a class; None where it has none, which QuPath shows as "Unclassified".

    Raises
    ------
    AnnotationError
        When it is neither text nor a number, in plain words.
    """
    names = classification.get("name")
    names = classification.get("names") if names in (None, "") else [names]
    parts = [name for name in (names if isinstance(names, list) else [names]) if name is not None]
    if not all(isinstance(part, str | int | float) for part in parts):
        raise AnnotationError("the name of its class is not text")
    name = ": ".join(" ".join(str(part).split()) for part in parts)
    return None if name in ("", "Unclassified") else name


def _ellipse(own: Any, outline: Area) -> Corners | None:
    """Return the box around an ellipse of ours; None where there is none, or another program changed its points."""
    corners = own.get("ellipse") if isinstance(own, dict) else None
    with suppress(ValueError, TypeError, OverflowError):
        ellipse = tuple((float(x), float(y)) for x, y in corners or ())
        if len(ellipse) == 4 and shapely.equals_exact(ellipse_polygon(ellipse), outline, 0.01):
            return ellipse
    return None


def _color(classification: Mapping[str, Any]) -> Color | None:
    """Return the colour; None where there is none that can be understood.

    It is [red, green, blue], "#d55e00", or as QuPath before 0.4 wrote it one signed integer 0xAARRGGBB.
    """
    said = classification.get("color", classification.get("colorRGB"))
    with suppress(ValueError, TypeError, OverflowError):
        if isinstance(said, str):
            said = ImageColor.getrgb(said)
        elif isinstance(said, int):
            said = said >> 16 & 255, said >> 8 & 255, said & 255
        red, green, blue = (int(value) for value in said[:3])
        if all(0 <= value <= 255 for value in (red, green, blue)):
            return red, green, blue
    return None


def _text(document: AnnotationDocument) -> str:
    """Return the content of a file; a NaN among QuPath's measurements is kept as QuPath wrote it.

    It is encoded feature by feature, because no other thread runs while one value is encoded.
    """
    classes = [{"name": item.name, "color": item.color, "ignore": item.ignore} for item in document.classes]
    own = {"fingerprint": document.fingerprint, "patient": document.patient, "classes": classes}
    features = chain((_feature(document, item) for item in document.annotations), document.others)
    encoded = ", ".join(map(json.dumps, features))
    return f'{{"type": "FeatureCollection", "features": [{encoded}], "{_MEMBER}": {json.dumps(own)}}}\n'


def _feature(document: AnnotationDocument, annotation: Annotation) -> dict[str, Any]:
    properties = {"objectType": "annotation", **annotation.extra.get("properties", {})}
    if annotation.class_name is not None:
        info = document.class_named(annotation.class_name)
        properties["classification"] = {"name": annotation.class_name} | ({"color": info.color} if info else {})
    if annotation.ellipse:
        properties[_MEMBER] = {"ellipse": annotation.ellipse}
    return {
        "type": "Feature",
        "id": annotation.id,
        "geometry": shapely.geometry.mapping(annotation.geometry),
        **{key: value for key, value in annotation.extra.items() if key != "properties"},
        "properties": properties,
    }
