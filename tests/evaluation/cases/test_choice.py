"""The rules by which cases are chosen, on tables of probabilities."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_dala.evaluation.cases.choice import chosen_cases, drawn_cases


def judged(rows: list[tuple[str, int, float]]) -> Any:
    """What `chosen_cases` looks at, of (patient, class, probability of class 1), called at 0.5."""
    patients, labels, malignant = (np.array(column) for column in zip(*rows, strict=True))
    own = np.where(labels == 1, malignant, 1 - malignant)
    right = (malignant >= 0.5) == (labels == 1)
    return SimpleNamespace(
        patients=patients,
        labels=labels,
        own_probability=own,
        right=right,
        dataset=SimpleNamespace(classes=("benign", "malignant")),
    )


MALIGNANT = [("a", 1, 0.99), ("a", 1, 0.98), ("b", 1, 0.8), ("c", 1, 0.6), ("d", 1, 0.1), ("e", 1, 0.3), ("f", 0, 0.9)]


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (1, {"best": [0], "typical": [2], "failed": [4]}),
        (2, {"best": [0, 3], "typical": [2], "failed": [4, 5]}),  # the second of patient a is not taken
    ],
)
def test_best_typical_and_failed_are_of_different_patients(each: int, expected: dict[str, list[int]]) -> None:
    assert chosen_cases(judged(MALIGNANT), 1, each) == expected


def test_a_class_that_is_never_called_rightly_has_failed_cases_only() -> None:
    assert chosen_cases(judged(MALIGNANT), 0, 2) == {"best": [], "typical": [], "failed": [6]}


def test_drawn_cases_take_classes_and_patients_alike() -> None:
    rows = [(f"p{number % 3}", 0, 0.5) for number in range(30)] + [(f"m{number}", 1, 0.5) for number in range(3)]
    found = judged(rows)
    drawn = drawn_cases(found, 6, np.random.default_rng(1))
    assert sorted(found.labels[drawn].tolist()) == [0, 0, 0, 1, 1, 1]
    assert len(set(found.patients[drawn].tolist())) == 6
    assert len(set(drawn_cases(found, 100, np.random.default_rng(1)))) == 33  # there are no more
    assert drawn == drawn_cases(found, 6, np.random.default_rng(1))
    assert drawn != drawn_cases(found, 6, np.random.default_rng(2))
