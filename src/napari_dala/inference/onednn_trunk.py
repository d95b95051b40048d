"""ResNet-50's trunk with oneDNN's fused operators: each convolution, the addition and the ReLU behind it are one pass.

Eager torch writes a map after each of them and reads it again. `torch.compile` fuses them too, but wants a C++ compiler
on the user's machine; these are the operators that it would call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FusedConvolution(nn.Module):
    """A convolution with its bias and, where asked for, ReLU.

    Parameters
    ----------
    convolution
        In channels_last, in the precision that it is to run in; batch norm folded into it.
    relu
        Whether ReLU follows.
    """

    def __init__(self, convolution: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.where: Any = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        self.register_buffer("bias", convolution.bias)
        self.weight = convolution.weight.detach()
        self.relu = "relu" if relu else "none"
        self.packed = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the map (B, C, h, w) of a map."""
        self._pack(inputs)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            inputs, self.weight, self.bias, *self.where, self.relu, [], None
        )
        return out

    def add_to(self, other: Tensor, inputs: Tensor) -> Tensor:
        """Return relu(other + the map of a map), written over `other`."""
        self._pack(inputs)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            other, inputs, self.weight, self.bias, *self.where, "add", 1.0, "relu", [], None
        )
        return out

    def _pack(self, inputs: Tensor) -> None:
        """Lay the weights out as oneDNN wants them for the first inputs' size; others are right too, if slower."""
        if not self.packed:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.where, list(inputs.shape))
            self.packed = True


class FusedBottleneck(nn.Module):
    """A residual block of three convolutions, made of torchvision's `Bottleneck`."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv1 = FusedConvolution(block.conv1, relu=True)
        self.conv2 = FusedConvolution(block.conv2, relu=True)
        self.conv3 = FusedConvolution(block.conv3, relu=False)
        self.downsample = None if block.downsample is None else FusedConvolution(block.downsample[0], relu=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's output; without a downsampling it is written over the input."""
        inside = self.conv2(self.conv1(inputs))
        return self.conv3.add_to(inputs if self.downsample is None else self.downsample(inputs), inside)


def fused_trunk(trunk: nn.Module, example: Tensor) -> nn.Sequential | None:
    """Return a trunk that computes the same, layer for layer, or None where these operators are not there.

    Parameters
    ----------
    trunk
        conv1, (bn1), relu, maxpool, layer1 to layer4, on the processor in channels_last, batch norms folded.
    example
        Input of the size to be fast for.
    """
    parts: list[Any] = list(trunk.children())
    stem, _, _, pool, *layers = parts
    try:
        fused = nn.Sequential(
            FusedConvolution(stem, relu=True),
            pool,
            *(nn.Sequential(*(FusedBottleneck(block) for block in layer.children())) for layer in layers),
        )
        with torch.inference_mode():
            fused(example)
    except (AttributeError, RuntimeError):  # another processor, or a torch without them
        return None
    return fused
