from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies as st

from napari_dala.annotations.held_out import NOTHING_HELD_OUT, SAME_PATIENT, hold_out
from napari_dala.annotations.labels import Examples
from napari_dala.datasets.splits import SAME_SLIDE
from napari_dala.slide.tiles import TileGrid

GRID = TileGrid((64 * 40, 64 * 40), 64, (1.0, 1.0), 2)
OVERLAPPING = TileGrid((3755, 3755), 224, (1.0, 1.0), 4)  # stride 4 of 7 cells, 29 x 29


def examples(*regions: tuple[str, str, str, int, tuple[int, int]], classes: int = 2) -> Examples:
    """Return the tiles of regions (patient, slide, id, label, corner), each of 2 x 2 tiles."""
    rows = [
        (patient, slide, region, label, row + down, column + right)
        for patient, slide, region, label, (row, column) in regions
        for down in (0, 1)
        for right in (0, 1)
    ]
    patient, slide, region, label, row, column = zip(*rows, strict=True)
    return Examples(
        tuple("abc"[:classes]),
        np.array(slide),
        np.array(patient),
        np.array(row),
        np.array(column),
        np.array(label),
        np.array(region),
    )


@st.composite
def drawings(draw: st.DrawFn) -> Examples:
    """Regions anywhere on up to four slides of up to four patients."""
    owner = draw(st.lists(st.sampled_from("PQRS"), min_size=1, max_size=4))
    count = draw(st.integers(1, 12))
    regions = []
    for number in range(count):
        slide = draw(st.integers(0, len(owner) - 1))
        corner = (draw(st.integers(0, 12)) * 2, draw(st.integers(0, 12)) * 2)
        regions.append((owner[slide], f"slide {slide}", f"region {number}", draw(st.integers(0, 2)), corner))
    return examples(*regions, classes=3)


@given(drawings(), st.integers(0, 3), st.sampled_from([GRID, OVERLAPPING]))
@settings(max_examples=150, deadline=None)
def test_nothing_is_on_both_sides(drawn: Examples, seed: int, grid: TileGrid) -> None:
    grids = dict.fromkeys(np.unique(drawn.slide).tolist(), grid)
    held_out = hold_out(drawn, grids, 0.25, seed)
    split = held_out.split
    everything = np.concatenate([split.train, split.test, split.dropped])
    assert sorted(everything) == list(range(len(drawn)))
    assert set(drawn.label[split.train]) == set(drawn.label)  # no class is lost to validation
    assert not set(held_out.groups[split.train]) & set(held_out.groups[split.test])
    shared = {
        unit: set(getattr(drawn, unit)[split.train]) & set(getattr(drawn, unit)[split.test])
        for unit in ("patient", "slide")
    }
    if held_out.unit == "patient":
        assert not shared["patient"]
        assert not shared["slide"]
    if held_out.unit == "slide":
        assert not shared["slide"]
    assert split.optimistic >= bool(shared["patient"])
    if held_out.unit == "none":
        assert not len(split.test)
        assert split.notes == (NOTHING_HELD_OUT,)
    if held_out.unit == "region":
        assert SAME_SLIDE in split.notes
        assert max(drawn.row.max(), drawn.column.max()) < min(grid.shape)
        top, left = grid.starts
        for index in split.test:
            near = drawn.slide[split.train] == drawn.slide[index]
            rows = np.abs(top[drawn.row[split.train][near]] - top[drawn.row[index]])
            columns = np.abs(left[drawn.column[split.train][near]] - left[drawn.column[index]])
            assert (np.maximum(rows, columns) >= 2 * grid.cells).all()  # a whole tile lies between


@given(drawings(), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_the_same_seed_holds_out_the_same(drawn: Examples, seed: int) -> None:
    grids = dict.fromkeys(np.unique(drawn.slide).tolist(), GRID)
    one, other = (hold_out(drawn, grids, 0.25, seed) for _ in range(2))
    np.testing.assert_array_equal(one.split.test, other.split.test)


def test_patients_go_before_slides_and_slides_before_regions() -> None:
    far = [(0, 0), (0, 20), (20, 0), (20, 20)]
    two_each = [("P", "1"), ("Q", "2"), ("R", "3"), ("S", "4")]
    grids = {slide: GRID for _, slide in two_each}
    by_patient = examples(*((p, s, f"{s}{k}", k, far[k]) for p, s in two_each for k in (0, 1)))
    found = hold_out(by_patient, grids)
    assert (found.unit, found.split.optimistic, found.split.notes) == ("patient", False, ())

    by_slide = examples(*(("P", s, f"{s}{k}", k, far[k]) for _, s in two_each for k in (0, 1)))
    found = hold_out(by_slide, grids)
    assert (found.unit, found.split.optimistic, found.split.notes) == ("slide", True, (SAME_PATIENT,))

    one_slide = examples(*(("P", "1", f"{k}", k % 2, far[k]) for k in range(4)))
    found = hold_out(one_slide, grids)
    assert (found.unit, found.split.optimistic, found.split.notes) == ("region", True, (SAME_SLIDE,))

    each_has_one_class = examples(("P", "1", "a", 0, far[0]), ("Q", "2", "b", 1, far[1]))
    assert hold_out(each_has_one_class, grids).unit == "none"


def test_a_class_of_one_region_trains_and_the_note_says_what_to_do() -> None:
    corners = [(0, 0), (0, 20), (20, 0)]
    found = hold_out(
        examples(*(("P", "1", str(k), int(k == 2), corner) for k, corner in enumerate(corners))), {"1": GRID}
    )
    assert found.unit == "region"
    assert "b is not among the held-out tiles: draw another region of it, away from the others" in found.split.notes


def test_slides_without_a_patient_count_as_patients_and_a_note_says_so() -> None:
    drawn = examples(*((s, s, f"{s}{k}", k, (k * 20, 0)) for s in ("1", "2", "3", "4") for k in (0, 1)))
    found = hold_out(drawn, dict.fromkeys("1234", GRID))
    assert found.unit == "patient"
    assert found.split.notes == ("patients of 4 slides are not named: each of these counts as a patient of its own",)
