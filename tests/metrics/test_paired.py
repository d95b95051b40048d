from __future__ import annotations

import numpy as np
import pytest
from imblearn.metrics import geometric_mean_score
from sklearn.metrics import accuracy_score

from napari_dala.metrics.bootstrap import draws
from napari_dala.metrics.paired import paired_differences
from napari_dala.metrics.scores import score

RNG = np.random.default_rng(3)
PATIENT = np.repeat(np.arange(12), 8)
TRUTH = PATIENT % 2
HARD = RNG.normal(scale=1.5, size=12)[PATIENT]  # what makes a patient hard for every model


def model(skill: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=len(TRUTH))
    chance = 1 / (1 + np.exp(-((2 * TRUTH - 1) * skill + HARD + noise)))
    return np.stack([1 - chance, chance], 1)


def test_the_interval_is_that_of_the_same_draws_scored_one_by_one() -> None:
    one, other = model(1.5, 0), model(0.8, 1)
    found = paired_differences(TRUTH, one, other, groups=PATIENT, n_boot=200, seed=5)
    expected = {"accuracy": [], "gmean": []}
    holds = np.stack([np.arange(12) % 2 == 0, np.arange(12) % 2 == 1], 1)
    for weights in draws(holds, 200, np.random.default_rng(5)):
        for row in weights.astype(int):
            drawn = np.repeat(np.arange(len(TRUTH)), row[PATIENT])
            for name, figure in (("accuracy", accuracy_score), ("gmean", geometric_mean_score)):
                pair = [figure(TRUTH[drawn], values[drawn].argmax(1)) for values in (one, other)]
                expected[name].append(pair[0] - pair[1])
    for name, differences in expected.items():
        assert (found[name].low, found[name].high) == pytest.approx(np.quantile(differences, (0.025, 0.975)))
    assert found["accuracy"].value == pytest.approx(
        accuracy_score(TRUTH, one.argmax(1)) - accuracy_score(TRUTH, other.argmax(1))
    )


def test_what_is_hard_for_both_cancels_out() -> None:
    one, other = model(1.0, 0), model(1.0, 1)
    difference = paired_differences(TRUTH, one, other, groups=PATIENT)["accuracy"]
    alone = score(TRUTH, one, groups=PATIENT).scores.accuracy
    assert difference.high - difference.low < 0.6 * (alone.high - alone.low)  # type: ignore[operator]
    assert difference.low < 0 < difference.high  # type: ignore[operator]


def test_a_model_does_not_differ_from_itself() -> None:
    same = paired_differences(TRUTH, model(1, 0), model(1, 0), groups=PATIENT, n_boot=50)
    assert all((value.value, value.low, value.high) == (0, None, None) for value in same.values())
    bare = paired_differences(TRUTH, model(1, 0), model(1, 1), n_boot=0)["gmean"]
    assert (bare.low, bare.high) == (None, None)
