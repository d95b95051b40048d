from __future__ import annotations

import numpy as np
import pytest

from napari_dala.datasets.splits import patient_folds
from napari_dala.errors import DatasetError
from napari_dala.evaluation.attention.imbalance import class_ratios, with_ratios

PATIENTS = np.arange(300) // 10
LABELS = (PATIENTS % 5 > 1).astype(np.intp)  # 120 benign, 180 malignant
SPLITS = dict(enumerate(patient_folds(LABELS, PATIENTS, 3), start=1))


def test_ratios_differ_in_nothing_but_the_ratio() -> None:
    ratios = class_ratios([10, 1, 3])
    assert [(ratio.times, ratio.rare) for ratio in ratios] == [(1, 0), (3, 1), (3, 0), (10, 1), (10, 0)]
    drawn = with_ratios(SPLITS, LABELS, ratios, 0)
    for fold, split in SPLITS.items():
        by_ratio = {ratio.title(("b", "m")): drawn[ratio][fold] for ratio in ratios}
        assert {len(one.train) for one in by_ratio.values()} == {88}  # 80 of a class and 8 of the other
        for name, expected in {"1:1": 44, "1:3, m rare": 22, "1:10, m rare": 8, "1:10, b rare": 80}.items():
            assert (LABELS[by_ratio[name].train] == 1).sum() == expected
        for one in by_ratio.values():
            np.testing.assert_array_equal(one.test, split.test)
            np.testing.assert_array_equal(np.sort(np.concatenate([one.train, one.dropped])), split.train)
        malignant = [
            set(by_ratio[f"1:{n}, m rare"].train[LABELS[by_ratio[f"1:{n}, m rare"].train] == 1]) for n in (3, 10)
        ]
        assert malignant[1] < malignant[0]  # the fewer are among the more
    again, other = with_ratios(SPLITS, LABELS, ratios, 0), with_ratios(SPLITS, LABELS, ratios, 1)
    np.testing.assert_array_equal(again[ratios[0]][1].train, drawn[ratios[0]][1].train)
    assert set(other[ratios[0]][1].train) != set(drawn[ratios[0]][1].train)


@pytest.mark.parametrize("times", [[], [0], [-3, 1]])
def test_a_ratio_is_one_or_more(times: list[int]) -> None:
    with pytest.raises(DatasetError, match="from 1 on"):
        class_ratios(times)


def test_a_ratio_that_the_photographs_do_not_have_is_said() -> None:
    with pytest.raises(DatasetError, match="1:100 needs 100 training photographs of each class, a fold has 80"):
        with_ratios(SPLITS, LABELS, class_ratios([100]), 0)
