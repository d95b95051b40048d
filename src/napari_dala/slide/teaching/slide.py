"""The drawn teaching slide: a pyramidal TIFF of drawn H&E-like tissue, with its exact truth as map and polygons."""

from __future__ import annotations

import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import shapely
import tifffile
from PIL import Image
from skimage.measure import find_contours

from napari_dala.files import replacing, write_json
from napari_dala.slide.teaching.tissue import SLIDE_WHITE, DrawnTissue
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_dala.slide.teaching.stamps import FloatArray


CLASSES = ("Background", "Benign", "Malignant")
COLORS = ((243, 243, 243), (60, 160, 90), (200, 40, 60))  # of CLASSES, as annotations show them
MPP = 0.5  # um per level-0 pixel: a 20x scan
TRUTH_CELL = 64  # level-0 px per pixel of the truth map

_TILE = 256
_STRIP = 512  # rows held at once; even, a multiple of _TILE
_LEAST_RING = 256  # px^2; smaller specks and holes get no outline
_COARSEST = 1024  # px; no further level below this side


@dataclass(frozen=True)
class TeachingSlide:
    """Where a drawn teaching slide and its truth lie.

    Attributes
    ----------
    path
        The pyramidal TIFF.
    truth_png
        Class map, one pixel per `TRUTH_CELL` level-0 px: the index into `CLASSES` at the middle of the cell.
    truth_geojson
        Outlines of benign and malignant tissue in level-0 px (x before y).
    mpp
        Micrometres per level-0 pixel.
    side_px
        Width and height in level-0 px.
    """

    path: Path
    truth_png: Path
    truth_geojson: Path
    mpp: float
    side_px: int


def teaching_slide(path: str | Path, side_px: int = 4096, seed: int = 0) -> TeachingSlide:
    """Draw a teaching slide and write it, its truth map and its truth polygons.

    Parameters
    ----------
    path
        The TIFF to write; `<stem>.truth.png` and `<stem>.truth.geojson` go beside it.
    side_px
        Width and height in level-0 px of 0.5 um, at least 512. Memory grows with the side, not with the area.
    seed
        Which slide to draw; the same seed and side give the same pixels.

    Returns
    -------
    TeachingSlide

    Raises
    ------
    ValueError
        The side is under 512 px.
    """
    path = Path(path)
    tissue = DrawnTissue(side_px, seed)
    slide = TeachingSlide(path, path.with_suffix(".truth.png"), path.with_suffix(".truth.geojson"), MPP, side_px)
    middles = (np.arange(-(-side_px // TRUTH_CELL)) + 0.5) * TRUTH_CELL
    with replacing(slide.truth_png) as temporary:
        Image.fromarray(tissue.classes(middles, middles)).save(temporary)
    write_json(slide.truth_geojson, _truth_polygons(tissue))
    with replacing(path) as temporary:
        _write_pyramid(temporary, side_px, tissue.rows)
    return slide


def _truth_polygons(tissue: DrawnTissue) -> dict[str, Any]:
    """Outline the benign and the malignant tissue, to about a pixel, as a QuPath-style FeatureCollection."""
    step = 8 if tissue.side_px <= 16384 else 16
    lattice = np.arange(-step, tissue.side_px + 2 * step, step)
    malignant, inside_tissue = tissue.field("malignant", lattice, lattice), tissue.field("tissue", lattice, lattice)
    features: list[dict[str, Any]] = []
    for label, inside in ((1, np.minimum(inside_tissue, -malignant)), (2, np.minimum(inside_tissue, malignant))):
        for rings in _polygons(inside, step):
            name = f"napari-dala teaching slide {tissue.side_px} {tissue.seed} {len(features)}"
            features.append(
                {
                    "type": "Feature",
                    "id": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
                    "geometry": {"type": "Polygon", "coordinates": rings},
                    "properties": {
                        "objectType": "annotation",
                        "classification": {"name": CLASSES[label], "color": list(COLORS[label])},
                    },
                }
            )
    return {"type": "FeatureCollection", "features": features}


def _polygons(inside: FloatArray, step: int) -> list[list[list[list[float]]]]:
    """Outline where a field on a lattice (first node at -step) is positive: polygons of rings, the exterior first."""
    lines = [shapely.LineString(ring[:, ::-1] * step - step) for ring in find_contours(inside, 0)]
    rings = [shapely.get_coordinates(line) for line in shapely.simplify(lines, 1.0, preserve_topology=False)]
    areas = [_signed_area(ring) for ring in rings]
    grouped = [[ring] for ring, area in zip(rings, areas, strict=True) if area > _LEAST_RING]
    for ring, area in zip(rings, areas, strict=True):
        if area < -_LEAST_RING:
            around = [group for group in grouped if shapely.contains_xy(shapely.Polygon(group[0]), *ring[0])]
            min(around, key=lambda group: _signed_area(group[0])).append(ring)
    return [[ring.round(1).tolist() for ring in group] for group in grouped]


def _signed_area(ring: FloatArray) -> float:
    x, y = ring.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _write_pyramid(path: Path, side: int, rows: Callable[[int, int], NDArray[np.uint8]]) -> None:
    """Write the levels of a slide whose `rows` (first, count) can be drawn.

    Only a strip is in memory at a time: each level leaves its halved rows in a scratch file for the next.
    """
    with tifffile.TiffWriter(path, bigtiff=True) as tif, ExitStack() as scratch:
        for level in range(16):
            halved = scratch.enter_context(tempfile.TemporaryFile(dir=path.parent))
            per_cm = 1e4 / (MPP * 2**level)
            tif.write(
                _tiles(rows, side, halved),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(_TILE, _TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                metadata=None,
                subfiletype=1 if level else 0,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                software="napari-dala teaching slide",
            )
            if side <= _COARSEST:
                return
            side //= 2
            rows = partial(_stored_rows, halved, side)


def _tiles(rows: Callable[[int, int], NDArray[np.uint8]], side: int, halved: IO[bytes]) -> Iterator[NDArray[np.uint8]]:
    """Give a level's tiles row by row, and write the next level's rows to `halved`."""
    for top in range(0, side, _STRIP):
        strip = rows(top, min(_STRIP, side - top))
        even = strip[: len(strip) // 2 * 2, : side // 2 * 2].astype(np.uint16)
        pairs = even[::2] + even[1::2]
        halved.write(((pairs[:, ::2] + pairs[:, 1::2] + 2) >> 2).astype(np.uint8).tobytes())
        padding = ((0, -len(strip) % _TILE), (0, -side % _TILE), (0, 0))
        padded = np.pad(strip, padding, constant_values=SLIDE_WHITE)
        for y in range(0, len(padded), _TILE):
            for x in range(0, padded.shape[1], _TILE):
                yield padded[y : y + _TILE, x : x + _TILE]


def _stored_rows(stored: IO[bytes], side: int, first: int, count: int) -> NDArray[np.uint8]:
    stored.seek(first * side * 3)
    return np.frombuffer(stored.read(count * side * 3), np.uint8).reshape(count, side, 3)


def cached_teaching_slide(side_px: int = 4096, seed: int = 0) -> Path:
    """Return the drawn teaching slide's file, drawing it on first use (about a second per 1000 px of side)."""
    path = cache_folder() / f"teaching-slide-{side_px}-{seed}.tiff"
    if not path.exists():
        teaching_slide(path, side_px, seed)
    return path
