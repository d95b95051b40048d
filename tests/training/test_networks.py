from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_dala.errors import BundleError
from napari_dala.model.bundle import untrained
from napari_dala.model.dalaresnet import DALAResNet50
from napari_dala.training.networks import NAMES, begin, build

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("a", "b", "c")
MILLIONS = {  # of parameters, for three classes
    "dalaresnet50": 28.8,
    "dalaresnet50-no-attention": 24.6,
    "resnet50": 23.5,
    "densenet121": 7.0,
    "vgg16": 134.3,
    "vit_b_16": 85.7,
    "swin_t": 27.5,
}


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torchvision's downloads: empty, and nobody's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (folder := tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_network(name: str) -> None:
    with torch.device("meta"):  # shapes without arithmetic
        network = build(name, 3, tile_px=96)
        logits = network.eval()(torch.zeros(2, 3, 96, 96))
    assert tuple(logits.shape) == (2, 3)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[name], abs=0.1)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(BundleError, match=r"vgg19.*dalaresnet50.*swin_t"):
        build("vgg19", 2)


def test_without_attention_the_head_sees_plain_means() -> None:
    network = build("dalaresnet50-no-attention", 2).eval()
    assert isinstance(network, DALAResNet50)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        from_means = network.head_from_means(network.features(images).mean((2, 3)))
        assert torch.allclose(network(images), from_means, atol=1e-6)


def test_imagenet_weights_come_from_this_machine_only(checkpoints: Path) -> None:
    network = build("dalaresnet50", 3)
    message = begin(network, "dalaresnet50", CLASSES)
    assert "from scratch" in message
    assert "resnet50-0676ba61.pth" in message
    donor = build("resnet50", 1000)
    torch.save(donor.state_dict(), checkpoints / "resnet50-0676ba61.pth")
    for name, prefix in (("dalaresnet50", "trunk."), ("dalaresnet50-no-attention", "trunk."), ("resnet50", "")):
        network = build(name, 3)
        assert "resnet50-0676ba61.pth" in begin(network, name, CLASSES)
        key = "layer4.2.conv3.weight"
        assert torch.equal(network.state_dict()[prefix + key], donor.state_dict()[key])
    assert "as asked" in begin(build("resnet50", 3), "resnet50", CLASSES, imagenet=False)


def test_the_names_of_old_files_are_understood(checkpoints: Path) -> None:
    donor = build("densenet121", 1000).state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: tensor
        for key, tensor in donor.items()
    }
    assert old.keys() != donor.keys()
    torch.save(old, checkpoints / "densenet121-a639ec97.pth")
    network = build("densenet121", 3)
    begin(network, "densenet121", CLASSES)
    key = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(network.state_dict()[key], donor[key])


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "other"])
def test_damaged_imagenet_weights_are_named(checkpoints: Path, content: bytes | str) -> None:
    path = checkpoints / "resnet50-0676ba61.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(BundleError, match="resnet50-0676ba61"):
        begin(build("resnet50", 2), "resnet50", ("a", "b"))


def test_a_bundle_begins_its_own_kind() -> None:
    init = untrained()
    network = build("dalaresnet50", 3)
    last = network.state_dict()["head.fc3.weight"].clone()
    assert "anew" in begin(network, "dalaresnet50", CLASSES, init=init)
    assert torch.equal(network.state_dict()["head.fc3.weight"], last)
    assert torch.equal(network.state_dict()["head.fc2.weight"], init.network.head.fc2.weight)
    network = build("dalaresnet50", 2)
    assert "anew" not in begin(network, "dalaresnet50", init.card.class_names, init=init)
    assert torch.equal(network.state_dict()["head.fc3.weight"], init.network.head.fc3.weight)
    with pytest.raises(BundleError, match="resnet50"):
        begin(network, "resnet50", init.card.class_names, init=init)
