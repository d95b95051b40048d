"""Results as files for other programs: a table of tiles (CSV) and regions that QuPath opens (GeoJSON)."""

from __future__ import annotations

import csv
import io
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import shapely.geometry
from scipy import ndimage

from napari_dala.files import plain_cell, write_text
from napari_dala.results.tile_results import LEFT_OUT, NOT_JUDGED, TileStatus

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.results.analysis import Analysis
    from napari_dala.slide.tiles import TileGrid

_NAMESPACE = uuid.UUID("3f0c8d0e-5b0f-4d52-9d53-6d1f2f4c7a10")


@dataclass(frozen=True)
class Region:
    """Connected tiles of one class.

    Attributes
    ----------
    id
        A UUID; the same tiles of the same analysis always have the same.
    name
        The class and a number, 1 being the largest region of its class.
    class_index
        Index into the card's classes.
    polygon
        Outline with its holes, level-0 px (x, y), clipped to the slide.
    area_mm2
        Area of `polygon`, mm2.
    tiles
        How many there are.
    mean_probability, max_probability
        Of the region's own class over its tiles.
    """

    id: str
    name: str
    class_index: int
    polygon: shapely.Polygon
    area_mm2: float
    tiles: int
    mean_probability: float
    max_probability: float


def write_tiles(analysis: Analysis, path: Path) -> None:
    """Write one CSV row per tissue tile: minx, miny, width, height, status, unfamiliar, class and prob_<class>.

    Positions and sizes are level-0 px with 2 decimals; `status` is done, unreadable, left out (ink or out of focus) or
    todo; `unfamiliar` is 1 where the tile is unlike what the model was trained on, else 0; `class` is that at the
    analysis' threshold, or "not judged", also for tiles in its band of doubt; the probabilities have 6 decimals. What
    is not known is empty.
    """
    rows, columns = np.nonzero(analysis.analysed | (analysis.status != TileStatus.BACKGROUND))
    left, top = analysis.grid.origins()
    width, height = analysis.grid.tile_size
    status = analysis.status[rows, columns]
    names = np.select(
        [analysis.analysed[rows, columns], status == TileStatus.UNREADABLE, np.isin(status, LEFT_OUT)],
        ["done", "unreadable", "left out"],
        "todo",
    )
    probabilities = analysis.probability[:, rows, columns].T
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["minx", "miny", "width", "height", "status", "unfamiliar", "class"]
        + [f"prob_{name}" for name in analysis.card.class_names]
    )
    classes = analysis.class_map()[rows, columns]
    called = np.array(["", *map(plain_cell, analysis.card.class_names)], object)[classes]
    called[(names == "unreadable") | (names == "done") & (classes == 0)] = NOT_JUDGED
    unfamiliar = analysis.unfamiliar[rows, columns].astype(int).tolist()
    for x, y, name, strange, label, values in zip(
        left[columns], top[rows], names, unfamiliar, called.tolist(), probabilities.tolist(), strict=True
    ):
        is_done = name == "done"
        shown = [strange if is_done else "", label, *(f"{value:.6f}" if is_done else "" for value in values)]
        table.writerow([f"{x:.2f}", f"{y:.2f}", f"{width:.2f}", f"{height:.2f}", name, *shown])
    write_text(path, text.getvalue())


def write_regions(analysis: Analysis, path: Path, threshold: float | None = None) -> None:
    """Write the regions of every class as GeoJSON for QuPath (0.5 or later): level-0 px, x before y.

    Parameters
    ----------
    analysis, threshold
        As for `regions_of`.
    path
        The `.geojson` file.
    """
    features = [_feature(analysis, region) for region in regions_of(analysis, threshold)]
    write_text(path, json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False) + "\n")


def regions_of(analysis: Analysis, threshold: float | None = None) -> list[Region]:
    """Return the connected tiles of every class, the target class first, the largest region of a class first.

    Tiles that share a side are connected; those that touch only by a corner are not, so each region is one polygon.
    What a tile stands for lies between its `TileGrid.edges`, so that overlapping tiles do not count twice.

    Parameters
    ----------
    threshold
        Probability of the target class from which a tile counts as that class; by default the analysis' own.
    """
    classes = analysis.class_map(threshold)
    target = analysis.card.target_class
    others = (index for index in range(len(analysis.card.classes)) if index != target)
    return [
        region for index in (target, *others) for region in _regions_of_class(analysis, classes == index + 1, index)
    ]


def _regions_of_class(analysis: Analysis, mask: NDArray[np.bool_], index: int) -> list[Region]:
    labels, count = ndimage.label(mask)
    if not count:
        return []
    numbers = np.arange(1, count + 1)
    polygons = _polygons(labels, count, analysis.grid)
    area = shapely.area(polygons) * analysis.mpp[0] * analysis.mpp[1] / 1e6
    tiles = np.bincount(labels.ravel())[1:]
    probability = analysis.probability[index]
    mean, most = (function(probability, labels, numbers) for function in (ndimage.mean, ndimage.maximum))
    store = analysis.store
    identity = f"{store.setting.key}/{store.bundle_hash}/{index}"
    return [
        Region(
            id=str(uuid.uuid5(_NAMESPACE, f"{identity}/{polygons[i].wkb_hex}")),
            name=f"{analysis.card.classes[index].name} {rank}",
            class_index=index,
            polygon=polygons[i],
            area_mm2=float(area[i]),
            tiles=int(tiles[i]),
            mean_probability=float(mean[i]),
            max_probability=float(most[i]),
        )
        for rank, i in enumerate(np.argsort(-area, kind="stable"), 1)
    ]


def _polygons(labels: NDArray[np.int32], count: int, grid: TileGrid) -> NDArray[Any]:
    """Return the outline of each label 1 to `count`, level-0 px: the union of its runs of tiles along the rows."""
    inside = np.pad(labels > 0, ((0, 0), (1, 1))).astype(np.int8)
    step = np.diff(inside, axis=1)
    (row, left), (_, right) = np.nonzero(step == 1), np.nonzero(step == -1)
    label = labels[row, left]
    order = np.argsort(label, kind="stable")
    runs = shapely.multipolygons(shapely.box(left, row, right, row + 1)[order], indices=label[order] - 1)
    outlines = shapely.simplify(shapely.union_all(runs[:, None], axis=1), 0)  # drops points within straight sides
    x, y = (edges.round(2) for edges in grid.edges())
    return np.asarray(
        shapely.orient_polygons(
            shapely.transform(outlines, lambda at: np.column_stack((x[at[:, 0].astype(int)], y[at[:, 1].astype(int)])))
        )
    )


def _feature(analysis: Analysis, region: Region) -> dict[str, Any]:
    info = analysis.card.classes[region.class_index]
    return {
        "type": "Feature",
        "id": region.id,
        "geometry": shapely.geometry.mapping(region.polygon),
        "properties": {
            "objectType": "annotation",
            "name": region.name,
            "classification": {"name": info.name, "color": list(info.color)},
            "measurements": {
                "Area mm^2": region.area_mm2,
                "Tiles": region.tiles,
                "Mean probability": region.mean_probability,
                "Max probability": region.max_probability,
            },
        },
    }
