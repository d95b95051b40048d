"""The ramps stand out from stained tissue, in order, for every eye, and leave the tissue to be seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from skimage.color import rgb2lab

from napari_dala.results.report.ramps import EOSIN, GRAD_CAM, PROBABILITY
from napari_dala.slide.teaching.slide import teaching_slide

if TYPE_CHECKING:
    from napari_dala.results.report.ramps import Ramp

ROOT = Path(__file__).resolve().parents[3]
STAINS = np.array([(236, 214, 226), (214, 150, 190), (190, 110, 165), (120, 75, 150), (75, 45, 110)]) / 255
"""Pale and strong eosin, muscle, nuclei, dark nuclei."""
RAMPS = pytest.mark.parametrize("ramp", [PROBABILITY, GRAD_CAM], ids=lambda ramp: ramp.name)


@RAMPS
def test_it_goes_from_clear_to_its_strongest_and_nuclei_show_through(ramp: Ramp) -> None:
    assert ramp.colors.shape == (256, 4)
    assert 0 <= ramp.colors.min() <= ramp.colors.max() <= 1
    assert ramp.colors[0, 3] == 0
    assert np.all(np.diff(ramp.colors[:, 3]) >= 0)
    light = rgb2lab(ramp.over(np.ones(5), STAINS))[:, 0]
    assert light[0] - light[3] > 0.3 * np.ptp(rgb2lab(STAINS)[[0, 3], 0]), "the strongest hides the nuclei"


def test_a_low_probability_hides_nothing_and_the_least_that_is_kept_is_seen() -> None:
    assert PROBABILITY.rgba(np.array([0.1]))[0, 3] < 13
    assert GRAD_CAM.rgba(np.array([0.1]))[0, 3] > 30


def test_missing_values_are_clear() -> None:
    rgba = PROBABILITY.rgba(np.array([[np.nan, 0, 1, 7, -3]]))
    assert rgba.dtype == np.uint8
    assert list(rgba[0, :, 3] > 0) == [False, False, True, True, False]


def test_it_stands_out_from_stained_tissue_for_every_eye(tmp_path: Path) -> None:
    slide = teaching_slide(tmp_path / "drawn.tif", 2240).path
    command = [sys.executable, "-m", "benchmarks.contrast", str(slide)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    worst = {name: [int(value) for value in values] for name, eye, *values in rows if eye == "worst"}
    for name, old in (("probability", "before: probability"), ("Grad-CAM", "before: DT Grad-CAM")):
        (before,) = (values for other, values in worst.items() if other.startswith(old))
        assert worst[name][3] > 25, "as tissue of another kind"
        assert worst[name][3] > 1.5 * before[3]
        assert worst[name][-1] > 5, "the steps cannot be told apart"


def test_the_two_are_never_taken_for_each_other() -> None:
    one, other = (rgb2lab(ramp.over(np.ones(5), STAINS)) for ramp in (PROBABILITY, GRAD_CAM))
    yellow_to_blue = one[:, 2] - other[:, 2]  # the axis that every colour-blind eye but the rarest sees
    assert yellow_to_blue.min() > 40


def test_tissue_is_seen_where_there_is_nothing() -> None:
    np.testing.assert_allclose(PROBABILITY.over(np.zeros(1))[0], EOSIN)
