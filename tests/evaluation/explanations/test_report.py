from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_dala.evaluation.explanations.localisation import Heat, Localisation
from napari_dala.evaluation.explanations.maps import THRESHOLDS
from napari_dala.evaluation.explanations.photographs import MEASURES, PhotographFigures
from napari_dala.evaluation.explanations.report import heat_verdicts, verdicts
from napari_dala.metrics.scores import Estimate, mean_estimates

SAME = Estimate(0.0, -0.1, 0.1)
FOUND = Localisation("m.tiff", "malignant", "DT otsu by slide", 9, 0.5, 0.7, 0.8, 0.6, 0.2)


@pytest.mark.parametrize(
    ("measure", "difference", "expected"),
    [
        ("insertion", Estimate(0.2, 0.1, 0.3), "better: DT otsu by slide"),
        ("insertion", Estimate(-0.2, -0.3, -0.1), "worse: DT otsu by slide"),
        ("deletion", Estimate(0.2, 0.1, 0.3), "worse: DT otsu by slide"),
        ("drop", Estimate(-0.2, -0.3, -0.1), "better: DT otsu by slide"),
        ("road", Estimate(0.2, None, None), "no difference beyond the interval"),
    ],
)
def test_who_wins_depends_on_the_measure(measure: str, difference: Estimate, expected: str) -> None:
    differences = {name: dict.fromkeys(MEASURES, SAME) for name in THRESHOLDS}
    differences["DT otsu by slide"][measure] = difference
    lines = verdicts(PhotographFigures((), {}, differences, {}, {}, True, ()))
    assert [line for line in lines if line.startswith(measure)] == [f"{measure}, DT against plain Grad-CAM: {expected}"]


def test_all_that_win_are_not_listed_one_by_one() -> None:
    better = dict.fromkeys(MEASURES, Estimate(0.2, 0.1, 0.3))
    lines = verdicts(PhotographFigures((), {}, dict.fromkeys(THRESHOLDS, better), {}, {}, True, ()))
    assert lines[0] == "insertion, DT against plain Grad-CAM: better: all"


@pytest.mark.parametrize(
    ("heat", "expected"),
    [(Heat(0.8, 0.7), "DT otsu by slide"), (Heat(0.79, 0.1), "no DT"), (Heat(0.9, 0.71), "no DT"), (None, "no DT")],
)
def test_what_was_asked_of_dt(heat: Heat | None, expected: str) -> None:
    (line,) = heat_verdicts([replace(FOUND, mixed=heat, cut=Heat(1, 1))])
    assert f"is kept by {expected}; by plain Grad-CAM cut to the area of no DT" in line


def test_the_interval_of_a_mean_draws_whole_patients() -> None:
    values, patient = np.repeat([0.0, 1.0, 0.0, 1.0], 25), np.repeat(np.arange(4), 25)
    by_patient, constant = mean_estimates(np.stack([values, 0 * values + 2], 1), patient)
    (by_image,) = mean_estimates(values[:, None], np.arange(100))
    assert by_patient.value == by_image.value == 0.5
    assert (by_patient.low, by_patient.high) == (0, 1)
    assert by_image.low == pytest.approx(0.4, abs=0.02)
    assert (constant.value, constant.low, constant.high) == (2, None, None)
