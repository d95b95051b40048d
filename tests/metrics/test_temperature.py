from __future__ import annotations

import numpy as np
import pytest

from napari_dala.metrics.temperature import fit_temperature


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3)) * 3
    chance = np.exp(logits / temperature)
    chance /= chance.sum(1, keepdims=True)
    labels = (rng.random((len(logits), 1)) > chance.cumsum(1)).sum(1)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_logits_that_know_nothing() -> None:
    rng = np.random.default_rng(1)
    assert fit_temperature(rng.normal(size=(500, 2)) * 5, rng.integers(0, 2, 500)) > 10
