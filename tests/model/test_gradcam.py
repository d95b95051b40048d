from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from napari_dala.model.gradcam import cam_weights, grad_cam, head_grad_cam

if TYPE_CHECKING:
    from napari_dala.model.bundle import ModelBundle
    from tests.model.conftest import PeerGradCAM


def _resized_to_unit(cams: Tensor) -> Tensor:
    """Each map (B, h, w) resized to 224 x 224, then scaled to [0, 1] by its own extremes."""
    resized = nn.functional.interpolate(cams[:, None], (224, 224), mode="bilinear", align_corners=False)[:, 0]
    low, high = resized.amin((1, 2), keepdim=True), resized.amax((1, 2), keepdim=True)
    assert bool((high > low).all()), "a flat map would make the comparison empty"
    return (resized - low) / (high - low)


@pytest.fixture(scope="session")
def head_cam(bundle: ModelBundle, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return head_grad_cam(bundle.network, features)


@pytest.mark.parametrize("index", [0, 1])
def test_equals_pytorch_grad_cam(bundle: ModelBundle, images: Tensor, peer_grad_cam: PeerGradCAM, index: int) -> None:
    _, cams = grad_cam(bundle.network, images)
    expected = peer_grad_cam(bundle.network, bundle.network.attention, images, index)
    assert expected.shape == (2, 5, 5)
    torch.testing.assert_close(cams[:, index], expected, rtol=1e-3, atol=float(expected.max()) * 1e-4)
    torch.testing.assert_close(_resized_to_unit(cams[:, index]), _resized_to_unit(expected), rtol=0, atol=1e-4)


def hook_grad_cam(network: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and Grad-CAM maps of `layer` the ordinary way: a hook, and one backward pass per class."""
    maps: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        maps.append(output.detach().requires_grad_())
        return maps[-1].clone()  # what follows may work in place

    handle = layer.register_forward_hook(keep)
    logits = network(images)
    handle.remove()
    cams = []
    for index in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, index].sum(), maps[-1], retain_graph=True)
        cams.append((gradient.mean((2, 3), keepdim=True) * maps[-1].detach()).sum(1).relu())
    return logits.detach(), torch.stack(cams, 1)


def test_equals_the_hook_based_path(bundle: ModelBundle, images: Tensor) -> None:
    logits, cams = grad_cam(bundle.network, images)
    expected_logits, expected = hook_grad_cam(bundle.network, bundle.network.attention, images)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cams, expected, rtol=1e-3, atol=float(expected.max()) * 1e-4)


def test_weights_equal_autograd(bundle: ModelBundle, head_cam: tuple[Tensor, Tensor, Tensor]) -> None:
    network, means = bundle.network, head_cam[2]
    gains = 1 + network.attention.gains(means).detach()

    def summed_logits(pooled: Tensor) -> Tensor:
        return network.head(pooled).sum(0)

    jacobian = torch.autograd.functional.jacobian(summed_logits, means * gains).transpose(0, 1)
    _, weights = cam_weights(network, means, 49)
    torch.testing.assert_close(weights, jacobian * gains[:, None] / 49)


def test_logits_and_means_are_the_networks(
    bundle: ModelBundle, images: Tensor, features: Tensor, head_cam: tuple[Tensor, Tensor, Tensor]
) -> None:
    logits, _, means = head_cam
    with torch.no_grad():
        torch.testing.assert_close(logits, bundle.network(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(means, features.mean((2, 3)))


@pytest.mark.parametrize("classes", [[0], [1], [1, 0]])
def test_chosen_classes(
    bundle: ModelBundle, features: Tensor, head_cam: tuple[Tensor, Tensor, Tensor], classes: list[int]
) -> None:
    logits, cams, _ = head_grad_cam(bundle.network, features, classes)
    torch.testing.assert_close(cams, head_cam[1][:, classes])
    torch.testing.assert_close(logits, head_cam[0])


def test_one_tile_is_like_that_tile_in_a_batch(
    bundle: ModelBundle, features: Tensor, head_cam: tuple[Tensor, Tensor, Tensor]
) -> None:
    logits, cams, _ = head_grad_cam(bundle.network, features[1:2])
    torch.testing.assert_close(cams[0], head_cam[1][1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits[0], head_cam[0][1], rtol=1e-5, atol=1e-5)


def test_low_precision_trunk(bundle: ModelBundle, features: Tensor, head_cam: tuple[Tensor, Tensor, Tensor]) -> None:
    half = features.to(torch.bfloat16, memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):  # does not reach the head
        logits, cams, _ = head_grad_cam(bundle.network, half)
    assert logits.dtype == cams.dtype == torch.float32
    expected_logits, expected, _ = head_grad_cam(bundle.network, half.float())
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(cams, expected)
    torch.testing.assert_close(cams, head_cam[1], rtol=0, atol=float(head_cam[1].max()) * 0.05)


def test_any_tile_size(bundle: ModelBundle) -> None:
    logits, cams = grad_cam(bundle.network, torch.randn(1, 3, 96, 64))
    assert logits.shape == (1, 2)
    assert cams.shape == (1, 2, 3, 2)


def test_leaves_no_graph_and_no_gradients(bundle: ModelBundle, images: Tensor) -> None:
    logits, cams = grad_cam(bundle.network, images[:1])
    assert not logits.requires_grad
    assert not cams.requires_grad
    assert all(parameter.grad is None for parameter in bundle.network.parameters())


@pytest.mark.parametrize("classes", [[2], [-1], [], [0, 5]])
def test_unknown_classes_are_refused(bundle: ModelBundle, features: Tensor, classes: list[int]) -> None:
    with pytest.raises(ValueError, match="classes must be some of 0 to 1"):
        head_grad_cam(bundle.network, features, classes)


def test_training_mode_is_refused(bundle: ModelBundle, images: Tensor, features: Tensor) -> None:
    network = bundle.network.train()
    try:
        with pytest.raises(ValueError, match=r"network\.eval\(\)"):
            grad_cam(network, images)
        with pytest.raises(ValueError, match=r"network\.eval\(\)"):
            head_grad_cam(network, features)
    finally:
        network.eval()
