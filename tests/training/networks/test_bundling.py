"""A trained network as a bundle: the same logits, the same maps, and it goes on learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional

from napari_dala.errors import BundleError
from napari_dala.model.gradcam import grad_cam
from napari_dala.model.head import HeadNetwork
from napari_dala.training.networks.bundling import set_to_linear
from napari_dala.training.networks.catalogue import build, bundled

if TYPE_CHECKING:
    from collections.abc import Callable

SIDES = {
    "dalaresnet50": 64,
    "dalaresnet50-no-attention": 64,
    "resnet50": 64,
    "seresnet50": 64,
    "densenet121": 64,
    "swin_t": 64,
    "vit_b_16": 64,
    "dinov2_vitb14": 224,
}
LAYERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "dalaresnet50-no-attention": lambda network: network.trunk.layer4,
    "resnet50": lambda network: network.layer4,
    "seresnet50": lambda network: network.layer4,
}


def trained(name: str, side: int) -> nn.Module:
    """A network whose every weight is random, as a trained one's are not zero, and batch norm has seen some tiles."""
    torch.manual_seed(4)
    network = build(name, 3, tile_px=side)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


def images_of(side: int) -> Tensor:
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return functional.interpolate(coarse, (side, side), mode="bilinear")


@pytest.mark.parametrize("name", SIDES)
def test_a_bundle_computes_what_the_trained_network_does(name: str) -> None:
    side = SIDES[name]
    network, images = trained(name, side), images_of(side)
    whole, trunk = bundled(network, name, side)
    assert side % trunk["cell_px"] == 0
    with torch.no_grad():
        expected, found = network(images), whole(images)
        again = bundled(network, name, side)[0](images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(found, again)
    if name in LAYERS:  # whose own last layer pytorch-grad-cam explains as it is
        _, cams = grad_cam(whole, images)
        layer, theirs = LAYERS[name](network), []
        for index in range(3):
            targets = [ClassifierOutputTarget(index)] * 2
            with GradCAM(network, [layer]) as peer:
                peer(images, targets)
                seen = (getattr(peer.activations_and_grads, part)[0].numpy() for part in ("activations", "gradients"))
                theirs.append(torch.from_numpy(peer.get_cam_image(images, layer, targets, *seen, False)).relu())
        expected = torch.stack(theirs, 1)
        assert expected.max() > 0
        torch.testing.assert_close(cams / expected.max(), expected / expected.max(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["vgg16", "vgg16-inception"])
def test_a_head_that_sees_places_makes_no_bundle(name: str) -> None:
    with pytest.raises(BundleError, match=f"^{name}: its last layers see where in a tile something lies"):
        bundled(build(name, 2, tile_px=64), name, 64)


def test_dinov2_makes_one_only_of_tiles_of_whole_patches() -> None:
    with torch.device("meta"):
        network = build("dinov2_vitb14", 2, tile_px=128)
    with pytest.raises(BundleError, match="128 px"):
        bundled(network, "dinov2_vitb14", 128)


def test_a_linear_layer_is_a_head_and_all_of_it_can_learn_on() -> None:
    torch.manual_seed(0)
    network = HeadNetwork(4, channels=96).eval()
    weight, bias, means = torch.randn(4, 96), torch.randn(4), torch.randn(200, 96)
    set_to_linear(network, weight, bias)
    torch.testing.assert_close(network.head_from_means(means), means @ weight.T + bias, rtol=1e-4, atol=1e-4)
    network.head_from_means(means).square().mean().backward()
    for name in ("attention.fc.weight", "head.fc1.weight", "head.fc2.weight", "head.fc3.weight"):
        assert float(network.get_parameter(name).grad.abs().max()) > 0, name
    idle = network.head.fc3.weight.grad[:, 8:]
    assert float(idle.abs().max()) > 0, "units without a weight yet are taken up"
    with pytest.raises(BundleError, match="64 classes apart, not 65"):
        set_to_linear(HeadNetwork(65, channels=8), torch.zeros(65, 8), torch.zeros(65))
