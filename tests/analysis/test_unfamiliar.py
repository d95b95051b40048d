"""What the default model must not know, it says that it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from napari_dala.analysis.engine import analyze
from napari_dala.datasets.folders import load_dataset
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import load_model
from napari_dala.results.report.outputs import write_outputs
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def default() -> Predictor:
    return Predictor(load_model("default"))


def unfamiliar(source: Path | object, predictor: Predictor, folder: Path, mpp: float | None = None) -> np.ndarray:
    """Whether each analysed tile is unfamiliar, in reading order."""
    with open_slide(source, mpp=mpp) as slide:
        found = analyze(slide, predictor, folder)
    return found.unfamiliar[found.analysed]


def test_a_slide_that_is_not_breast(shared_data: Path, default: Predictor, tmp_path: Path) -> None:
    with open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        found = analyze(slide, default, tmp_path)
        run = write_outputs(found, slide, tmp_path, {})
    assert found.unfamiliar[found.analysed].mean() >= 0.8
    assert not any("enlarged" in warning for warning in found.warnings)
    # One plain sentence leads the summary and the report.
    assert found.warnings[0].startswith("Most of this slide (")
    assert "do not rely on anything it says here" in found.warnings[0]
    assert run["warnings"][0] == found.warnings[0]
    report = (tmp_path / "report.html").read_text()
    assert report.index("Most of this slide") < report.index("What was found")


@pytest.mark.parametrize("mpp", [0.5, 0.65, 1.0])
def test_another_stain(default: Predictor, tmp_path: Path, mpp: float) -> None:
    assert unfamiliar(immunohistochemistry(), default, tmp_path, mpp).mean() >= 0.8


def test_the_training_photographs_are_familiar(shared_data: Path, default: Predictor, tmp_path: Path) -> None:
    images = load_dataset("breakhis", shared_data / "breakhis-100x", magnification=100).images[::30]
    # The first of a photograph's tiles; half of the others is padding, which is unfamiliar too.
    first = [unfamiliar(image.path, default, tmp_path / image.path.stem, 0.65)[0] for image in images]
    assert np.mean(first) <= 0.1
