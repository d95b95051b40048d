"""DALAResNet50 as others write it: the imported network gives what theirs gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from napari_dala.errors import BundleError
from napari_dala.model.convert import import_checkpoint
from napari_dala.model.importing.head_parts import attention_and_head
from tests.model.importing.test_layouts import linears, request

if TYPE_CHECKING:
    from pathlib import Path

    State = dict[str, Tensor]


class Theirs(nn.Module):
    """The paper's network with names of its author's own: a whole torchvision ResNet-50 inside, its `fc` unused."""

    def __init__(self, head: nn.Sequential, *, convolution: bool = False) -> None:
        super().__init__()
        self.resnet = resnet50(weights=None)
        self.channel_attention = nn.ModuleDict(
            {"linear": nn.Conv2d(2048, 2048, 1, bias=False) if convolution else nn.Linear(2048, 2048)}
        )
        self.classifier = head

    def forward(self, images: Tensor) -> Tensor:
        net, linear = self.resnet, self.channel_attention["linear"]
        hidden = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        features = net.layer4(net.layer3(net.layer2(net.layer1(hidden))))
        means = features.mean((2, 3), keepdim=True)
        gains = linear(means if isinstance(linear, nn.Conv2d) else means.flatten(1)).flatten(1).sigmoid()
        logits: Tensor = self.classifier((features + features * gains[:, :, None, None]).mean((2, 3)))
        return logits


HEADS: dict[str, tuple[Any, dict[str, Any]]] = {
    "three layers, as the paper's": (
        lambda: nn.Sequential(
            nn.Dropout(), nn.Linear(2048, 512), nn.LeakyReLU(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 2)
        ),
        {},
    ),
    "three narrower layers": (
        lambda: nn.Sequential(nn.Linear(2048, 256), nn.LeakyReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 2)),
        {},
    ),
    "two layers, attention by a convolution": (
        lambda: nn.Sequential(nn.Linear(2048, 300), nn.LeakyReLU(), nn.Linear(300, 2)),
        {"convolution": True},
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_another_authors_network_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    make, settings = HEADS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = Theirs(make(), **settings).eval()
        images = torch.randn(3, 3, 96, 96)
    theirs.load_state_dict(
        {key: _rounded(value) for key, value in theirs.state_dict().items()}
    )  # as a bundle stores it
    torch.save({"net": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "net.pth")
    found = import_checkpoint(request(tmp_path / "net.pth"))
    assert found.card.trained
    assert "LeakyReLU and ReLU are assumed" in found.card.limits[0]
    assert found.card.training["taken_from"] == "net.module.resnet"
    with torch.inference_mode():
        expected, logits = theirs(images), found.network(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 100 * (logits - expected).abs().max(), "they differ from tile to tile"


def _rounded(value: Tensor) -> Tensor:
    return value.half().float() if value.ndim > 1 else value


ATTENTION = {"att": (2048, 2048)}
NOT_CLEAR: dict[str, State] = {
    "no attention": linears(a=(512, 2048), b=(128, 512), c=(2, 128)),
    "no head": linears(**ATTENTION),
    "one layer": linears(**ATTENTION, a=(2, 2048)),
    "four layers": linears(**ATTENTION, a=(512, 2048), b=(128, 512), c=(64, 128), d=(2, 64)),
    "two attentions": linears(**ATTENTION, other=(2048, 2048), a=(512, 2048), b=(128, 512), c=(2, 128)),
    "two first layers": linears(**ATTENTION, a=(512, 2048), aux=(256, 2048), b=(128, 512), c=(2, 128)),
    "a layer that nothing leads to": linears(**ATTENTION, a=(512, 2048), b=(128, 512), c=(2, 128), aux=(5, 77)),
    "batch norm between": linears(**ATTENTION, a=(512, 2048), b=(2, 512)) | {"bn.weight": torch.ones(512)},
    "MoCo's projection": linears(fc__0=(2048, 2048), fc__2=(128, 2048)),
    "SwAV without batch norm": linears(p__0=(2048, 2048), p__3=(128, 2048), prototypes=(3000, 128)),
    "a spatial attention": linears(**ATTENTION, a=(512, 2048), b=(2, 512)) | {"sa.weight": torch.ones(1, 2, 7, 7)},
    "whole numbers": {name: tensor.long() for name, tensor in linears(**ATTENTION, a=(512, 2048), b=(2, 512)).items()},
    "lone numbers": {"scale.weight": torch.tensor(2.0)},
}


@pytest.mark.parametrize("name", NOT_CLEAR)
def test_what_is_not_clear_is_not_taken(name: str) -> None:
    assert attention_and_head(NOT_CLEAR[name], 2, "x.pth") is None


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (
            linears(**ATTENTION, a=(512, 2048), b=(128, 512), c=(3, 128)),
            "its last layer tells 3 classes apart, not 2; .*--classes",
        ),
        (linears(**ATTENTION, a=(1024, 2048), b=(2, 1024)), r"its hidden layers have \[1024\] values; .* at most"),
        (linears(**ATTENTION, a=(512, 2048), b=(256, 512), c=(2, 256)), r"its hidden layers have \[512, 256\] values"),
    ],
)
def test_what_is_clear_but_does_not_fit(layers: State, reason: str) -> None:
    with pytest.raises(BundleError, match=rf"^x\.pth: {reason}"):
        attention_and_head(layers, 2, "x.pth")
