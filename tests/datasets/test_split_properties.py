"""Over random data sets: whatever is trained on shares no tile, region, slide or patient with what is measured on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings, strategies as st

from napari_dala.annotations.held_out import SAME_PATIENT, hold_out
from napari_dala.annotations.labels import Examples
from napari_dala.datasets.folders import load_dataset
from napari_dala.datasets.splits import SAME_SLIDE, Split, holdout, patient_folds, region_split
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Data = tuple[Examples, dict[str, TileGrid]]

CLASSES = ("benign", "malignant", "necrosis")
SUBTYPES = ("B_A", "B_F", "B_PT", "B_TA", "M_DC", "M_LC", "M_MC", "M_PC")


def random_slide(rng: np.random.Generator, regions: int) -> tuple[TileGrid, NDArray[np.intp]]:
    """A grid of any overlap, and (tiles, 4): row, column, region and class of its labelled tiles."""
    scale = tuple(float(side) for side in rng.uniform(0.6, 3, 2))
    stride = int(rng.integers(1, 8))
    size = tuple(int(224 * side * rng.integers(1, 8) + rng.integers(200)) for side in scale)
    grid = TileGrid(size, 224, scale, stride)
    labelled = np.full((2, *grid.shape), -1)
    for region in range(regions):
        top, left = (int(rng.integers(side)) for side in grid.shape)
        height, width = rng.integers(1, 6, 2)
        labelled[:, top : top + height, left : left + width] = np.array([region, rng.integers(len(CLASSES))])[
            :, None, None
        ]
    row, column = np.nonzero(labelled[0] >= 0)
    return grid, np.column_stack([row, column, *labelled[:, row, column]])


@st.composite
def labelled_slides(draw: st.DrawFn) -> Data:
    """Any number of patients, slides, regions and classes; some patients' names are not known."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    slides, patients = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    grids, rows = {}, []
    for number in range(slides):
        grid, tiles = random_slide(rng, draw(st.integers(1, 8)))
        fingerprint = f"slide {number}"
        grids[fingerprint] = grid
        patient = f"patient {rng.integers(patients)}" if rng.random() < 0.8 else fingerprint
        rows += [(fingerprint, patient, *tile) for tile in tiles.tolist()]
    slide, patient, row, column, region, label = (np.array(part) for part in zip(*rows, strict=True))
    examples = Examples(CLASSES, slide, patient, row, column, label, np.char.mod("region %d", region))
    return examples, grids


def sides(values: NDArray[np.generic], split: Split) -> tuple[set[object], set[object]]:
    return set(values[split.train].tolist()), set(values[split.test].tolist())


def share_nothing(values: NDArray[np.generic], split: Split) -> bool:
    train, test = sides(values, split)
    return not train & test


def is_partition(split: Split, count: int) -> bool:
    return sorted(np.concatenate([split.train, split.test, split.dropped]).tolist()) == list(range(count))


def assert_a_tile_lies_between(grid: TileGrid, rows: NDArray[np.intp], columns: NDArray[np.intp], split: Split) -> None:
    """In level-0 px: from the edge of a tile on one side to that of a tile on the other is a whole tile, at least."""
    free = [
        np.abs(edges[at[split.train]][:, None] - edges[at[split.test]][None]) / side - 1
        for edges, at, side in zip(grid.origins(), (columns, rows), grid.tile_size, strict=True)
    ]
    if len(split.train) and len(split.test):
        assert np.maximum(*free).min() >= 1 - 1e-9


