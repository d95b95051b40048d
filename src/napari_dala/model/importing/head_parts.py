"""Attention and head of DALAResNet50 as others wrote it: told by the shapes of their layers, whatever their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_dala.errors import BundleError
from napari_dala.model.head import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    Layer = tuple[Tensor, Tensor]  # weight (out, in) and bias (out,)

_HIDDEN = 512, 128
_MOST_CLASSES = 64  # beyond that a last layer is rather one of self-supervised learning
_Parts = dict[str, Tensor]


def attention_and_head(tensors: Mapping[str, Tensor], classes: int, source: str) -> _Parts | None:
    """Return attention and head with our names from the tensors beside a trunk; None where that is not clear.

    Clear is: exactly one linear layer of 2048 x 2048 (or a 1 x 1 convolution) as attention, two or three more that
    follow each other from 2048 values to the classes, and no tensor besides. Hidden layers narrower than ours are
    filled up with zeros. Where there are two layers, the second is written as two: h -> (Wh, -Wh), ReLU, and their
    difference, which is Wh exactly. What stands between the layers a file does not say: it is taken to be the paper's.

    Parameters
    ----------
    tensors
        By name.
    classes
        How many there are to be.
    source
        What to call the file in an error.

    Raises
    ------
    BundleError
        If it is clear, but of another number of classes, or wider than ours.
    """
    layers = _linear_layers(tensors)
    if layers is None:
        return None
    attentions = [layer for layer in layers if layer[0].shape == (CHANNELS, CHANNELS)]
    chain = _in_a_row([layer for layer in layers if layer[0].shape != (CHANNELS, CHANNELS)])
    if len(attentions) != 1 or len(chain) not in (2, 3):
        return None
    widths = [len(bias) for _, bias in chain]
    if widths[-1] > _MOST_CLASSES:
        return None
    if widths[-1] != classes:
        raise BundleError(
            f"{source}: its last layer tells {widths[-1]} classes apart, not {classes}; name as many with --classes"
        )
    if any(width > most for width, most in zip(widths[:-1], _HIDDEN, strict=False)):
        raise BundleError(
            f"{source}: its hidden layers have {widths[:-1]} values; DALAResNet50's have at most {_HIDDEN}"
        )
    if len(chain) == 2:
        chain = [chain[0], _doubled(chain[1]), _difference(classes)]
    sizes = (CHANNELS, *_HIDDEN, classes)
    named = {"attention.fc": attentions[0]} | {
        f"head.fc{place}": _widened(layer, sizes[place], sizes[place - 1]) for place, layer in enumerate(chain, 1)
    }
    return {
        f"{name}.{kind}": part
        for name, layer in named.items()
        for kind, part in zip(("weight", "bias"), layer, strict=True)
    }


def _linear_layers(tensors: Mapping[str, Tensor]) -> list[Layer] | None:
    """Return the linear layers that tensors are, without a bias zeros for it; None where one is of no such layer."""
    layers = []
    stems = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    for stem in stems:
        weight = tensors.get(f"{stem}.weight")
        if weight is None or not weight.is_floating_point():
            return None
        if weight.ndim == 4 and tuple(weight.shape[2:]) == (1, 1):
            weight = weight[:, :, 0, 0]
        bias = tensors.get(f"{stem}.bias", torch.zeros(len(weight)) if weight.ndim else weight)
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or not bias.is_floating_point():
            return None
        layers.append((weight.float(), bias.float()))
    own = {f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")}
    return layers if own >= tensors.keys() else None


def _in_a_row(layers: list[Layer]) -> list[Layer]:
    """Return all layers in the one order in which each takes what the one before gives; nothing where there is none."""
    row: list[Layer] = []
    width, left = CHANNELS, list(layers)
    while left:
        fitting = [layer for layer in left if layer[0].shape[1] == width]
        if len(fitting) != 1:
            return []
        row.append(fitting[0])
        left = [layer for layer in left if layer is not fitting[0]]
        width = len(fitting[0][1])
    return row


def _widened(layer: Layer, out: int, into: int) -> Layer:
    """Return a layer that takes and gives further values, all of them zero."""
    weight, bias = layer
    return (
        torch.nn.functional.pad(weight, (0, into - weight.shape[1], 0, out - weight.shape[0])),
        torch.nn.functional.pad(bias, (0, out - len(bias))),
    )


def _doubled(layer: Layer) -> Layer:
    weight, bias = layer
    return torch.cat([weight, -weight]), torch.cat([bias, -bias])


def _difference(width: int) -> Layer:
    one = torch.eye(width)
    return torch.cat([one, -one], dim=1), torch.zeros(width)
