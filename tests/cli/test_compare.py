from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import pytest

from tests.noise import noise_folders

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = ("--tile", 32, "--epochs", 1, "--batch-size", 4, "--no-imagenet", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of coloured noise, two patients each, two photographs of each."""
    return noise_folders(tmp_path_factory.mktemp("photographs") / "noise", 2, 2, (40, 40))


def test_compare_takes_over_what_train_has_done(run, photographs: Path, tmp_path: Path) -> None:
    data = ("--dataset", "folder", "--root", photographs, "--folds", 2, "--fold", 1, *RECIPE)
    out = tmp_path / "out"
    code, _, err = run("train", *data, "--model", "resnet50", "--out", out / "resnet50" / "fold-1")
    assert code == 0, err
    code, printed, err = run("compare", *data, "--models", "resnet50, densenet121,resnet50", "--out", out)
    assert code == 0, err
    assert "resnet50, fold 1: finished already" in printed
    assert "densenet121, fold 1: training" in printed
    assert "epoch 1/1" in printed
    assert "GMean" in printed
    assert (out / "compare.md").is_file()
    stored = json.loads((out / "compare.json").read_text())
    assert [entry["model"] for entry in stored["models"]] == ["resnet50", "densenet121"]
    assert str(photographs.parent) not in json.dumps(stored)
    assert "--models 'resnet50, densenet121,resnet50'" in stored["command"]

    code, printed, err = run("compare", *data, "--models", "resnet50,seresnet50", "--finished", "--out", out)
    assert code == 0, err
    assert "not compared: seresnet50" in " ".join(printed.split())
    assert not (out / "seresnet50").exists()

    code, _, err = run("compare", *data, "--models", "resnet50", "--lr", 0.1, "--out", out)
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "settings (lr)" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--models", ","), "at least one name"),
        (("--models", "resnet51"), "there is no network of this name"),
        (("--fold", 3), "there are 2 folds"),
        (("--protocol", "slide"), "choose patient or image"),
        (("--tile", 100), "multiple of 32"),
        ((), "--mpp"),
    ],
)
def test_what_cannot_be_compared_is_one_line(run, photographs: Path, tmp_path: Path, options, expected: str) -> None:
    data = ("--dataset", "folder", "--root", photographs, "--folds", 2)
    code, _, err = run("compare", *data, "--out", tmp_path / "out", *options)
    assert code == 2
    assert expected in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_the_cost_alone_needs_no_training(run, photographs: Path, tmp_path: Path) -> None:
    data = ("--dataset", "folder", "--root", photographs, "--folds", 2, "--tile", 32)
    code, printed, err = run("compare", *data, "--models", "densenet121", "--cost-only", "--out", tmp_path)
    assert code == 0, err
    assert "Cost on cpu at 32 px" in printed
    assert {path.name for path in tmp_path.iterdir()} >= {"costs.json", "costs.csv", "costs.md"}
    assert not (tmp_path / "densenet121").exists()


@pytest.mark.parametrize("command", ["train", "compare", "evaluate", "reproduce"])
def test_the_help_lists_every_network(run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    from napari_dala.training.settings import Network

    code, printed, _ = run(command, "--help")
    assert code == 0
    words = printed.replace("│", " ").split()
    assert set(get_args(Network)) <= {word.strip(",.") for word in words}
