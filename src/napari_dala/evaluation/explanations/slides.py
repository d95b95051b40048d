"""Explanations measured on slides whose tissue is known, class by class, in tiles that hold more than one class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_dala.errors import DatasetError
from napari_dala.evaluation.explanations.localisation import (
    MIXED,
    Localisation,
    SlideCells,
    TileFigures,
    by_tile,
    class_fractions,
    shifted_tiles,
    truth_file,
)
from napari_dala.evaluation.explanations.maps import GRAD_CAM, THRESHOLDS, ExplainSettings, MapMaker, cell_um
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid
from napari_dala.slide.tissue import MIN_TISSUE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.model.bundle import ModelBundle

    Floats: TypeAlias = NDArray[np.float32]
    Row: TypeAlias = dict[str, Any]


def explain_slide(path: Path, bundle: ModelBundle, settings: ExplainSettings) -> tuple[list[Localisation], list[Row]]:
    """Measure where the maps of every class lie, in a grid of tiles shifted by half a tile.

    Parameters
    ----------
    path
        The slide; the outlines of its tissue lie beside it, see `truth_file`.
    bundle, settings
        The model, and how maps are made.

    Returns
    -------
    found : list of Localisation
        By class and method.
    rows : list of dict
        One per mixed tile, class and method, for a table; row and column are those of the shifted grid.

    Raises
    ------
    SlideError
        If the slide cannot be read or does not fit the model.
    AnnotationError
        If its outlines cannot be read or lack a class.
    DatasetError
        If no tile holds a class and other tissue.
    DalaError
        See `MapMaker`.
    """
    card = bundle.card
    with open_slide(path) as slide:
        grid = TileGrid.over(slide, card.tile_px, card.mpp, cell_px=card.cell_px).regular  # is moved by half a tile
        fractions = by_tile(class_fractions(truth_file(path), card.class_names, grid), grid.cells)
        tissue = fractions.sum(0).mean(2) >= MIN_TISSUE
        explainer = MapMaker(bundle, settings)
        bands = zip(shifted_tiles(slide, grid), tissue, strict=True)
        parts = [explainer(tiles[here]).maps for tiles, here in bands if here.any()]
    inside = fractions[:, tissue]
    part = inside.mean(2)
    mixed = (part >= MIXED) & (part.sum(0) - part >= MIXED)
    if not mixed.any(1).all():
        name = card.class_names[int(np.argmin(mixed.any(1)))]
        raise DatasetError(f"{path.name}: no tile of the model holds both {name} and other tissue")

    found: list[Localisation] = []
    rows: list[Row] = []
    for number, class_name in enumerate(card.class_names):
        maps = {
            name: np.concatenate([values[name][:, number].reshape(len(values[name]), -1) for values in parts])
            for name in parts[0]
        }
        cells = SlideCells(path.name, class_name, inside[number], mixed[number], maps.pop(GRAD_CAM))
        measured = [cells.measure(GRAD_CAM, cells.plain)]
        for name, threshold in THRESHOLDS.items():
            whole = threshold(_as_map(cells.plain, tissue), cell_um=cell_um(bundle), tile_cells=grid.cells)
            kept = np.where(by_tile(whole.mask, grid.cells)[tissue], cells.plain, 0)
            measured.append(cells.measure_kept(name, kept, per_tile=threshold.scope == "tile"))
        measured += [cells.measure(name, values) for name, values in maps.items()]
        places = np.argwhere(tissue)[mixed[number]].tolist()
        for localisation, figures in measured:
            found.append(localisation)
            rows += _rows(localisation, figures, places, part[number, mixed[number]])
    return found, rows


def _as_map(cells: Floats, tissue: NDArray[np.bool_]) -> Floats:
    """Return the cells (n, cells) of tissue tiles as one map, NaN elsewhere: the way back from `by_tile`."""
    side = round(cells.shape[1] ** 0.5)
    whole = np.full((*tissue.shape, side, side), np.nan, np.float32)
    whole[tissue] = cells.reshape(-1, side, side)
    return whole.swapaxes(1, 2).reshape(tissue.shape[0] * side, tissue.shape[1] * side)


def _rows(found: Localisation, figures: TileFigures, places: list[list[int]], area: Floats) -> list[Row]:
    return [
        {
            "slide": found.slide,
            "row": row,
            "column": column,
            "class": found.class_name,
            "area": float(area[number]),
            "method": found.method,
            **{
                name: None if np.isnan(values[number]) else float(values[number])
                for name, values in vars(figures).items()
            },
        }
        for number, (row, column) in enumerate(places)
    ]
