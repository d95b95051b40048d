"""The table of regions: those that were found and those that were drawn, with the same figures."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import shapely
from scipy import ndimage

from napari_dala.files import plain_cell
from napari_dala.results.report.export import regions_of
from napari_dala.results.tile_results import TileStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_dala.results.analysis import Analysis

    Color = tuple[int, int, int]
    Area: TypeAlias = shapely.Polygon | shapely.MultiPolygon


class DrawnRegion(NamedTuple):
    """What a user drew: its class (None where it has none), that class' colour, and where, level-0 px (x, y)."""

    class_name: str | None
    color: Color
    area: Area


class RegionRow(NamedTuple):
    """A region and its figures; what is not known is None.

    Attributes
    ----------
    name
        Its class and a number.
    class_name, color
        Of its class.
    is_drawn
        False where the model found it.
    area_mm2
        Of the region, mm2.
    mean, highest
        Probability of the model's target class over the region's judged tiles, 0 to 1.
    unfamiliar, not_judged
        The part of its tiles that is unlike what the model was trained on, and that is not judged for whatever reason,
        0 to 1. Tiles in its holes count too: what is not judged is in no found region, but within many.
    foci
        Separate groups of tiles of the target class in it or in its holes.
    bounds
        Left, top, right, bottom; level-0 px.
    """

    name: str
    class_name: str
    color: Color
    is_drawn: bool
    area_mm2: float
    mean: float | None
    highest: float | None
    unfamiliar: float | None
    not_judged: float | None
    foci: int
    bounds: tuple[float, float, float, float]


def region_rows(analysis: Analysis, drawn: Sequence[DrawnRegion] = ()) -> list[RegionRow]:
    """Return a row for each drawn region, then for each found one, the target class first and the largest first.

    A tile belongs to a region where the middle of its place lies in it; a region too small for that has the tile that
    it lies in. A second for 100,000 tiles, so not in the main thread.

    Parameters
    ----------
    drawn
        Those without any area are passed over.
    """
    drawn = [one for one in drawn if one.area.area > 0]
    found = regions_of(analysis)
    areas = np.array([*(one.area for one in drawn), *(one.polygon for one in found)], object)
    if not len(areas):
        return []
    row, column = np.nonzero(analysis.analysed | (analysis.status == TileStatus.UNREADABLE))
    x, y = ((edges[:-1] + edges[1:]) / 2 for edges in analysis.grid.edges())
    middles = shapely.points(x[column], y[row])
    region, tile = _tiles_in(areas, middles, analysis, row, column)
    whole, inner = _tiles_in(shapely.union_all(_parts_filled(areas), axis=1), middles, analysis, row, column)
    target = analysis.card.target_class
    classes, probability = analysis.class_map()[row, column], analysis.probability[target][row, column]
    groups = ndimage.label(analysis.class_map() == target + 1)[0][row, column]
    count = len(areas)
    judged = classes[tile] > 0
    tiles = np.bincount(region[judged], minlength=count)
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, region[judged], probability[tile[judged]])
    within = np.bincount(whole, minlength=count)
    foci = np.unique(np.stack((whole, groups[inner]))[:, groups[inner] > 0], axis=1)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(region[judged], probability[tile[judged]], count) / tiles
        unfamiliar = np.bincount(whole, analysis.unfamiliar[row, column][inner], count) / within
        not_judged = np.bincount(whole, classes[inner] == 0, count) / within
    mm2 = shapely.area(areas) * (analysis.mpp[0] * analysis.mpp[1] / 1e6)
    names = [*_numbered([one.class_name or "no class" for one in drawn]), *(one.name for one in found)]
    entries = [analysis.card.classes[one.class_index] for one in found]
    kinds = [*((one.class_name or "", one.color) for one in drawn), *((entry.name, entry.color) for entry in entries)]
    figures = zip(
        mm2.tolist(),
        *map(_known, (mean, highest, unfamiliar, not_judged)),
        np.bincount(foci, minlength=count).tolist(),
        map(tuple, shapely.bounds(areas).tolist()),
        strict=True,
    )
    return [
        RegionRow(name, *kind, place < len(drawn), *values)
        for place, (name, kind, values) in enumerate(zip(names, kinds, figures, strict=True))
    ]


def as_tab_text(rows: Sequence[RegionRow], target: str) -> str:
    """Return rows as a text that a spreadsheet takes, a line each, with a heading; `target` is the target class."""
    head = (
        "Region", "Class", "Made by", "Area mm2", f"Mean probability {target}", f"Highest probability {target}",
        "Share unfamiliar", "Share not judged", f"Foci {target}", "Left px", "Top px", "Right px", "Bottom px",
    )  # fmt: skip
    lines = [
        (
            row.name,
            row.class_name,
            "drawn" if row.is_drawn else "found",
            f"{row.area_mm2:.6f}",
            *("" if value is None else f"{value:.4f}" for value in row[5:9]),
            str(row.foci),
            *(f"{edge:.0f}" for edge in row.bounds),
        )
        for row in rows
    ]
    return "".join("\t".join(plain_cell(text) for text in line) + "\n" for line in (head, *lines))


def _known(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if isfinite(value) else None for value in values]


def _tiles_in(
    areas: NDArray[np.object_],
    middles: NDArray[np.object_],
    analysis: Analysis,
    row: NDArray[np.intp],
    column: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which tiles lie in which areas, as indices of both, (pairs,) each."""
    region, tile = shapely.STRtree(middles).query(areas, predicate="contains")
    index = np.full(analysis.grid.shape, -1, np.intp)
    index[row, column] = np.arange(len(row))
    extra = []
    for small in np.setdiff1d(np.arange(len(areas)), region).tolist():
        point = areas[small].representative_point()
        at = analysis.grid.at(point.x, point.y)
        if at is not None and index[at] >= 0:
            extra.append((small, int(index[at])))
    more = np.array(extra, np.intp).reshape(-1, 2)
    return np.append(region, more[:, 0]), np.append(tile, more[:, 1])


def _parts_filled(areas: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the parts of each area without their holes, (areas, most parts); None where it has fewer."""
    parts, owner = shapely.get_parts(areas, return_index=True)
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    filled = np.full((len(areas), int(place.max()) + 1), None, object)
    filled[owner, place] = shapely.polygons(shapely.get_exterior_ring(parts))
    return filled


def _numbered(names: Sequence[str]) -> list[str]:
    """Return names with a number each, counted by name."""
    so_far = dict.fromkeys(names, 0)
    numbered = []
    for name in names:
        so_far[name] += 1
        numbered.append(f"{name} {so_far[name]}")
    return numbered
