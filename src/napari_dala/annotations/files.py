"""Annotations as GeoJSON that QuPath opens too, and where the workspace keeps them."""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
import shapely.geometry

from napari_dala.annotations.document import (
    Annotation,
    AnnotationClass,
    AnnotationDocument,
    Color,
    Corners,
    ellipse_polygon,
)
from napari_dala.annotations.geojson import features_of, open_geojson, refuse_infinite
from napari_dala.errors import AnnotationError
from napari_dala.files import replacing, sweep
from napari_dala.model.class_colors import PALETTE
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

ANNOTATIONS_FILE = "annotations.geojson"
_MEMBER = "napari_dala"  # of the FeatureCollection: RFC 7946 allows foreign members, readers pass over them
_NAMESPACE = uuid.UUID("5d3f1a52-6a5c-4f0e-9b1e-2f3d8a7c4e61")


def read_annotations(path: str | Path) -> AnnotationDocument:
    """Read a GeoJSON file of napari-dala, QuPath (of any version) or another program.

    Parameters
    ----------
    path
        A FeatureCollection, a list of features, a feature or a geometry; level-0 px, x before y. Where it does not
        list its classes they come from the features; a name that ends with ``*`` is one that QuPath ignores.

    Raises
    ------
    AnnotationError
        When the file cannot be read or is not such a file; one line.
    """
    with open_geojson(path) as content:
        document = _document(content)
        refuse_infinite(item.geometry for item in document.annotations)
    return document


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
    classes = {
        item["name"]: AnnotationClass(item["name"], _color(item), bool(item.get("ignore")))
        for item in own.get("classes", ())
    }
    annotations: list[Annotation] = []
    others: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    for number, feature in enumerate(features_of(content)):
        if not _is_region(feature):
            others.append(feature)
            continue
        annotation = _annotation(feature, f"{number}/{json.dumps(feature['geometry'])}", seen)
        seen.add(annotation.id)
        annotations.append(annotation)
        name = annotation.class_name
        if name is not None and name not in classes:
            color = _color(feature["properties"]["classification"], PALETTE[len(classes) % len(PALETTE)])
            classes[name] = AnnotationClass(name, color, name.endswith("*"))
    return AnnotationDocument(
        fingerprint=str(own.get("fingerprint") or ""),
        classes=tuple(classes.values()),
        annotations=tuple(annotations),
        patient=str(own["patient"]) if own.get("patient") else None,
        others=tuple(others),
    )


def _is_region(feature: Mapping[str, Any]) -> bool:
    geometry = feature.get("geometry") or {}
    properties = feature.get("properties") or {}
    if geometry.get("type") not in ("Polygon", "MultiPolygon") or not geometry["coordinates"]:
        return False
    former = str(feature.get("id", ""))  # QuPath before 0.3 wrote its kind of object as the id
    kind = properties.get("objectType") or {"PathDetectionObject": "detection", "PathCellObject": "cell"}.get(former)
    return kind in (None, "annotation")


def _annotation(feature: Mapping[str, Any], content: str, taken: set[str]) -> Annotation:
    properties = dict(feature.get("properties") or {})
    classification = properties.pop("classification", None) or {}
    name = classification.get("name") or ": ".join(classification.get("names", ())) or None
    corners = properties.pop(_MEMBER, {}).get("ellipse")
    geometry = shapely.geometry.shape(feature["geometry"])
    ellipse: Corners | None = tuple((float(x), float(y)) for x, y in corners) if corners else None
    if ellipse and not shapely.equals_exact(ellipse_polygon(ellipse), geometry, 0.01):
        ellipse = None  # another program changed its points
    identity = str(feature.get("id", ""))
    try:
        uuid.UUID(identity)
    except ValueError:
        identity = ""
    if not identity or identity in taken:
        identity = str(uuid.uuid5(_NAMESPACE, content))
    rest = {key: value for key, value in feature.items() if key not in ("type", "id", "geometry", "properties")}
    return Annotation(identity, name, geometry, {**rest, "properties": properties}, ellipse)


def _color(classification: Mapping[str, Any], default: Color = (128, 128, 128)) -> Color:
    """Return the colour, written as [red, green, blue], or by QuPath before 0.4 as one signed integer 0xAARRGGBB."""
    if "color" in classification:
        red, green, blue = (int(value) for value in classification["color"][:3])
        return red, green, blue
    if "colorRGB" in classification:
        packed = int(classification["colorRGB"])
        return packed >> 16 & 255, packed >> 8 & 255, packed & 255
    return default


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
