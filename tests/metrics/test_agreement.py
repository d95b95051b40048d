from __future__ import annotations

import pytest

from napari_dala.metrics.agreement import cohen_kappa, fleiss_kappa

# Fleiss 1971's table as it is commonly given: 10 cases, 14 readers, 5 categories; kappa 0.210.
FLEISS = (
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
)  # fmt: skip


def test_fleiss_kappa_is_that_of_the_known_table() -> None:
    judgements = [[category for category, count in enumerate(row) for _ in range(count)] for row in FLEISS]
    assert fleiss_kappa(judgements, range(5)) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("aabb", "aabb", 1.0),
        ("aabb", "abab", 0.0),
        ("ab", "ba", -1.0),
        (
            "a" * 20 + "a" * 5 + "b" * 10 + "b" * 15,
            "a" * 20 + "b" * 5 + "a" * 10 + "b" * 15,
            0.4,
        ),  # Cohen's textbook case
        ("aaa", "aaa", None),
        ("", "", None),
    ],
)
def test_cohen_kappa(one: str, other: str, expected: float | None) -> None:
    assert cohen_kappa(one, other, "ab") == (None if expected is None else pytest.approx(expected))


def test_ordered_categories_count_by_their_distance() -> None:
    near, far = (
        cohen_kappa([1, 2, 3, 4], other, (1, 2, 3, 4), weights="quadratic") for other in ([2, 2, 3, 4], [4, 2, 3, 1])
    )
    assert near is not None
    assert far is not None
    assert near > 0.8 > 0 > far


def test_fleiss_kappa_of_nothing_and_of_holes() -> None:
    assert fleiss_kappa([], "ab") is None
    assert fleiss_kappa(["aa", "aa"], "ab") is None
    assert fleiss_kappa(["aa", "bb"], "ab") == pytest.approx(1)
    with pytest.raises(ValueError, match="as many judgements"):
        fleiss_kappa(["aab", "ab"], "ab")
