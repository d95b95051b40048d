"""Does a map lie where the class is? On slides whose tissue is known, in tiles of the class and of other tissue.

Everything is counted in cells of the map by the part of each that is of the class: nothing is enlarged or smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import shapely
from skimage.draw import polygon

from napari_dala.annotations.document import areas_of
from napari_dala.annotations.files import read_annotations
from napari_dala.errors import AnnotationError
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.slide import Slide

    Floats: TypeAlias = NDArray[np.floating[Any]]

MIXED = 0.1  # least part of a mixed tile that is of the class, and that is other tissue
_SAMPLES = 8  # of the truth along a cell; even, so that half a tile is a whole number of them


def truth_file(slide: Path) -> Path:
    """Return where a slide's truth lies: its outlines, beside it."""
    return slide.with_suffix(".truth.geojson")


def class_fractions(path: Path, class_names: Sequence[str], grid: TileGrid) -> NDArray[np.float32]:
    """Return the part of each cell of the shifted grid that is of each class, (classes, H, W).

    Parameters
    ----------
    path
        GeoJSON of outlines in level-0 px that cover all tissue. What lies in none of them is no tissue; where outlines
        overlap the smaller one holds.
    class_names
        In any case; outlines of other classes are no tissue.
    grid
        Of the slide, before it is shifted by half a tile.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or lacks a class.
    """
    labels = {name.casefold(): number for number, name in enumerate(class_names)}
    samples = np.full(tuple(side * _SAMPLES for side in grid.cam_shape), -1, np.int8)
    side_x, side_y = (grid.cell_px * scale / _SAMPLES for scale in grid.scale)
    regions = [
        (area, labels[name])
        for item in read_annotations(path).annotations
        if (name := (item.class_name or "").casefold()) in labels
        for area in shapely.get_parts(areas_of(item.geometry))
    ]
    missing = set(range(len(class_names))) - {label for _, label in regions}
    if missing:
        raise AnnotationError(f"{path.name}: holds no outline of {class_names[min(missing)]}")
    for area, label in sorted(regions, key=lambda item: -shapely.Polygon(item[0].exterior).area):
        for ring, value in ((area.exterior, label), *((hole, -1) for hole in area.interiors)):
            x, y = shapely.get_coordinates(ring).T
            samples[polygon(y / side_y - 0.5, x / side_x - 0.5, samples.shape)] = value
    half = grid.cells * _SAMPLES // 2
    inner = samples[half : samples.shape[0] - half, half : samples.shape[1] - half]
    rows, columns = (side // _SAMPLES for side in inner.shape)
    by_cell = inner.reshape(rows, _SAMPLES, columns, _SAMPLES)
    return np.stack([(by_cell == label).mean((1, 3), dtype=np.float32) for label in range(len(class_names))])


def shifted_tiles(slide: Slide, grid: TileGrid) -> Iterator[NDArray[np.uint8]]:
    """Yield the tiles of a grid moved by half a tile right and down, a row at a time, (columns - 1, px, px, 3)."""
    rows, columns = grid.shape
    side, half = grid.tile_px, grid.tile_px // 2
    for row in range(rows - 1):
        band = read_tiles(slide, grid, row, 0, 2, columns)[half : half + side, half : half + (columns - 1) * side]
        yield band.reshape(side, columns - 1, side, 3).swapaxes(0, 1)


@dataclass(frozen=True, eq=False)
class TileFigures:
    """What a map's cells say of each of n tiles; NaN where there is nothing to say.

    Attributes
    ----------
    auc
        Area under the ROC curve of the map's cells against the truth: how often a point of the class is hotter than one
        that is not, ties counting half. 0.5 for a random or empty map.
    pointing
        1 where the hottest cell is mostly of the class, else 0; the mean over hottest cells that are equal (the
        pointing game of Zhang et al. 2018, *Top-down neural attention by excitation backprop*, IJCV 126).
    share
        Part of the map's heat that lies on the class (the energy-based pointing game of Wang et al. 2020, *Score-CAM*,
        CVPR workshops). A random map has the class's share of the area. NaN for an empty map.
    kept
        Part of the cells above 0.
    """

    auc: NDArray[np.float64]
    pointing: NDArray[np.float64]
    share: NDArray[np.float64]
    kept: NDArray[np.float64]


def tile_figures(values: Floats, inside: Floats) -> TileFigures:
    """Measure tiles one by one.

    Parameters
    ----------
    values
        (n, cells) of the map, not negative.
    inside
        (n, cells) part of each cell that is of the class; each tile has some, and some that is not.
    """
    outside = 1 - inside
    higher = values[:, :, None] > values[:, None, :]
    wins = higher + 0.5 * (values[:, :, None] == values[:, None, :])
    auc = np.einsum("ti,tij,tj->t", inside, wins, outside) / (inside.sum(1) * outside.sum(1))
    hottest = values == values.max(1, keepdims=True)
    heat = values.sum(1)
    with np.errstate(invalid="ignore"):
        share = (values * inside).sum(1) / heat
    return TileFigures(
        auc=auc,
        pointing=(hottest & (inside > 0.5)).sum(1) / hottest.sum(1),
        share=share,
        kept=(values > 0).mean(1),
    )


@dataclass(frozen=True)
class Heat:
    """How much of plain Grad-CAM's heat is kept where the class is, and elsewhere; None where there was none.

    Attributes
    ----------
    inside, outside
        Of the map, 0 to 1.
    """

    inside: float | None
    outside: float | None


def heat_kept(plain: Floats, mask: NDArray[np.bool_], inside: Floats) -> Heat:
    """Return how much of the plain map's heat lies under a mask; all arrays of one shape, `inside` as elsewhere."""
    parts = []
    for weight in (inside, 1 - inside):
        total = float((plain * weight).sum())
        parts.append(float((plain * weight * mask).sum()) / total if total else None)
    return Heat(*parts)


def hottest(plain: Floats, mask: NDArray[np.bool_], *, per_tile: bool) -> NDArray[np.bool_]:
    """Return the plain map's hottest cells, as many as `mask` has: in each tile, or in all of them together.

    Parameters
    ----------
    plain, mask
        (n, cells).
    per_tile
        Whether each tile has as many as its own mask.
    """
    if not per_tile:
        return hottest(plain.reshape(1, -1), mask.reshape(1, -1), per_tile=True).reshape(mask.shape)
    places = np.argsort(np.argsort(-plain, axis=1, kind="stable"), axis=1)
    return np.asarray(places < mask.sum(1, keepdims=True))


@dataclass(frozen=True)
class Localisation:
    """How well one method finds one class on one slide.

    Attributes
    ----------
    slide, class_name, method
        Which.
    tiles
        Mixed tiles: at least a tenth is of the class and a tenth is other tissue.
    area
        The class's part of them: what a random map's share comes to.
    auc, pointing
        Means over mixed tiles; see `TileFigures`.
    share
        Part of all the heat of mixed tiles that lies on the class; None where there is no heat.
    kept
        Part of all cells of the slide's tissue tiles that are above 0.
    mixed, slide_wide
        Of DT: plain Grad-CAM's heat that is kept, in mixed tiles and in all tissue tiles.
    cut
        Of DT: the same in mixed tiles for plain Grad-CAM cut to the same number of cells, in each tile where DT
        goes by tiles, over the slide where it goes by the slide.
    """

    slide: str
    class_name: str
    method: str
    tiles: int
    area: float
    auc: float
    pointing: float
    share: float | None
    kept: float
    mixed: Heat | None = None
    slide_wide: Heat | None = None
    cut: Heat | None = None


@dataclass(frozen=True, eq=False)
class SlideCells:
    """A slide's tissue tiles by their cells.

    Attributes
    ----------
    slide, class_name
        What is looked for, and where.
    inside
        (n, cells) part of each cell that is of the class.
    mixed
        (n,) whether a tile is mixed.
    plain
        (n, cells) Grad-CAM of the class.
    """

    slide: str
    class_name: str
    inside: NDArray[np.float32]
    mixed: NDArray[np.bool_]
    plain: NDArray[np.float32]

    def measure(self, method: str, values: Floats) -> tuple[Localisation, TileFigures]:
        """Return the figures of a map (n, cells) and of each mixed tile."""
        found, inside = values[self.mixed].astype(np.float64), self.inside[self.mixed].astype(np.float64)
        figures = tile_figures(found, inside)
        heat = float(found.sum())
        return (
            Localisation(
                slide=self.slide,
                class_name=self.class_name,
                method=method,
                tiles=len(found),
                area=float(inside.mean()),
                auc=float(figures.auc.mean()),
                pointing=float(figures.pointing.mean()),
                share=float((found * inside).sum()) / heat if heat else None,
                kept=float((values > 0).mean()),
            ),
            figures,
        )

    def measure_kept(self, method: str, values: Floats, *, per_tile: bool) -> tuple[Localisation, TileFigures]:
        """Return the same of a DT map, which is plain Grad-CAM or 0, with what it keeps of the heat."""
        mask = values > 0
        cut = hottest(self.plain, mask, per_tile=per_tile)
        found, figures = self.measure(method, values)
        mixed, of_cut = (
            heat_kept(self.plain[self.mixed], part[self.mixed], self.inside[self.mixed]) for part in (mask, cut)
        )
        everywhere = heat_kept(self.plain, mask, self.inside)
        return replace(found, mixed=mixed, slide_wide=everywhere, cut=of_cut), figures


def by_tile(values: NDArray[Any], cells: int) -> NDArray[Any]:
    """Return a map (..., rows * cells, columns * cells) as (..., rows, columns, cells * cells)."""
    *first, height, width = values.shape
    tiles = values.reshape(*first, height // cells, cells, width // cells, cells)
    return tiles.swapaxes(-3, -2).reshape(*first, height // cells, width // cells, cells * cells)
