from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from skimage.io import imsave

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = ("--tile", 32, "--epochs", 1, "--batch-size", 4, "--no-imagenet", "--accelerator", "cpu", "--folds", 2)

# The publishers' own folders and names, a few files of each.
TREES = {
    "breakhis": [
        f"BreaKHis_v1/histology_slides/breast/{label}/SOB/{kind}/SOB_{code}_14-{patient}/{power}X/"
        f"SOB_{code}-14-{patient}-{power}-00{number}.png"
        for label, kind, code, patients in (
            ("benign", "tubular_adenoma", "B_TA", ("4659", "3411G")),
            ("malignant", "ductal_carcinoma", "M_DC", ("2523", "6241")),
        )
        for patient in patients
        for power in (100, 400)
        for number in (1, 2)
    ],
    "bach": [
        f"ICIAR2018_BACH_Challenge/Photos/{label}/{short}00{number}.tif"
        for label, short in (("Benign", "b"), ("InSitu", "is"), ("Invasive", "iv"), ("Normal", "n"))
        for number in (1, 2)
    ],
    "mini-ddsm": [
        f"Data-MoreThanTwoMasks/{label}/{case}/C_{case}_1.{view}.png"
        for label, cases in (("Normal", (29, 30)), ("Benign", (131, 132)), ("Cancer", (1, 2)))
        for case in (f"{number:04}" for number in cases)
        for view in ("LEFT_CC", "RIGHT_MLO")
    ],
}


@pytest.fixture(params=TREES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(kind: str, tmp_path: Path) -> Path:
    """A small tree of a data set's shape, each file another picture; mammograms are grey."""
    rng = np.random.default_rng(0)
    for name in TREES[kind]:
        (path := tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (40, 64) if kind == "mini-ddsm" else (40, 64, 3), np.uint8)
        imsave(path, pixels, check_contrast=False)
    return tmp_path / kind


@pytest.mark.parametrize("kind", ["breakhis"], indirect=True)
def test_both_splits_stand_beside_what_is_published(run, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("reproduce", "--dataset", "breakhis", "--root", root, "--magnification", 100, *RECIPE, "--out", out)
    code, printed, err = run(*command)
    assert code == 0, err
    assert printed.count("dalaresnet50, fold 1: training") == 2
    page = (out / "reproduce.md").read_text()
    assert "| breakhis-100x | dalaresnet50 | published | 0.987 | – | – | – |" in page
    assert "| epochs | 50 | 1 |" in page
    assert "| breakhis-100x: photographs | 2081 | 8 |" in page
    assert "from scratch" in page
    with (out / "reproduce.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["image", "patient"]
    (stored,) = json.loads((out / "reproduce.json").read_text())["data_sets"]
    gap = stored["image_less_patient"]["dalaresnet50"]
    for figure in ("accuracy", "gmean"):
        assert gap[figure]["value"] == pytest.approx(float(rows[0][figure]) - float(rows[1][figure]))
    settings = stored["splits"]["patient"]["settings"]
    assert settings["mpp"] == pytest.approx(0.65 * 40 / 32, abs=1e-3)  # the photograph's shorter side
    runs = {path: path.read_bytes() for path in out.rglob("predictions.csv")}
    assert len(runs) == 4
    assert len(list(out.rglob("bundle.safetensors"))) == 4

    (broken := out / "breakhis-100x" / "patient" / "dalaresnet50" / "fold-2" / "result.json").unlink()
    code, printed, err = run(*command)
    assert code == 0, err
    assert printed.count("finished already") == 3
    assert printed.count("resuming an interrupted run") == 1
    assert broken.is_file()
    assert {path: path.read_bytes() for path in runs if path.parent != broken.parent} == {
        path: content for path, content in runs.items() if path.parent != broken.parent
    }


@pytest.mark.parametrize("kind", ["breakhis"], indirect=True)
def test_each_magnification_that_is_there_is_a_set_of_its_own(run, root: Path, tmp_path: Path) -> None:
    parts = ("--root", root, "--root", root)  # the same photographs in two places count once
    code, printed, err = run("reproduce", "--dataset", "breakhis", *parts, "--folds", 9, "--out", tmp_path / "out")
    assert code == 2
    assert "9 folds need at least 9" in err
    assert [line.split(" (")[0] for line in printed.splitlines()] == [
        "breakhis-100x: 8 images",
        "breakhis-400x: 8 images",
    ]


@pytest.mark.parametrize("kind", ["bach"], indirect=True)
def test_without_patients_there_is_one_split_and_that_is_said(run, root: Path, tmp_path: Path) -> None:
    code, printed, err = run("reproduce", "--dataset", "bach", "--root", root, *RECIPE, "--out", tmp_path / "out")
    assert code == 0, err
    assert "split by patient" not in printed
    page = (tmp_path / "out" / "reproduce.md").read_text()
    assert "bach names no patients: it cannot be split by them" in page
    assert "| bach | dalaresnet50 | published | – |" in page
    assert "image less" not in page


@pytest.mark.parametrize("kind", ["mini-ddsm"], indirect=True)
def test_pictures_without_a_scale_are_trained_on_whole(run, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, err = run("reproduce", "--dataset", "mini-ddsm", "--root", root, *RECIPE, "--out", out)
    assert code == 0, err
    assert len(list(out.rglob("weights.safetensors"))) == 4  # no bundle: that has a scale
    assert "| mini-ddsm | dalaresnet50 | by patient |" in (out / "reproduce.md").read_text()
    result = json.loads(next(out.rglob("result.json")).read_text())
    assert any("a tile is a square of 40 px" in note for note in result["notes"])


@pytest.mark.parametrize("kind", ["bach"], indirect=True)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--dataset", "ucsb"), "no data set of the paper's"),
        (("--dataset", "bach", "--magnification", 100), "only breakhis has magnifications"),
        (("--dataset", "breakhis", "--magnification", 50), "expected BreakHis images"),
        (("--dataset", "bach", "--models", " "), "at least one name"),
        (("--dataset", "bach", "--models", "resnet51"), "there is no network of this name"),
        (("--dataset", "bach", "--models", "resnet50", "--init", "breakhis-ucsb"), "can begin a dalaresnet50 alone"),
        (("--dataset", "bach", "--folds", 9), "9 folds need at least 9 images, found 8"),
        (("--dataset", "bach", "--tile", 100), "multiple of 32"),
    ],
)
def test_what_cannot_be_reproduced_is_one_line(run, root: Path, tmp_path: Path, options, expected: str) -> None:
    code, _, err = run("reproduce", "--root", root, "--out", tmp_path / "out", "--folds", 2, *options)
    assert code == 2
    assert expected in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()
