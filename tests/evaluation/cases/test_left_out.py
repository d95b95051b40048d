from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_dala.datasets.folders import load_dataset
from napari_dala.errors import DatasetError
from napari_dala.evaluation.cases.left_out import judge_left_out
from napari_dala.metrics.anonymous import patient_key
from napari_dala.model.bundle import load_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.evaluation.cases.left_out import LeftOut


def test_each_photograph_is_judged_by_the_model_that_never_saw_its_patient(left_out: LeftOut) -> None:
    assert len(left_out) == 16
    for place in range(len(left_out)):
        known = left_out.predictors[left_out.judge[place]].bundle.card.training["patients_trained"]
        assert left_out.patient_key(place) not in known
        assert left_out.patient_key(place) == patient_key(left_out.image(place).path.parent.name)
    assert set(left_out.judge.tolist()) == {0, 1}
    assert left_out.probability.sum(1) == pytest.approx(1, abs=1e-5)


def test_a_map_is_of_the_called_class_and_of_its_slides_threshold(left_out: LeftOut) -> None:
    found = left_out.map_of(3)
    other = left_out.map_of(2)  # the other photograph of the same patient is another slide here: a folder's own image
    assert np.array_equal(found.raw, left_out.cams[3][left_out.called[3]])
    assert found.mask.shape == (2, 2)
    assert found.kept_fraction == found.mask.mean()
    assert other.raw.shape == found.raw.shape


def test_photographs_of_one_slide_have_one_threshold(noise_photographs: Path, fold_models, tmp_path: Path) -> None:
    for name in ("benign", "malignant"):
        for number in range(2):
            source = noise_photographs / name / f"{name}-2" / f"{number}.png"
            target = tmp_path / "set" / name / f"{name}-2" / "slide" / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    dataset = load_dataset("folder", tmp_path / "set")
    found = judge_left_out([load_bundle(fold_models[0])], dataset, device="cpu", precision="fp32")
    first, second = found.map_of(0), found.map_of(1)
    assert first.threshold == second.threshold
    assert max(first.scaled.max(), second.scaled.max()) == pytest.approx(1)


def test_the_probability_is_asked_of_the_same_model_and_class(left_out: LeftOut) -> None:
    for place in (0, 15):
        again = left_out.probability_of(place)(left_out.tile(place)[None])
        assert again[0] == pytest.approx(left_out.probability[place, left_out.called[place]], abs=1e-5)


def test_who_was_trained_on_everybody_cannot_judge(noise_photographs: Path, fold_models) -> None:
    dataset = load_dataset("folder", noise_photographs)
    bundle = load_bundle(fold_models[0])
    everybody = {"patients_trained": [patient_key(image.identity) for image in dataset.images]}
    for training, expected in ((everybody, "trained on all of these"), ({}, "does not name the patients")):
        bundle.card = bundle.card.model_copy(update={"training": training})
        with pytest.raises(DatasetError, match=rf"fold 1 \(model 1 of 1\): .*{expected}"):
            judge_left_out([bundle], dataset, device="cpu")


def test_patients_that_every_model_knows_are_left_out_and_counted(noise_photographs: Path, fold_models) -> None:
    found = judge_left_out(
        [load_bundle(fold_models[0])], load_dataset("folder", noise_photographs), device="cpu", precision="fp32"
    )
    assert len(found) == 8
    assert "8 photographs are of patients that every model was trained on" in found.notes
