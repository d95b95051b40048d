from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from napari_dala.model.catalog import find_card

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def photographs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real photograph of each of eight patients, four benign and four malignant."""
    root = tmp_path_factory.mktemp("breakhis")
    chosen: dict[str, list[str]] = {"B": [], "M": []}
    for path in sorted((shared_data / "breakhis-100x").rglob("SOB_*.*")):
        patient = "".join(letter for letter in path.stem.split("-")[2] if letter.isdigit())
        patients = chosen[path.name[4]]
        if patient not in patients and len(patients) < 4:
            patients.append(patient)
            shutil.copy(path, root)
    return root


def test_train_then_evaluate(run, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    data = ("--dataset", "breakhis", "--root", photographs, "--magnification", 100)
    small = ("--tile", 64, "--epochs", 1, "--batch-size", 4, "--no-imagenet", "--accelerator", "cpu")
    code, printed, err = run("train", *data, *small, "--folds", 4, "--fold", 2, "--out", out)
    assert code == 0, err
    assert "epoch 1/1" in printed
    assert "GMean" in printed
    assert "from scratch" in err
    assert "Traceback" not in err
    card = json.loads((out / "result.json").read_text())
    assert str(photographs.parent) not in card["command"]
    assert "--fold 2" in card["command"]

    figures = tmp_path / "figures.json"
    code, printed, err = run("evaluate", out / "bundle.safetensors", *data, "--device", "cpu", "--out", figures)
    assert code == 0, err
    found = json.loads(figures.read_text())
    assert (found["n"], found["n_patients"]) == (8, 8)
    assert "trained on 6 of these 8 patients" in " ".join(printed.split())

    code, _, err = run("train", *data, *small, "--out", out)
    assert code == 2
    assert "--resume" in err


def test_two_laboratories_in_one_training(run, photographs: Path, shared_data: Path, tmp_path: Path) -> None:
    for path in sorted((shared_data / "ucsb-breast").rglob("ytma10_*1_ccd.jpg")):
        shutil.copy(path, tmp_path)
    data = ("--dataset", "breakhis", "--root", photographs, "--dataset", "ucsb", "--root", tmp_path)
    small = ("--tile", 64, "--epochs", 1, "--batch-size", 4, "--no-imagenet", "--accelerator", "cpu")
    out = tmp_path / "run"
    code, printed, err = run("train", *data, "--magnification", 100, *small, "--model-mpp", 1.3, "--all", "--out", out)
    assert code == 0, err
    assert "breakhis-100x+ucsb: 10 images (benign 5 of 5 patients, malignant 5 of 5 patients)" in " ".join(
        printed.split()
    )
    code, printed, err = run("evaluate", out / "bundle.safetensors", *data, "--device", "cpu")
    assert code == 0, err
    assert "by data set" in printed
    assert find_card(out / "bundle.safetensors").mpp == 1.3


def test_the_image_protocol_warns_and_no_fold_says_so(run, photographs: Path, tmp_path: Path) -> None:
    data = ("--dataset", "breakhis", "--root", photographs, "--no-imagenet")
    code, _, err = run("train", *data, "--protocol", "image", "--model", "none", "--out", tmp_path / "a")
    assert (code, "none: there is no network" in err) == (2, True)
    code, _, err = run("train", *data, "--model", "none", "--out", tmp_path / "b")
    assert "2 of 8 patients are held out" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--protocol", "slide"), "choose patient or image"),
        (("--fold", 6), "there are 5 folds"),
        (("--tile", 100), "multiple of 32"),
        (("--balance", "luck"), "balance"),
        (("--mpp", 0.5), "leave --mpp out"),
        (("--dataset", "ucsb"), "--dataset is there 2 times and --root 1 times"),
        (("--group", "array"), "breakhis cannot be grouped by array; there are ucsb by file or array"),
        (("--model-mpp", 3.0, "--fold", 1, "--folds", 4), "less than half a tile"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, photographs: Path, tmp_path: Path, options, expected: str) -> None:
    code, _, err = run("train", "--dataset", "breakhis", "--root", photographs, "--out", tmp_path / "run", *options)
    assert code == 2
    assert expected in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()
