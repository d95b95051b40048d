from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor
from torchvision.models import resnet50

from napari_dala.errors import BundleError
from napari_dala.model.bundle import ModelBundle, load_bundle, load_model
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.model.catalog import BUILT_IN, list_models
from napari_dala.model.class_colors import class_infos
from napari_dala.model.convert import import_checkpoint, install_model
from napari_dala.model.importing.request import ImportRequest
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _request(path: Path, **asked: Any) -> ImportRequest:
    settings = {"classes": UNTRAINED_CARD.class_names, "mpp": 0.25, "name": "mine", "preset": "imagenet"}
    return ImportRequest(file=path, **settings | asked)


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
    found = import_checkpoint(_request(path))
    assert found.card.trained
    assert found.card.training["imported_from"] == "net.pth"
    assert not found.card.limits, "its names are our own: nothing is assumed"
    same = ModelBundle(bundle.network, bundle.card.model_copy(update={"mpp": 0.25}))
    assert found.hash == same.hash


def test_torchvisions_resnet_gives_the_trunk_only(tmp_path: Path) -> None:
    torch.manual_seed(3)
    resnet = resnet50(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet50.pth")
    torch.manual_seed(4)
    found = import_checkpoint(_request(tmp_path / "resnet50.pth"))
    weight = resnet.layer4[2].conv3.weight.detach()
    torch.testing.assert_close(found.network.trunk.get_submodule("layer4.2.conv3").weight, weight.half().float())
    assert not found.card.trained
    assert found.card.summary == "The trunk of resnet50.pth; attention and head are random and must learn first."
    assert torch.equal(found.network.head.fc1.weight, load_model("untrained").network.head.fc1.weight)


def test_missing_file_and_bundle(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such file"):
        import_checkpoint(_request(tmp_path / "absent.pt"))
    with pytest.raises(BundleError, match="install it as it is"):
        import_checkpoint(_request(saved))


def test_nan_and_number_of_classes(bundle: ModelBundle, tmp_path: Path) -> None:
    state = dict(bundle.network.state_dict())
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(BundleError, match=r"^net\.pt: its last layer tells 2 classes apart, not 3; .*--classes"):
        import_checkpoint(_request(tmp_path / "net.pt", classes=("a", "b", "c")))
    state["attention.fc.bias"] = torch.full((2048,), float("nan"))
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(BundleError, match=r"^nan\.pt: attention\.fc\.bias holds NaN"):
        import_checkpoint(_request(tmp_path / "nan.pt"))


def test_installing(bundle: ModelBundle, saved: Path, workspace: Path) -> None:
    copy = install_model(saved)
    assert copy == models_folder() / "saved.safetensors"
    assert copy.read_bytes() == saved.read_bytes()
    named = install_model(bundle, name="Lunge 2")
    assert load_model("Lunge 2").hash == load_bundle(named).hash == bundle.hash
    assert [entry.name for entry in list_models()] == [*BUILT_IN[1:], "Lunge 2", "saved"]
    with pytest.raises(BundleError, match="saved: there is a model of this name already"):
        install_model(saved)
    with pytest.raises(BundleError, match="a built-in model"):
        install_model(bundle)


def test_installing_something_else(tmp_path: Path, workspace: Path) -> None:
    torch.save({}, tmp_path / "net.pt")
    with pytest.raises(BundleError, match=r"net\.pt: this is a PyTorch pickle; use `dala models import net\.pt`"):
        install_model(tmp_path / "net.pt")
    assert [entry.name for entry in list_models()] == list(BUILT_IN[1:])


def test_a_trunk_of_whole_numbers(tmp_path: Path) -> None:
    torch.save(resnet50().state_dict() | {"bn1.bias": torch.zeros(64, dtype=torch.int64)}, tmp_path / "whole.pth")
    with pytest.raises(BundleError, match=r"trunk\.bn1\.bias has values of type int64, expected floats"):
        import_checkpoint(_request(tmp_path / "whole.pth"))


def test_a_disk_that_is_full(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("napari_dala.model.bundle_file.save_file", full)
    with pytest.raises(BundleError, match="the model cannot be written, is the disk full"):
        install_model(bundle, "mine")
    assert [*models_folder().iterdir()] == []


@pytest.mark.parametrize("names", [("benign", ""), ("benign", " "), ("benign", "x" * 200)])
def test_class_names_that_cannot_be_used(names: tuple[str, str]) -> None:
    with pytest.raises(BundleError, match="no names for classes: name: ") as error:
        class_infos(names)
    assert "\n" not in str(error.value)
