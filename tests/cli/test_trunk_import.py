"""`dala models import --trunk`: a file of somebody's weights becomes a model to analyse with and to learn on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from skimage.data import immunohistochemistry
from skimage.io import imsave

if TYPE_CHECKING:
    from pathlib import Path

TRUNK = "timm/vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "brought.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), path)
    return path


def test_import_show_and_analyse(run: Any, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "LICENCE").write_text("For research alone; no clinical use.\nÄrzte ausgenommen.", encoding="utf-8")
    options = ["--trunk", TRUNK, "--mpp", 0.5, "--tile-px", 64, "--licence-text", tmp_path / "LICENCE"]
    code, out, _ = run("models", "import", weights, *options, "--mean", "0.7,0.5,0.7", "--std", "0.2,0.2,0.2")
    assert code == 0
    assert out.strip().endswith("models/brought.safetensors")
    card = json.loads(run("models", "show", "brought")[1])
    assert (card["architecture"], card["channels"], card["cell_px"], card["trained"]) == (TRUNK, 192, 16, False)
    assert card["trunk_source"]["file"] == weights.name
    assert card["trunk_source"]["licence"].endswith("Ärzte ausgenommen.")
    assert card["mean"] == [0.7, 0.5, 0.7]
    imsave(tmp_path / "field.png", immunohistochemistry())
    analysed = ["--mpp", 0.5, "--model", "brought", "--device", "cpu", "--precision", "fp32", "--out", tmp_path / "out"]
    code, out, told = run("analyze", tmp_path / "field.png", *analysed)
    assert code == 0, told
    assert "untrained" in told
    code, out, told = run(
        "explain", tmp_path / "field.png", "--mpp", 0.5, "--model", "brought", "--out", tmp_path / "one"
    )
    assert code == 2
    assert " ".join(told.split()).endswith("use `dala analyze`, which cuts a picture into such tiles")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "weights do not say their resolution"),
        (["--mpp", 0.5], "a vision transformer (ViT); a ResNet-50 is what can be imported"),
        (["--mpp", 0.5, "--trunk", "vit_tiny"], "there is no trunk of this name"),
        (["--mpp", 0.5, "--trunk", "densenet121"], "no single network of this kind"),
        (["--mpp", 0.5, "--trunk", TRUNK, "--mean", "1,2"], "three numbers with commas between"),
        (["--mpp", 0.5, "--trunk", TRUNK, "--std", "0,1,1"], "std"),
        (["--mpp", 0.5, "--trunk", TRUNK, "--licence-text", "no-such-file"], "no-such-file"),
    ],
)
def test_what_cannot_be_imported_is_one_line(run: Any, weights: Path, options: list[object], reason: str) -> None:
    code, out, told = run("models", "import", weights, *options)
    assert code == 2
    assert out == ""
    assert reason in " ".join(told.split())
    assert "Traceback" not in told
