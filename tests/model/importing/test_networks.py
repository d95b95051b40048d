"""Which network a set of named shapes is: torchvision's and timm's own, built without memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from torchvision import models

from napari_dala.errors import BundleError
from napari_dala.model.importing.networks import RESNET50, chosen, networks_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    Shapes = dict[str, tuple[int, ...]]


def shapes_of(make: Callable[[], nn.Module], prefix: str = "") -> Shapes:
    with torch.device("meta"):
        return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in make().state_dict().items()}


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "resnet50": (models.resnet50, RESNET50),
    "timm resnet50": (lambda: timm.create_model("resnet50"), RESNET50),
    "resnet18": (models.resnet18, "a ResNet-18"),
    "resnet34": (models.resnet34, "a ResNet-34"),
    "resnet101": (models.resnet101, "a ResNet-101"),
    "resnet152": (models.resnet152, "a ResNet-152"),
    "wide_resnet50_2": (models.wide_resnet50_2, "a wide ResNet-50"),
    "resnext50_32x4d": (models.resnext50_32x4d, "a ResNeXt-50"),
    "timm seresnet50": (lambda: timm.create_model("seresnet50"), "an SE-ResNet-50"),
    "timm resnet50d": (lambda: timm.create_model("resnet50d"), "a ResNet-50 of another kind (it has conv1.0.weight)"),
    "timm resnetv2_50": (lambda: timm.create_model("resnetv2_50"), "a ResNet v2 (BiT)"),
    "resnet50, grey": (
        lambda: timm.create_model("resnet50", in_chans=1),
        "a ResNet-50 of another kind (conv1.weight has shape (64, 1, 7, 7), not (64, 3, 7, 7))",
    ),
    "vit_b_16": (models.vit_b_16, "a vision transformer (ViT)"),
    "timm vit_small": (lambda: timm.create_model("vit_small_patch16_224"), "a vision transformer (ViT)"),
    "swin_t": (models.swin_t, "a Swin transformer"),
    "timm swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224"), "a Swin transformer"),
    "densenet121": (models.densenet121, "a DenseNet"),
    "timm densenet121": (lambda: timm.create_model("densenet121"), "a DenseNet"),
    "efficientnet_b0": (models.efficientnet_b0, "an EfficientNet"),
    "timm efficientnet_b0": (lambda: timm.create_model("efficientnet_b0"), "an EfficientNet"),
    "convnext_tiny": (models.convnext_tiny, "a ConvNeXt"),
    "timm convnext": (lambda: timm.create_model("convnext_atto"), "a ConvNeXt"),
    "mobilenet_v2": (models.mobilenet_v2, "a MobileNet"),
    "mobilenet_v3_small": (models.mobilenet_v3_small, "a MobileNet"),
    "vgg16": (models.vgg16, "a VGG network or AlexNet"),
    "inception_v3": (lambda: models.inception_v3(init_weights=False), "an Inception network"),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "state_dict.model."])
def test_each_network_is_known_by_its_tensors(name: str, prefix: str) -> None:
    make, expected = NETWORKS[name]
    shapes = shapes_of(make, prefix)
    found = networks_in(shapes)
    assert [(one.prefix, one.kind + one.fault) for one in found] == [(prefix, expected)]
    if expected != RESNET50:
        with pytest.raises(BundleError, match=rf"^x\.pth: it holds {re.escape(expected)}; a ResNet-50 is what"):
            chosen(found, shapes, None, "x.pth")


def test_a_trunk_cut_short_says_what_is_missing() -> None:
    whole = shapes_of(models.resnet50)
    cut = {name: shape for name, shape in whole.items() if not name.startswith(("layer4", "fc"))}
    [found] = networks_in(cut)
    assert found.kind + found.fault == "a ResNet-50 that is not whole (layer4.0.conv1.weight is missing, and 49 more)"


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"state.0.exp_avg": (3,), "state.0.exp_avg_sq": (3,)}, "an optimizer's state and no network"),
        ({"encoder.weight": (3, 3)}, r"no network that is known \(its first tensor is encoder\.weight\)"),
        ({"layer1.0.conv1.weight": (), "layer1.0.conv2.weight": (), "layer1.0.conv3.weight": (3,)}, "a ResNet"),
    ],
)
def test_what_is_no_network(shapes: Shapes, reason: str) -> None:
    with pytest.raises(BundleError, match=rf"^x\.pth: it holds {reason}"):
        chosen(networks_in(shapes), shapes, None, "x.pth")
