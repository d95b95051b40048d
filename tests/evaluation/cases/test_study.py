from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_dala.evaluation.cases.page import study_cases, write_cases
from napari_dala.evaluation.cases.study import DT, PLAIN, pictures_of, study_case

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.evaluation.cases.left_out import LeftOut


@pytest.fixture(scope="module")
def one(left_out: LeftOut):
    return study_case(left_out, int(np.flatnonzero(~left_out.right)[0]), "failed")


def test_the_numbers_are_those_of_the_maps(one) -> None:
    plain, dt = one.figures[PLAIN], one.figures[DT]
    assert plain.kept == (one.thresholded.raw > 0).mean()
    assert dt.kept == one.thresholded.mask.mean() <= plain.kept
    assert all(0 <= figure <= 1 for figures in (plain, dt) for figure in (figures.insertion, figures.deletion))
    assert one.probability[one.called] == max(one.probability.values())


def test_the_words_say_what_was_measured(one) -> None:
    said = " ".join(one.words())
    assert f"calls it {one.called}, with a probability of {one.probability[one.called]:.2f}" in said
    assert "The model is wrong here." in said
    nothing = replace(one.thresholded, raw=one.thresholded.raw * 0)
    assert "Grad-CAM is empty" in " ".join(replace(one, thresholded=nothing).words())
    kept_nothing = replace(one.thresholded, kept_fraction=0.0)
    assert "DT keeps nothing" in " ".join(replace(one, thresholded=kept_nothing).words())


def test_maps_are_painted_alike_and_outlined_where_asked(one) -> None:
    kept = np.zeros((2, 2), np.float32)
    kept[0, 0] = 1
    thresholded = replace(one.thresholded, raw=kept + 0.5, map=kept, mask=kept > 0)
    tile = np.full((64, 64, 3), 255, np.uint8)
    blind, outlined = (pictures_of(tile, thresholded, outlined=asked) for asked in (False, True))
    assert np.asarray(blind[DT])[-1, -1].tolist() == [255, 255, 255]  # what is not kept is bare
    assert (np.asarray(blind[PLAIN])[-1, -1] < 255).any()
    assert np.array_equal(blind[PLAIN], outlined[PLAIN])
    assert not np.array_equal(blind[DT], outlined[DT])


def test_the_page_needs_nothing_and_names_nobody(left_out: LeftOut, tmp_path: Path) -> None:
    cases = study_cases(left_out, 1)
    page, numbers = write_cases(left_out, cases, "dala explain-cases", tmp_path)
    text = page.read_text()
    assert text.count("<section class='case'>") == len(cases) > 1
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")
    for patient in set(left_out.patients.tolist()):
        assert patient not in text.replace("noise", "")
        assert patient not in numbers.read_text()
    assert "What these pictures do not say" in text
