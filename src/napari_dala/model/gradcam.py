"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) for all classes from one pass of the trunk.

Whatever the trunk, the head sees the attention module's output F' only through v = GAP(F'), so the gradient of a logit
is the same at each of the h * w positions: Grad-CAM's channel weights are d logit / d v / (h w). The three small layers
of the head are piecewise linear, so that derivative is a product of their matrices and of the masks of their
activations, taken for all classes at once. `docs/model.md` derives it. Needs no torchvision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_dala.model.head import HeadNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_dala.model.head import Head
    from napari_dala.model.trunks.network import TrunkNetwork


def grad_cam(network: TrunkNetwork, images: Tensor, classes: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """Return logits and Grad-CAM maps of the attention module's output, with one forward pass of the trunk.

    The trunk runs in whatever precision and autocast is active, the head and its derivative in float32.

    Parameters
    ----------
    network : TrunkNetwork
        In eval mode.
    images : Tensor
        (B, 3, H, W) float, normalised with the bundle's mean and standard deviation.
    classes : sequence of int, optional
        The classes to explain, all by default.

    Returns
    -------
    logits : Tensor
        (B, num_classes) float32, always of every class.
    cams : Tensor
        (B, len(classes), h, w) float32, not negative, in units of the logit: a cell's value is what it adds
        to the logit to first order. Maps of different tiles compare with each other.

    Raises
    ------
    TypeError
        If the network is not a TrunkNetwork, as `DALAResNet50` is one.
    ValueError
        If the network is in training mode or a class does not exist.
    """
    if not isinstance(network, HeadNetwork) or not hasattr(network, "trunk"):
        raise TypeError(f"grad_cam needs a network with a trunk, not {type(network).__name__}")
    _check_eval(network)
    with torch.no_grad():
        features = network.features(images)
    logits, cams, _ = head_grad_cam(network, features, classes)
    return logits, cams


@torch.no_grad()
def head_grad_cam(
    network: HeadNetwork, features: Tensor, classes: Sequence[int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, Grad-CAM maps and channel means for the trunk's map.

    Parameters
    ----------
    network : HeadNetwork
        In eval mode; a TrunkNetwork is one.
    features : Tensor
        (B, C, h, w), the trunk's map, before the attention, any float type; fastest in channels_last.
    classes : sequence of int, optional
        The classes to explain, all by default.

    Returns
    -------
    logits : Tensor
        (B, num_classes) float32.
    cams : Tensor
        (B, len(classes), h, w) float32, not negative, in units of the logit.
    means : Tensor
        (B, C) float32, the channel means of `features`.

    Raises
    ------
    ValueError
        If the network is in training mode or a class does not exist.
    """
    batch, channels, height, width = features.shape
    with torch.autocast(features.device.type, enabled=False):
        cells = features.permute(0, 2, 3, 1).reshape(batch, height * width, channels).float()
        means = cells.mean(1)
        logits, weights = cam_weights(network, means, height * width, classes)
        cams = torch.bmm(weights, cells.transpose(1, 2)).relu_()
    return logits, cams.view(batch, -1, height, width), means


@torch.no_grad()
def cam_weights(
    network: HeadNetwork, means: Tensor, cells: int, classes: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Return logits and the weights with which the trunk's channels, before the attention, sum to Grad-CAM maps.

    The map of a class is relu(sum_c weights[c] * F[c]); the attention's gain 1 + a is folded into the weights. Needs
    only the channel means, so maps can be made again from stored (projected) features.

    Parameters
    ----------
    network : HeadNetwork
        In eval mode; a TrunkNetwork is one.
    means : Tensor
        (B, C), channel means of the trunk's map.
    cells : int
        Number of positions h * w of the map.
    classes : sequence of int, optional
        The classes to explain, all by default.

    Returns
    -------
    logits : Tensor
        (B, num_classes) float32.
    weights : Tensor
        (B, len(classes), C) float32.

    Raises
    ------
    ValueError
        If the network is in training mode or a class does not exist.
    """
    _check_eval(network)
    chosen = _chosen(classes, network.num_classes)
    with torch.autocast(means.device.type, enabled=False):
        means = means.float()
        gains = 1 + network.attention.gains(means)
        logits, jacobian = _logits_and_jacobian(network.head, means * gains, chosen)
        return logits, jacobian * (gains / cells)[:, None]


def channel_contributions(
    network: HeadNetwork, means: Tensor, classes: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Return logits and what each channel adds to them: d logit / d v_c times v_c, with v the attention's output means.

    It is the sum of the channel's part of the Grad-CAM map before the relu. The head is piecewise linear, so over all
    channels they add to the logit less what its biases give.

    Parameters
    ----------
    network, means, classes
        As for `cam_weights`.

    Returns
    -------
    logits : Tensor
        (B, num_classes) float32.
    contributions : Tensor
        (B, len(classes), C) float32, in units of the logit; may be negative.

    Raises
    ------
    ValueError
        If the network is in training mode or a class does not exist.
    """
    logits, weights = cam_weights(network, means, 1, classes)
    return logits, weights * means.float()[:, None]


def _logits_and_jacobian(head: Head, pooled: Tensor, classes: list[int]) -> tuple[Tensor, Tensor]:
    """Return the head's logits and d logits[classes] / d pooled, (B, len(classes), C)."""
    hidden1 = head.fc1(pooled)
    hidden2 = head.fc2(head.leaky_relu(hidden1))
    logits = head.logits(head.relu(hidden2))
    # Without a copy from the processor, as indices and numbers in `where` would be: a CUDA graph can hold none.
    slope1 = torch.full_like(hidden1, head.leaky_relu.negative_slope).masked_fill_(hidden1 > 0, 1.0)[:, None]
    slope2 = (hidden2 > 0).float()[:, None]
    rows = torch.stack([head.fc3.weight[index] for index in classes])
    jacobian = (rows * slope2 @ head.fc2.weight * slope1) @ head.fc1.weight
    return logits, jacobian


def _check_eval(network: nn.Module) -> None:
    if network.training:
        raise ValueError("Grad-CAM needs the network in eval mode: call network.eval() first")


def _chosen(classes: Sequence[int] | None, count: int) -> list[int]:
    chosen = list(range(count) if classes is None else classes)
    if not chosen or not all(0 <= index < count for index in chosen):
        raise ValueError(f"classes must be some of 0 to {count - 1}, not {chosen}")
    return chosen
