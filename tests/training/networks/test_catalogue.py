from __future__ import annotations

import sys
from typing import TYPE_CHECKING, get_args

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models.resnet import Bottleneck

from napari_dala.errors import BundleError
from napari_dala.model.bundle import untrained
from napari_dala.model.dalaresnet import DALAResNet50
from napari_dala.training.networks.catalogue import begin, build
from napari_dala.training.networks.timm import DINOV2, DinoV2
from napari_dala.training.networks.vgg_inception import NaiveInception
from napari_dala.training.settings import Network

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("a", "b", "c")
MILLIONS = {  # of parameters, for three classes
    "dalaresnet50": 28.8,
    "dalaresnet50-no-attention": 24.6,
    "resnet50": 23.5,
    "seresnet50": 26.0,
    "densenet121": 7.0,
    "vgg16": 134.3,
    "vgg16-inception": 8.7,
    "vit_b_16": 85.7,
    "swin_t": 27.5,
    "dinov2_vitb14": 85.6,
}


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torchvision's downloads: empty, and nobody's own; so is Hugging Face's cache beside it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hugging-face"))
    (folder := tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", get_args(Network))
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


@pytest.mark.parametrize("name", ["dalaresnet50", "resnet50"])
def test_residual_blocks_begin_as_the_identity(name: str) -> None:
    for block in build(name, 2).eval().modules():
        if isinstance(block, Bottleneck) and block.downsample is None:
            maps = torch.rand(1, block.conv1.in_channels, 4, 4)
            assert torch.equal(block(maps), maps)


@pytest.mark.parametrize("name", ["vit_b_16", "vgg16-inception", "dinov2_vitb14"])
def test_networks_of_one_size_learn_at_no_other(name: str) -> None:
    with pytest.raises(BundleError, match=f"{name}: this network takes tiles of one size only"):
        build(name, 2, tile_px=96, train_px=64)


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


def test_vgg16_gives_its_first_four_blocks(checkpoints: Path) -> None:
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in build("vgg16", 1000).state_dict().items()}
    donor = {key: torch.rand(shape) for key, shape in shapes.items() if key.startswith("features.")}
    torch.save(donor, checkpoints / "vgg16-397923af.pth")
    network = build("vgg16-inception", 3, tile_px=64)
    assert "vgg16-397923af.pth" in begin(network, "vgg16-inception", CLASSES)
    weights = network.state_dict()
    assert torch.equal(weights["features.21.weight"], donor["features.21.weight"])  # the last before the fourth pooling
    assert "features.24.weight" in donor
    assert "features.24.weight" not in weights


def test_the_inception_block_keeps_its_input_beside_the_convolutions() -> None:
    block = NaiveInception(8, (2, 3, 4)).eval()
    maps = torch.randn(2, 8, 5, 6)
    with torch.no_grad():
        out = block(maps)
    assert tuple(out.shape) == (2, 2 + 3 + 4 + 8, 5, 6)
    assert torch.equal(out[:, 9:], torch.nn.functional.max_pool2d(maps, 3, 1, 1))
    assert float(out[:, :9].min()) >= 0


@pytest.mark.parametrize("source", ["torch hub", "hugging face"])
def test_the_weights_of_timm_come_from_this_machine_only(checkpoints: Path, source: str) -> None:
    network = build("seresnet50", 3)
    message = begin(network, "seresnet50", CLASSES)
    assert "from scratch" in message
    assert "timm/seresnet50" in message
    donor = build("seresnet50", 1000).state_dict()
    if source == "torch hub":
        torch.save(donor, checkpoints / "seresnet50_a1_0-ffa00869.pth")
    else:
        cache = checkpoints.parents[1] / "hugging-face" / "models--timm--seresnet50.a1_in1k"
        (cache / "refs").mkdir(parents=True)
        (cache / "refs" / "main").write_text("0123")
        (cache / "snapshots" / "0123").mkdir(parents=True)
        save_file(donor, cache / "snapshots" / "0123" / "model.safetensors")
    assert "ImageNet weights from" in begin(network, "seresnet50", CLASSES)
    key = "layer3.0.se.fc1.weight"
    assert torch.equal(network.state_dict()[key], donor[key])


def test_dinov2_fits_its_position_embedding_to_the_tile(checkpoints: Path) -> None:
    donor = timm.create_model(DINOV2.split(".")[0], num_classes=0, pretrained=False).state_dict()
    assert donor["pos_embed"].shape[1] == 37 * 37 + 1
    torch.save(donor, checkpoints / "dinov2_vitb14_pretrain.pth")
    network = build("dinov2_vitb14", 3, tile_px=64)
    assert "LVD-142M weights from dinov2_vitb14_pretrain.pth" in begin(network, "dinov2_vitb14", CLASSES)
    weights = network.state_dict()
    assert weights["vit.pos_embed"].shape[1] == 5 * 5 + 1
    assert torch.equal(weights["vit.cls_token"], donor["cls_token"])
    assert torch.equal(weights["vit.blocks.11.mlp.fc2.weight"], donor["blocks.11.mlp.fc2.weight"])


@pytest.mark.parametrize(("tile_px", "side_px"), [(224, 224), (128, 126), (64, 70), (32, 28)])
def test_dinov2_takes_the_nearest_multiple_of_its_patch(tile_px: int, side_px: int) -> None:
    with torch.device("meta"):
        network = build("dinov2_vitb14", 2, tile_px=tile_px).eval()
        assert tuple(network(torch.zeros(1, 3, tile_px, tile_px)).shape) == (1, 2)
    assert isinstance(network, DinoV2)
    assert network.side_px == side_px


@pytest.mark.parametrize("name", ["seresnet50", "dinov2_vitb14"])
def test_without_timm_its_networks_say_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as Python itself marks a module that is not to be found
    with pytest.raises(BundleError, match=r"pip install 'napari-dala\[trunks\]'"):
        build(name, 2)
    assert build("resnet50", 2)


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
    with pytest.raises(BundleError, match="cannot begin a resnet50"):
        begin(network, "resnet50", init.card.class_names, init=init)
    init.card = init.card.model_copy(update={"architecture": "densenet121", "channels": 1024})
    with pytest.raises(BundleError, match="its trunk is that of densenet121; it cannot begin a dalaresnet50"):
        begin(network, "dalaresnet50", init.card.class_names, init=init)
