"""The strength at which the last island goes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_dala.model.islands import MOST_STRENGTH, most_strength
from napari_dala.model.threshold import DynamicThreshold

MEASURE = {"cell_um": 16.0, "tile_cells": 7}


def test_the_last_island_large_enough_says_how_strong() -> None:
    cam = np.full((14, 14), 0.01, np.float32)
    cam[2, 2] = 1.0  # alone: too small at 400 um2
    cam[9, 9:11] = 0.8, 0.6
    most = np.percentile(cam, 99.9)  # what the map is over
    for area, value in ((0.0, most), (400.0, 0.6), (600.0, 0.01)):
        rule = DynamicThreshold("max_fraction", min_area_um2=area)
        assert most_strength(rule(cam, **MEASURE), area, **MEASURE) == pytest.approx(value / most / 0.5, abs=0.01)


def test_the_strength_asked_for_does_not_matter() -> None:
    cam = np.random.default_rng(0).random((14, 14)).astype(np.float32)
    found = {
        most_strength(DynamicThreshold(strength=strength)(cam, **MEASURE), 400.0, **MEASURE)
        for strength in (0, 1.0, 5.0)
    }
    assert len(found) == 1


def test_a_flat_map_has_none_and_a_threshold_of_0_no_end() -> None:
    flat = np.ones((7, 7), np.float32)
    assert most_strength(DynamicThreshold()(flat, **MEASURE), 0.0, **MEASURE) == 0
    sparse = np.zeros((7, 7), np.float32)
    sparse[0, 0] = 1
    rule = DynamicThreshold("percentile", min_area_um2=0)
    assert most_strength(rule(sparse, **MEASURE), 0.0, **MEASURE) == MOST_STRENGTH
