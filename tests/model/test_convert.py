from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet50

from napari_dala.errors import BundleError
from napari_dala.model.bundle import ModelBundle, load_bundle, load_model
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.model.catalog import BUILT_IN, list_models
from napari_dala.model.class_colors import class_infos
from napari_dala.model.convert import import_checkpoint, install_model, is_bundle
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS: dict[str, Any] = {"classes": UNTRAINED_CARD.classes, "mpp": 0.25, "name": "mine"}


class _Malicious:
    """Runs a command when it is unpickled by a reader that lets it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch malicious-code-ran",)


def _prefixed(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 50},
        lambda state: {"model": _prefixed("module.")(state)},
        _prefixed("module.model."),
        lambda state: {name: tensor.double() for name, tensor in state.items()},
    ],
)
def test_a_whole_network(bundle: ModelBundle, tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any]) -> None:
    path = tmp_path / "net.pth"
    torch.save(wrap(bundle.network.state_dict()), path)
    found = import_checkpoint(path, **SETTINGS)
    assert found.card.trained
    assert found.card.training == {"imported_from": "net.pth"}
    same = ModelBundle(bundle.network, bundle.card.model_copy(update={"mpp": 0.25}))
    assert found.hash == same.hash


def test_torchvisions_resnet_gives_the_trunk_only(tmp_path: Path) -> None:
    torch.manual_seed(3)
    resnet = resnet50(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet50.pth")
    torch.manual_seed(4)
    found = import_checkpoint(tmp_path / "resnet50.pth", **SETTINGS)
    weight = resnet.layer4[2].conv3.weight.detach()
    torch.testing.assert_close(found.network.trunk.get_submodule("layer4.2.conv3").weight, weight.half().float())
    assert not found.card.trained
    assert found.card.training["attention and head"] == "random, seed 0"
    assert torch.equal(found.network.head.fc1.weight, load_model("untrained").network.head.fc1.weight)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {"trunk.conv1.weight": torch.zeros(1)}}, "the tensor .* is missing"),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "this is no whole ResNet-50"),
        ({"a": 1}, "it holds no state dict"),
        ([torch.zeros(1)], "it holds no state dict"),
        ({}, "it holds no state dict"),
        (_Malicious(), r"refused, it asks to run \S*system"),
        ({"model": nn.Linear(2, 2)}, r"refused, it asks to run torch\.nn"),
    ],
)
def test_checkpoints_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(BundleError, match=rf"^bad\.pt: {reason}") as error:
        import_checkpoint(tmp_path / "bad.pt", **SETTINGS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "malicious-code-ran").exists()


@pytest.mark.parametrize("content", [b"", b"text, no pickle", b"PK\x03\x04 cut short", b"\x80\x02 cut short"])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(
        BundleError, match=r"^bad\.pt: this is not a state dict saved by torch\.save, or it is damaged$"
    ) as error:
        import_checkpoint(tmp_path / "bad.pt", **SETTINGS)
    assert "\n" not in str(error.value)


def test_missing_file_and_bundle(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such file"):
        import_checkpoint(tmp_path / "absent.pt", **SETTINGS)
    with pytest.raises(BundleError, match="install it as it is"):
        import_checkpoint(saved, **SETTINGS)


def test_nan_and_number_of_classes(bundle: ModelBundle, tmp_path: Path) -> None:
    state = dict(bundle.network.state_dict())
    three = (*UNTRAINED_CARD.classes, UNTRAINED_CARD.classes[0].model_copy(update={"name": "third"}))
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(BundleError, match=r"^net\.pt: head\.fc3\.bias has shape \(2,\), expected \(3,\)"):
        import_checkpoint(tmp_path / "net.pt", **SETTINGS | {"classes": three})
    state["attention.fc.bias"] = torch.full((2048,), float("nan"))
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(BundleError, match=r"^nan\.pt: attention\.fc\.bias holds NaN"):
        import_checkpoint(tmp_path / "nan.pt", **SETTINGS)


def test_installing(bundle: ModelBundle, saved: Path, workspace: Path) -> None:
    copy = install_model(saved)
    assert copy == models_folder() / "saved.safetensors"
    assert copy.read_bytes() == saved.read_bytes()
    named = install_model(bundle, name="Lunge 2")
    assert load_model("Lunge 2").hash == load_bundle(named).hash == bundle.hash
    assert [entry.name for entry in list_models()] == [*BUILT_IN[1:], "Lunge 2", "saved"]
    with pytest.raises(BundleError, match="saved: a model of this name is installed already"):
        install_model(saved)
    with pytest.raises(BundleError, match="a built-in model"):
        install_model(bundle)


def test_installing_something_else(tmp_path: Path, workspace: Path) -> None:
    torch.save({}, tmp_path / "net.pt")
    with pytest.raises(BundleError, match=r"net\.pt: this is a PyTorch pickle; use `dala models import net\.pt`"):
        install_model(tmp_path / "net.pt")
    assert [entry.name for entry in list_models()] == list(BUILT_IN[1:])


@pytest.mark.parametrize("prefix", ["", "net.", "model.backbone."])
def test_the_same_weights_in_other_files(tmp_path: Path, prefix: str) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in resnet50().state_dict().items()}
    further = {"criterion.weight": torch.ones(2)} if prefix else {}
    torch.save({"state_dict": state | further, "epoch": 3}, tmp_path / "lightning.ckpt")
    save_file(state, tmp_path / "timm.safetensors")
    files = [tmp_path / name for name in ("lightning.ckpt", "timm.safetensors")]
    assert [is_bundle(path) for path in files] == [False, False]
    one, other = (import_checkpoint(path, **SETTINGS) for path in files)
    assert one.hash == other.hash
    weight = state[f"{prefix}layer4.2.conv3.weight"]
    torch.testing.assert_close(one.network.trunk.get_submodule("layer4.2.conv3").weight, weight.half().float())


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "this is no whole ResNet-50 .* save the state dict"),
        (
            {"patch_embed.proj.weight": torch.zeros(3)},
            r"it holds no network .its first tensor is patch_emb.*as \.pth",
        ),
        ({"a.conv1.weight": torch.zeros(1), "b.conv1.weight": torch.zeros(1)}, "it holds 2 networks"),
    ],
)
def test_other_networks_are_told_what_to_do(tmp_path: Path, tensors: dict[str, Tensor], reason: str) -> None:
    save_file(tensors, tmp_path / "other.safetensors")
    torch.save(tensors, tmp_path / "other.pth")
    for path in (tmp_path / "other.safetensors", tmp_path / "other.pth"):
        with pytest.raises(BundleError, match=reason):
            import_checkpoint(path, **SETTINGS)


def test_tensors_that_hold_no_plain_numbers(tmp_path: Path) -> None:
    for value in (torch.zeros(3).to_sparse(), torch.zeros(3, device="meta")):
        torch.save({"conv1.weight": value}, tmp_path / "odd.pth")
        with pytest.raises(BundleError, match=r"no state dict|not a state dict"):
            import_checkpoint(tmp_path / "odd.pth", **SETTINGS)
    state = resnet50().state_dict() | {"bn1.bias": torch.zeros(64, dtype=torch.int64)}
    torch.save(state, tmp_path / "whole.pth")
    with pytest.raises(BundleError, match=r"trunk\.bn1\.bias has values of type int64, expected floats"):
        import_checkpoint(tmp_path / "whole.pth", **SETTINGS)


@pytest.mark.parametrize("names", [("benign", ""), ("benign", " "), ("benign", "x" * 200)])
def test_class_names_that_cannot_be_used(names: tuple[str, str]) -> None:
    with pytest.raises(BundleError, match="no names for classes: name: ") as error:
        class_infos(names)
    assert "\n" not in str(error.value)