@settings(max_examples=150, deadline=None)
@given(labelled_slides(), st.floats(0.05, 0.5), st.integers(0, 3))
def test_held_out_tiles_share_nothing_with_the_rest(data: Data, fraction: float, seed: int) -> None:
    examples, grids = data
    held_out = hold_out(examples, grids, fraction, seed)
    split = held_out.split
    assert is_partition(split, len(examples))
    tiles = np.array([f"{s} {r} {c}" for s, r, c in zip(examples.slide, examples.row, examples.column, strict=True)])
    assert share_nothing(tiles, split)
    if held_out.unit in ("patient", "slide"):
        assert share_nothing(examples.slide, split)
        assert not len(split.dropped)
    if held_out.unit == "patient":
        assert share_nothing(examples.patient, split)
        assert not split.optimistic
    elif held_out.unit == "slide":
        assert split.optimistic == (not share_nothing(examples.patient, split)) == (SAME_PATIENT in split.notes)
    elif held_out.unit == "region":
        assert share_nothing(held_out.groups, split)
        assert split.optimistic
        assert SAME_SLIDE in split.notes
        for name, grid in grids.items():
            part = Split(*(side[examples.slide[side] == name] for side in (split.train, split.test)))
            assert_a_tile_lies_between(grid, examples.row, examples.column, part)
    else:
        assert not len(split.test)
        assert split.notes
    again = hold_out(examples, grids, fraction, seed)
    for side in ("train", "test", "dropped"):
        np.testing.assert_array_equal(getattr(again.split, side), getattr(split, side))
    assert again.unit == held_out.unit


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10), st.integers(0, 3))
def test_whole_tiles_lie_between_the_regions_of_one_slide(seed: int, regions: int, gap: int) -> None:
    """At any overlap of the tiles, `gap` steps lie between; enough of them are a whole tile."""
    grid, tiles = random_slide(np.random.default_rng(seed), regions)
    row, column, region, label = tiles.T
    split = region_split(row, column, region, label, gap, seed)
    assert is_partition(split, len(tiles))
    assert share_nothing(region, split)
    far = np.maximum(*(np.abs(at[split.train][:, None] - at[split.test][None]) for at in (row, column)))
    assert not far.size or far.min() > gap
    whole = -(-2 * grid.cells // grid.stride_cells) - 1
    place = grid.starts[0][row] // grid.stride_cells, grid.starts[1][column] // grid.stride_cells
    assert_a_tile_lies_between(grid, row, column, region_split(*place, region, label, whole, seed))


@settings(max_examples=150, deadline=None)
@given(labelled_slides(), st.integers(2, 5), st.integers(0, 3), st.sampled_from(["patient", "slide"]))
def test_folds_of_patients_or_slides(data: Data, folds: int, seed: int, unit: str) -> None:
    examples, _ = data
    groups = getattr(examples, unit)
    if len(np.unique(groups)) < folds:
        return
    splits = patient_folds(examples.label, groups, folds, seed)
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested.tolist()) == list(range(len(examples)))
    for split in (*splits, holdout(examples.label, groups, 0.3, seed)):
        assert is_partition(split, len(examples))
        assert share_nothing(groups, split)
        assert share_nothing(examples.slide, split)
    for split, again in zip(splits, patient_folds(examples.label, groups, folds, seed), strict=True):
        np.testing.assert_array_equal(split.test, again.test)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_a_patient_of_breakhis_under_several_letters_subtypes_and_years_is_one(seed: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    patients = rng.choice(30_000, int(rng.integers(folds, 12)), replace=False) + 1
    with tempfile.TemporaryDirectory() as folder:
        for patient in [*patients, *rng.choice(patients, 15)]:
            letters = rng.choice(["", "AB", "CD", "G"])
            slide = f"{rng.integers(10, 20)}-{patient}{letters}"
            name = f"SOB_{rng.choice(SUBTYPES)}-{slide}-100-{rng.integers(1, 1000):03}.png"
            (Path(folder) / name).touch()
        dataset = load_dataset("breakhis", folder, magnification=100)
    number = np.array([image.path.name.split("-")[2].rstrip("ABCDG") for image in dataset.images])
    assert set(number) == {str(patient) for patient in patients}
    splits = patient_folds(dataset.labels, dataset.patients, folds, int(rng.integers(5)))
    for split in (*splits, holdout(dataset.labels, dataset.patients, 0.25)):
        assert share_nothing(number, split)
