from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from tests.noise import noise_folders

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = ("--tile", 32, "--epochs", 1, "--batch-size", 4, "--no-imagenet", "--accelerator", "cpu")
MODELS = ("dalaresnet50", "dalaresnet50-no-attention")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of coloured noise, four patients each, two photographs of each."""
    return noise_folders(tmp_path_factory.mktemp("photographs") / "noise", 4, 2, (40, 40))


def test_both_networks_are_trained_under_every_ratio_and_compared(run, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = ("--dataset", "folder", "--root", photographs, "--mpp", 0.5, "--folds", 2, "--fold", 1, *RECIPE)
    asked = ("attention-train", *data, "--ratios", 3, "--out", out)
    code, printed, err = run(*asked, "--seeds", 1)
    assert code == 0, err
    assert printed.count(": training") == 4
    assert "1:3, malignant rare, dalaresnet50, seed 0, fold 1: training" in printed
    assert not list(out.rglob("*.safetensors"))

    (gone := out / "1-3-malignant-rare" / "seed-0" / MODELS[1] / "fold-1" / "result.json").unlink()
    code, printed, err = run(*asked, "--seeds", 1, "--keep-weights")
    assert code == 0, err
    assert printed.count("resuming an interrupted run") == 1  # the others are taken as they are
    assert ": training" not in printed
    assert gone.exists()
    assert len(list(out.rglob("*.safetensors"))) == 1

    stored = json.loads((out / "imbalance.json").read_text())
    assert [ratio["ratio"] for ratio in stored["ratios"]] == ["1:3, malignant rare", "1:3, benign rare"]
    counts = [ratio["photographs"] for ratio in stored["ratios"]]
    assert [row["malignant"] for row in counts] == [1, 4]
    assert {row["benign"] + row["malignant"] for row in counts} == {5}
    assert stored["held_out"] == {"photographs": 8, "patients": 4}
    for ratio in stored["ratios"]:
        for name in ("recall benign", "recall malignant", "gmean", "auroc"):
            one, other = (ratio["models"][model][name]["value"] for model in MODELS)
            assert ratio["difference"][name]["value"] == pytest.approx(one - other)
            assert ratio["difference_by_seed"][0][name] == pytest.approx(one - other)
    assert str(photographs.parent) not in json.dumps(stored)
    with (out / "imbalance.csv").open() as file:
        assert [row["network"] for row in csv.DictReader(file)] == [*MODELS, "difference"] * 2
    page = (out / "imbalance.html").read_text()
    assert "1:3, benign rare" in page
    assert "data:image/png" in page
    assert "src='http" not in page

    code, _, err = run(*asked, "--seeds", 1, "--lr", 0.1)
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "settings (lr)" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--ratios", "few"), "--ratios few"),
        (("--ratios", "0,3"), "whole numbers from 1 on"),
        (("--ratios", "1,10"), "ask for smaller ratios"),
        (("--fold", 3), "there are 2 folds"),
    ],
)
def test_what_cannot_be_trained_is_one_line(run, photographs: Path, tmp_path: Path, options, expected: str) -> None:
    data = ("--dataset", "folder", "--root", photographs, "--mpp", 0.5, "--folds", 2)
    code, _, err = run("attention-train", *data, "--out", tmp_path / "out", *options)
    assert code == 2
    assert expected in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()
