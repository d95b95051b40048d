"""Which labelled tiles are held out: by patient, else by slide, else by region.

Of these the first, hence the most honest, is taken that leaves as many classes on both sides as any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from napari_dala.datasets.splits import SAME_SLIDE, Split, holdout, region_split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_dala.annotations.labels import Examples
    from napari_dala.slide.tiles import TileGrid

Unit: TypeAlias = Literal["patient", "slide", "region", "none"]

HELD_OUT = 0.25  # of each class
SAME_PATIENT = "same patients, optimistic"
NOTHING_HELD_OUT = (
    "nothing is held out: draw two regions of a class, away from each other, or label another slide, to have figures"
)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A split of labelled tiles, and what it keeps together.

    Attributes
    ----------
    unit
        No patient, slide or region is on both sides; "none" where nothing is held out.
    split
        Indices of the tiles; its notes say what every figure must be read with.
    groups
        (n,) str: patient, slide or region of each tile, for the intervals of a figure.
    """

    unit: Unit
    split: Split
    groups: NDArray[np.str_]


def hold_out(examples: Examples, grids: Mapping[str, TileGrid], fraction: float = HELD_OUT, seed: int = 0) -> HeldOut:
    """Set labelled tiles aside to measure on.

    Parameters
    ----------
    examples
        At least one tile.
    grids
        By fingerprint of the slide.
    fraction
        Of each class, wished for in the held-out part; above 0 and below 1.
    seed
        Chooses among splits that are about as good.
    """
    found = [_by_region(examples, grids, fraction, seed)]
    if len(np.unique(examples.slide)) > 1:
        found.insert(0, _by_slide(examples, fraction, seed))
    if len(np.unique(examples.patient)) > 1:
        found.insert(0, _by_patient(examples, fraction, seed))
    validated = [len(_on_both_sides(examples, one.split)) for one in found]
    if not max(validated):
        split = Split(np.arange(len(examples)), np.zeros(0, np.intp), notes=(NOTHING_HELD_OUT,))
        return HeldOut("none", split, examples.patient)
    chosen = found[validated.index(max(validated))]
    both = _on_both_sides(examples, chosen.split)
    lacking = [name for label, name in enumerate(examples.class_names) if label in examples.label and label not in both]
    missing = [
        f"{name} is not among the held-out tiles: draw another region of it, away from the others" for name in lacking
    ]
    return replace(chosen, split=replace(chosen.split, notes=(*chosen.split.notes, *missing)))


def _by_patient(examples: Examples, fraction: float, seed: int) -> HeldOut:
    split = holdout(examples.label, examples.patient, fraction, seed)
    unnamed = len(np.unique(examples.slide[examples.patient == examples.slide]))
    notes = [f"patients of {unnamed} slides are not named: each of these counts as a patient of its own"]
    return HeldOut("patient", replace(split, notes=tuple(notes[: unnamed > 1])), examples.patient)


def _by_slide(examples: Examples, fraction: float, seed: int) -> HeldOut:
    split = holdout(examples.label, examples.slide, fraction, seed)
    shared = bool(set(examples.patient[split.train]) & set(examples.patient[split.test]))
    split = replace(split, optimistic=shared, notes=(SAME_PATIENT,) if shared else ())
    return HeldOut("slide", split, examples.slide)


def _by_region(examples: Examples, grids: Mapping[str, TileGrid], fraction: float, seed: int) -> HeldOut:
    parts = []
    for slide in np.unique(examples.slide).tolist():
        here = np.flatnonzero(examples.slide == slide)
        grid = grids[slide]
        top, left = grid.starts[0][examples.row[here]], grid.starts[1][examples.column[here]]
        place = (top // grid.stride_cells, left // grid.stride_cells)  # of a moved tile: nearer, never farther
        split = region_split(*place, examples.region[here], examples.label[here], _gap(grid), seed, fraction=fraction)
        parts.append([here[indices] for indices in (split.train, split.test, split.dropped)])
    train, test, dropped = (np.sort(np.concatenate(side)) for side in zip(*parts, strict=True))
    regions = np.char.add(np.char.add(examples.slide, " "), examples.region)
    return HeldOut("region", Split(train, test, dropped, True, (SAME_SLIDE,)), regions)


def _gap(grid: TileGrid) -> int:
    """Return the steps of the grid nearer than which tiles have less than a whole tile between them."""
    return ceil(2 * grid.cells / grid.stride_cells) - 1


def _on_both_sides(examples: Examples, split: Split) -> set[int]:
    return set(examples.label[split.train].tolist()) & set(examples.label[split.test].tolist())
