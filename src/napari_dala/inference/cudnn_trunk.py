"""ResNet-50's trunk with cuDNN's fused operators: a convolution, the addition and the ReLU behind it are one kernel."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)
_SAME = 0.05  # most difference of a map from the plain trunk's, of the largest value; bf16 rounds to 0.004


def _convolution_relu(convolution: nn.Conv2d, inputs: Tensor, other: Tensor | None = None) -> Tensor:
    """Return relu(convolution(inputs) + other)."""
    where: Any = (convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
    weight, bias = convolution.weight, convolution.bias
    if other is None:
        return torch.cudnn_convolution_relu(inputs, weight, bias, *where)
    return torch.cudnn_convolution_add_relu(inputs, weight, other, 1.0, bias, *where)


class CudnnTrunk(nn.Module):
    """A trunk that computes what another one does; see `cudnn_trunk`."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        parts: list[Any] = list(trunk.children())
        self.stem, _, _, self.pool, *layers = parts
        self.blocks = nn.ModuleList(block for layer in layers for block in layer.children())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return layer4's map (B, 2048, h, w)."""
        maps: Tensor = self.pool(_convolution_relu(self.stem, inputs))
        for block in self.blocks:
            parts: Any = block
            other = maps if parts.downsample is None else parts.downsample(maps)
            maps = _convolution_relu(parts.conv2, _convolution_relu(parts.conv1, maps))
            maps = _convolution_relu(parts.conv3, maps, other)
        return maps


def cudnn_trunk(trunk: nn.Module, example: Tensor) -> nn.Module | None:
    """Return a trunk that computes the same, or None where these operators are not there, or give other maps.

    Parameters
    ----------
    trunk
        conv1, (bn1), relu, maxpool, layer1 to layer4, on a GPU in channels_last, batch norms folded.
    example
        Input of the size to be fast for.
    """
    inputs = torch.rand(example.shape, device=example.device).to(example.dtype, memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            fused = CudnnTrunk(trunk)
            known, found = trunk(inputs).float(), fused(inputs).float()
    except (AttributeError, RuntimeError) as error:  # another device, a cuDNN without them, or too little memory
        _log.warning("The network runs without cuDNN's fused operators: %s", str(error).splitlines()[0])
        return None
    if (known - found).abs().max() <= _SAME * known.abs().max():
        return fused
    _log.warning("The network runs without cuDNN's fused operators: they give other maps")
    return None
