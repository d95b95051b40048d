from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from napari_dala.datasets.folders import load_dataset
from napari_dala.datasets.splits import (
    IMAGE_PROTOCOL_WARNING,
    SAME_SLIDE,
    Split,
    holdout,
    image_folds,
    patient_folds,
    region_split,
)
from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Examples = tuple[NDArray[np.intp], NDArray[np.intp]]


@st.composite
def examples(draw: st.DrawFn, pure: bool = False, fewest: int = 2) -> Examples:
    """Labels and patients; `pure` patients have one class each."""
    patients = draw(st.integers(fewest, 30))
    classes = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    group = np.concatenate([np.arange(patients), rng.integers(patients, size=draw(st.integers(0, 100)))])
    label = rng.integers(classes, size=patients)[group] if pure else rng.integers(classes, size=len(group))
    return label, rng.permutation(1000)[group]


def same(first: Split, second: Split) -> bool:
    return all(np.array_equal(getattr(first, side), getattr(second, side)) for side in ("train", "test", "dropped"))


def covers(label: NDArray[np.intp], index: NDArray[np.intp]) -> set[int]:
    return set(label[index].tolist())


@settings(max_examples=100, deadline=None)
@given(examples(fewest=5), st.integers(2, 5), st.integers(0, 5))
def test_no_patient_is_on_both_sides_and_each_example_is_tested_once(data: Examples, folds: int, seed: int) -> None:
    label, group = data
    splits = patient_folds(label, group, folds, seed)
    assert len(splits) == folds
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(label)))
    for split in splits:
        assert not set(group[split.train]) & set(group[split.test])
        assert sorted([*split.train, *split.test]) == list(range(len(label)))
        assert len(split.test)
    assert all(map(same, splits, patient_folds(label, group, folds, seed)))


@settings(max_examples=100, deadline=None)
@given(examples(pure=True, fewest=5), st.integers(2, 5), st.integers(0, 5))
def test_every_part_has_every_class_whose_patients_suffice(data: Examples, folds: int, seed: int) -> None:
    label, group = data
    held = {k: len(set(group[label == k])) for k in set(label.tolist())}
    splits = patient_folds(label, group, folds, seed)
    for k, patients in held.items():
        assert sum(k in covers(label, split.test) for split in splits) == min(patients, folds)
        for split in splits:
            assert k in covers(label, split.train) or patients == 1
            lacking = k not in covers(label, split.test) or k not in covers(label, split.train)
            assert any(f"class {k} has {patients} patient" in note for note in split.notes) == lacking


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_patients_of_several_classes_are_dealt_as_well_as_can_be(seed: int) -> None:
    """By trying every deal of six patients into two folds."""
    rng = np.random.default_rng(seed)
    holds = rng.random((6, 3)) < 0.4
    holds[:, 0] |= ~holds.any(1)
    group, label = np.nonzero(holds)
    found = sum(len(covers(label, split.test)) for split in patient_folds(label, group, 2))
    best = max(
        sum(len(set(label[side[group] == part].tolist())) for part in (0, 1))
        for side in map(np.array, product((0, 1), repeat=6))
    )
    assert found >= best - 1  # exchanging pairs finds nearly always the best


def test_five_folds_of_the_breakhis_patients(shared_data: Path) -> None:
    dataset = load_dataset("breakhis", shared_data / "breakhis-100x")
    for seed in range(5):
        for split in patient_folds(dataset.labels, dataset.patients, 5, seed):
            benign = dataset.labels[split.test] == 0
            assert len(set(dataset.patients[split.test][benign])) == 1
            assert len(set(dataset.patients[split.test][~benign])) in (2, 3)
            assert 25 <= (~benign).sum() <= 41  # of 164
            assert covers(dataset.labels, split.train) == {0, 1}
            assert not split.optimistic
            assert not split.notes


def test_folds_are_balanced_and_another_seed_deals_otherwise() -> None:
    rng = np.random.default_rng(0)
    for patients in (60, 600):  # exchanged, and only dealt
        group = np.concatenate([np.arange(patients), rng.integers(patients, size=10 * patients)])
        label = group % 3
        splits = patient_folds(label, group, 5)
        counts = np.array([np.bincount(label[split.test]) for split in splits])
        assert np.ptp(counts / counts.sum(0), axis=0).max() < 0.02
        assert not same(splits[0], patient_folds(label, group, 5, seed=1)[0])


def test_names_are_kept_and_too_few_patients_are_said() -> None:
    splits = patient_folds([0, 0, 1, 1], ["ann", "bob", "cy", "cy"], 2, class_names=("benign", "malignant"))
    assert {note for split in splits for note in split.notes} == {
        "malignant has 1 patient: none of it in the test part",
        "malignant has 1 patient: none of it in the training part",
    }
    with pytest.raises(DatasetError, match="3 folds need at least 3 patients, found 2; ask for fewer folds"):
        patient_folds([0, 1, 1], ["a", "b", "b"], 3)


