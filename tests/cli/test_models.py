"""`dala models import` and `fetch`, and learning on what they bring."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torchvision.models import resnet18, resnet50

from napari_dala.model.bundle import load_bundle, untrained
from napari_dala.model.card import TRUNK_ONLY_WARNING, read_card
from napari_dala.model.fetch import PUBLISHED, PublishedWeights
from napari_dala.workspace import models_folder
from tests.model.test_fetch import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Lesson

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def moco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = resnet50().state_dict()
    names = {f"module.encoder_{one}.{name}": tensor for one in "qk" for name, tensor in state.items()}
    path = tmp_path_factory.mktemp("weights") / "mocov2_rn50_ep200.torch"
    torch.save({"state_dict": names}, path)
    return path


def test_a_trunk_says_what_was_taken_and_that_it_must_learn(run: Run, moco: Path) -> None:
    code, printed, err = run("models", "import", moco, "--mpp", 0.5, "--name", "trunk")
    assert (code, printed.strip()) == (0, str(models_folder() / "trunk.safetensors"))
    said = " ".join(err.split())
    assert "Pixels are normalised as preset lunit." in said, "by the file's name"
    assert "Taken: state_dict.module.encoder_q. Left out: state_dict.module.encoder_k, fc." in said
    assert f"Model “trunk” is {TRUNK_ONLY_WARNING}" in said
    code, printed, _ = run("models", "list")
    assert "trunk only" in printed
    card = read_card(models_folder() / "trunk.safetensors")
    assert card.mean == (0.70322989, 0.53606487, 0.66096631)
    code, _, err = run(
        "models", "import", moco, "--mpp", 0.5, "--name", "other", "--prefix", "encoder_k", "--preset", "imagenet"
    )
    assert code == 0, err
    assert "Taken: state_dict.module.encoder_k." in " ".join(err.split())
    assert read_card(models_folder() / "other.safetensors").mean == (0.485, 0.456, 0.406)


def test_what_cannot_be_imported_is_one_line(run: Run, moco: Path, tmp_path: Path) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "net.pth")
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    for file, options, reason in (
        (tmp_path / "net.pth", (), "net.pth: it holds a ResNet-18; a ResNet-50 is what can be imported"),
        (tmp_path / "model.h5", (), "model.h5: this is an HDF5 file, as Keras writes"),
        (moco, ("--preset", "uni"), "preset: there is no preset uni; presets: imagenet, lunit"),
        (moco, ("--prefix", "teacher"), "it holds no ResNet-50 under teacher; choose one with --prefix"),
        (moco, ("--classes", "benign,"), "name must not be empty"),
        (moco, ("--tile-px", 100), "tile_px"),
        (moco, ("--mean", "0.5,0.5,0.5"), "mean and std belong together"),
    ):
        code, printed, err = run("models", "import", file, "--mpp", 0.5, *options)
        assert (code, printed, err.count("\n")) == (2, "", 1), err
        assert reason in err
    assert not models_folder().exists()


@pytest.mark.parametrize("option", [("--mpp", 2.0), ("--classes", "a,b"), ("--trunk", "uni"), ("--preset", "lunit")])
def test_a_bundle_says_itself_what_the_options_are_for(run: Run, tmp_path: Path, option: tuple[str, object]) -> None:
    untrained().save(tmp_path / "whole.safetensors")
    code, _, err = run("models", "import", tmp_path / "whole.safetensors", *option)
    assert (code, err.count("\n")) == (2, 1)
    assert "it has a model card, which says all of this" in err
    assert not models_folder().exists()


def test_what_is_wrong_is_said_before_the_download(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving(content=b"weights") as (url, asked):
        there = PublishedWeights(url, hashlib.sha256(b"weights").hexdigest(), 7, "A file of this test.")
        monkeypatch.setitem(PUBLISHED, "imagenet-resnet50", there)
        for options in (("--name", "untrained"), ("--tile-px", 100)):
            assert run("models", "fetch", "imagenet-resnet50", *options)[0] == 2
        assert asked == []


def test_fetched_weights_are_imported(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(resnet50().state_dict(), tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving(content=content) as (url, asked):
        there = PublishedWeights(url, hashlib.sha256(content).hexdigest(), len(content), "A file of this test.")
        monkeypatch.setitem(PUBLISHED, "imagenet-resnet50", there)
        code, printed, err = run("models", "fetch", "imagenet-resnet50", "--classes", "tumour, stroma, fat")
        assert (code, asked) == (0, [""]), err
        assert printed.strip() == str(models_folder() / "imagenet-resnet50.safetensors")
        assert "without internet: download" in " ".join(err.split())
        card = load_bundle(printed.strip()).card
        assert (card.mpp, card.class_names, card.trunk_only) == (0.5, ("tumour", "stroma", "fat"), True)
        code, _, err = run("models", "fetch", "imagenet-resnet50", "--name", "again", "--mpp", 0.25)
        assert (code, asked) == (0, [""]), "the file was there"
    code, _, err = run("models", "fetch", "resnet50")
    assert (code, err.count("\n")) == (2, 1)
    assert "there is nothing of this name to fetch; there is: imagenet-resnet50" in err


def test_a_trunk_learns_and_its_random_head_has_no_figures(
    run: Run, moco: Path, lesson: Lesson, tmp_path: Path
) -> None:
    assert run("models", "import", moco, "--mpp", 0.5, "--tile-px", 64, "--name", "trunk")[0] == 0
    drawn = ("--annotations", lesson.annotations, "--model", "trunk", "--device", "cpu", "--precision", "fp32")
    code, printed, err = run("finetune", lesson.slide, *drawn, "--epochs", 2, "--threads", 1, "--out", tmp_path / "job")
    assert code == 0, err
    result: dict[str, Any] = json.loads((tmp_path / "job" / "result" / "result.json").read_text())
    assert (result["before"], result["verdict"]) == (None, None)
    assert result["after"]["n"] > 0
    assert "the model before was a trunk alone, its head random" in " ".join(result["notes"])
    assert "GMean" in printed
    child = read_card(tmp_path / "job" / "result" / "bundle.safetensors")
    assert (child.trained, child.trunk_only, child.warning) == (True, False, None)
    assert child.metrics["before"] is None
