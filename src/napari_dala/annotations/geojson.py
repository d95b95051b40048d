"""Opening a GeoJSON file: what every reader of regions needs of it, and what is wrong with it in one line."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_dala.errors import AnnotationError
from napari_dala.validation import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
        with np.errstate(invalid="ignore"):  # see `refuse_infinite`
            yield content
    except (shapely.errors.ShapelyError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise AnnotationError(
            f"{path.name}: not a GeoJSON file of regions ({type(error).__name__}: {error})"
        ) from error


def features_of(content: Any) -> Iterator[dict[str, Any]]:
    """Give every feature of a GeoJSON value; a bare geometry becomes one."""
    if isinstance(content, list):
        for part in content:
            yield from features_of(part)
    elif content["type"] == "FeatureCollection":
        yield from features_of(content["features"])
    else:
        yield content if content["type"] == "Feature" else {"type": "Feature", "geometry": content, "properties": {}}


def refuse_infinite(shapes: Iterable[shapely.Geometry]) -> None:
    """Raise ValueError when a coordinate is NaN or infinite, which Python's JSON reader lets through."""
    if not all(np.isfinite(shapely.get_coordinates(shape)).all() for shape in shapes):
        raise ValueError("a coordinate is not a finite number")