@settings(max_examples=60, deadline=None)
@given(examples(fewest=5), st.integers(2, 5), st.integers(0, 5))
def test_image_folds_are_even_and_say_what_they_are(data: Examples, folds: int, seed: int) -> None:
    label, _ = data
    splits = image_folds(label, folds, seed)
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(label)))
    counts = np.array([np.bincount(label[split.test], minlength=4) for split in splits])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(1)) <= 1
    for split in splits:
        assert not set(split.train) & set(split.test)
        assert split.optimistic
        assert split.notes == (IMAGE_PROTOCOL_WARNING,)
    assert all(map(same, splits, image_folds(label, folds, seed)))


@settings(max_examples=100, deadline=None)
@given(examples(pure=True), st.floats(0.05, 0.5), st.integers(0, 5))
def test_holdout_keeps_patients_and_classes(data: Examples, fraction: float, seed: int) -> None:
    label, group = data
    split = holdout(label, group, fraction, seed)
    assert not set(group[split.train]) & set(group[split.test])
    assert sorted([*split.train, *split.test]) == list(range(len(label)))
    for k in set(label.tolist()):
        assert k in covers(label, split.train)
        assert (k in covers(label, split.test)) == (len(set(group[label == k])) > 1)
    assert same(split, holdout(label, group, fraction, seed))


def test_holdout_of_a_hundred_patients_is_near_its_fraction() -> None:
    group = np.repeat(np.arange(100), 7)
    split = holdout(group % 2, group, 0.2)
    assert len(split.test) == 140
    assert np.bincount(split.test % 2).tolist() == [70, 70]


def squares(corners: list[tuple[int, int]], side: int) -> tuple[NDArray[np.intp], ...]:
    """Rows, columns and region of the tiles of square regions."""
    tiles = [(r + i, c + j, n) for n, (r, c) in enumerate(corners) for i in range(side) for j in range(side)]
    return tuple(np.array(part) for part in zip(*tiles, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_a_gap_lies_between_the_regions_of_the_two_sides(regions: int, classes: int, gap: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns, region = squares(list(map(tuple, rng.integers(-20, 40, (regions, 2)))), side=int(rng.integers(1, 5)))
    label = rng.integers(classes, size=regions)[region]
    split = region_split(rows, columns, region, label, gap, seed)
    assert split.optimistic
    assert split.notes[0] == SAME_SLIDE
    assert sorted([*split.train, *split.test, *split.dropped]) == list(range(len(rows)))
    assert not set(region[split.train]) & set(region[split.test])
    assert covers(label, split.train) == set(label.tolist())
    at = np.column_stack([rows, columns])
    if len(split.test):
        near = np.abs(at[:, None] - at[None, split.test]).max(2).min(1)
        assert (near[split.train] > gap).all()
        assert (near[split.dropped] <= gap).all()
    else:
        assert not len(split.dropped)
    for k in set(label.tolist()):
        if k not in covers(label, split.test):
            assert any(note.startswith(f"class {k} has ") for note in split.notes)
    assert same(split, region_split(rows, columns, region, label, gap, seed))


def test_a_class_with_one_region_is_not_validated() -> None:
    rows, columns, region = squares([(0, 0), (0, 10), (0, 20)], side=3)
    label = np.array([0, 1, 1])[region]
    split = region_split(rows, columns, region, label, class_names=("benign", "malignant"))
    assert covers(label, split.test) == {1}
    assert not len(split.dropped)
    assert split.notes == (
        SAME_SLIDE,
        "benign has 1 region: none of it in the test part; "
        "draw another region of it, away from the others, to validate it",
    )


def test_regions_that_touch_lose_a_row_of_tiles_or_are_not_validated() -> None:
    rows, columns, region = squares([(0, 0), (0, 4), (20, 0), (20, 4)], side=4)
    label = np.array([0, 0, 1, 1])[region]
    split = region_split(rows, columns, region, label)
    assert len(split.test) == 32
    assert len(split.dropped) == 8
    thin = region_split(rows, columns, region, label, gap=4)
    assert not len(thin.test)
    assert len(thin.train) == 64
    assert len(thin.notes) == 3


def test_regions_are_chosen_so_that_few_tiles_are_dropped() -> None:
    corners = [(0, 0), (0, 4), (0, 40), (30, 0), (30, 20)]  # the first two touch
    rows, columns, region = squares(corners, side=4)
    split = region_split(rows, columns, region, np.array([0, 0, 0, 1, 1])[region])
    assert not len(split.dropped)


@pytest.mark.parametrize(
    "call",
    [
        lambda: patient_folds([], []),
        lambda: patient_folds([0, 1], [0]),
        lambda: patient_folds([0, 1], [0, 1], 1),
        lambda: image_folds([0, 1], 1),
        lambda: holdout([0, 1], [0, 1], 0),
        lambda: region_split([0], [0], [0], [0], gap=-1),
    ],
)
def test_wrong_arguments(call) -> None:
    with pytest.raises(ValueError, match="must"):
        call()


def test_image_folds_need_an_image_each() -> None:
    with pytest.raises(DatasetError, match="5 folds need at least 5 images, found 2"):
        image_folds([0, 1])
