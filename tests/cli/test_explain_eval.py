from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from napari_dala.evaluation.explanations import photographs as explain_photographs
from napari_dala.evaluation.explanations.maps import THRESHOLDS
from napari_dala.model.bundle import untrained
from napari_dala.slide.teaching.slide import teaching_slide
from tests.noise import noise_folders

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["Grad-CAM", *THRESHOLDS, "Grad-CAM++", "EigenCAM", "random"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network for tiles of 64 px."""
    bundle = untrained()
    bundle.card = bundle.card.model_copy(update={"tile_px": 64, "name": "small"})
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    bundle.save(path)
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of coloured noise, two patients each, two photographs of each."""
    return noise_folders(tmp_path_factory.mktemp("photographs") / "noise", 2, 2, (64, 80))


def test_everything_is_measured_and_written(
    run, model: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain_photographs, "RANDOM_NETWORKS", 1)
    drawn = teaching_slide(tmp_path / "drawn.tif", 768, 1)
    out = tmp_path / "out"
    data = ("--dataset", "folder", "--root", photographs, "--folds", 2, "--fold", 1, "--limit", 1)
    code, printed, err = run("explain-eval", "--model", model, *data, "--slide", drawn.path, "--out", out)
    assert code == 0, err
    assert "4 photographs of 2 patients held out" in printed
    assert "photograph 1/1" in printed
    assert "insertion, DT against plain Grad-CAM" in printed
    stored = json.loads((out / "explain-eval.json").read_text())
    assert list(stored["means"]) == METHODS
    assert list(stored["differences"]) == METHODS[1:]
    assert stored["photographs"] == 1
    assert stored["randomised"]["random"]["all"] == pytest.approx(1)
    assert {row["class_name"] for row in stored["slides"]} == {"benign", "malignant"}
    assert [row["method"] for row in stored["slides"][: len(METHODS)]] == METHODS
    assert str(photographs.parent) not in json.dumps(stored)
    for row in stored["slides"]:
        assert 0 <= row["auc"] <= 1
        if row["method"] in THRESHOLDS:
            assert 0 <= row["cut"]["inside"] <= 1
    with (out / "photographs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == METHODS
    kept = {row["method"]: float(row["kept"]) for row in rows}
    assert kept["random"] == 1
    for name in ("explain-eval.csv", "slides.csv", "tiles.csv", "explain-eval.md", "heat-kept.png", "localisation.svg"):
        assert (out / name).stat().st_size, name
    assert "| DT otsu by slide |" in (out / "explain-eval.md").read_text()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "--fold"),  # the card names no patients
        (("--fold", 3), "there are 2 folds"),
        (("--fold", 1, "--slide", "nowhere.tiff"), "no such file"),
    ],
)
def test_what_cannot_be_measured_is_one_line(run, model, photographs: Path, tmp_path: Path, options, expected) -> None:
    data = ("--dataset", "folder", "--root", photographs, "--folds", 2)
    code, _, err = run("explain-eval", "--model", model, *data, "--out", tmp_path / "out", *options)
    assert code == 2
    assert expected in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_a_slide_without_outlines_is_one_line(run, model: Path, photographs: Path, tmp_path: Path) -> None:
    drawn = teaching_slide(tmp_path / "drawn.tif", 512, 1)
    drawn.truth_geojson.unlink()
    data = ("--dataset", "folder", "--root", photographs, "--folds", 2, "--fold", 1, "--no-references")
    code, _, err = run("explain-eval", "--model", model, *data, "--slide", drawn.path, "--out", tmp_path / "out")
    assert code == 2
    assert "drawn.truth.geojson: cannot be read" in err
