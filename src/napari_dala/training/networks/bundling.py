"""A trained network as a bundle's: its trunk, and attention and head that compute what its own last layers do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_dala.errors import BundleError
from napari_dala.model.dalaresnet import DALAResNet50
from napari_dala.model.trunks.building import map_size
from napari_dala.model.trunks.importing import trunk_with
from napari_dala.model.trunks.network import TrunkNetwork

if TYPE_CHECKING:
    from napari_dala.model.head import HeadNetwork

_EVEN_GAIN = 1.5  # of every channel, where the attention's weights are zero: 1 + sigmoid(0)


@dataclass(frozen=True)
class JudgedByMeans:
    """A network that sees its last map through the channel means alone, and judges these by one linear layer.

    Attributes
    ----------
    architecture
        Of its trunk, see `model.trunks.names`.
    linear
        Name of the last layer.
    """

    architecture: str
    linear: str


def bundled_network(network: nn.Module, form: JudgedByMeans, tile_px: int) -> tuple[TrunkNetwork, int]:
    """Return a network of a bundle's form with the same logits, and the side of its cells in pixels.

    Parameters
    ----------
    network
        Trained; left as it is.
    form
        Of it.
    tile_px
        Side of its tiles.

    Raises
    ------
    BundleError
        If its trunk takes no tiles of this size, or it tells too many classes apart.
    """
    channels, cell_px = map_size(form.architecture, tile_px)
    weights = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    trunk, _ = trunk_with(form.architecture, tile_px, weights, form.architecture)
    weight, bias = (weights[f"{form.linear}.{part}"] for part in ("weight", "bias"))
    with torch.random.fork_rng(devices=[]):  # units that add nothing yet are random, and the same each time
        torch.default_generator.manual_seed(0)
        whole = TrunkNetwork(trunk, channels, len(bias))
    set_to_linear(whole, weight, bias)
    return whole.eval(), cell_px


@torch.no_grad()
def set_to_linear(network: HeadNetwork, weight: Tensor, bias: Tensor) -> None:
    """Let attention and head compute weight z + bias of the channel means z, exactly but for rounding.

    The attention raises all channels alike. With u = weight z + bias the first layer gives (u, -u), of which LeakyReLU
    of slope 0.01 makes values that differ by 1.01 u; the second gives (u, -u) again, and the third relu(u) - relu(-u).
    The other units of the first two layers stay as they are and are given no weight: what learns on can take them up.

    Raises
    ------
    BundleError
        If the head has too few units for so many classes.
    """
    classes, head = len(bias), network.head
    if 2 * classes > head.fc2.out_features:
        raise BundleError(
            f"a bundle of this network can tell {head.fc2.out_features // 2} classes apart, not {classes}"
        )
    own = slice(0, 2 * classes)
    signs = torch.tensor([[1.0], [-1.0]])
    switch_off_attention(network)
    doubled = (signs[..., None] * weight).flatten(0, 1), (signs * bias).flatten()
    shrink = 1 + head.leaky_relu.negative_slope
    head.fc1.weight[own] = doubled[0] / (shrink * _EVEN_GAIN)
    head.fc1.bias[own] = doubled[1] / shrink
    one = torch.eye(classes)
    difference = torch.cat([one, -one], 1)
    for layer, rows in ((head.fc2, torch.cat([difference, -difference])), (head.fc3, difference)):
        layer.weight[: len(rows)] = 0
        layer.weight[: len(rows), own] = rows
        layer.bias[: len(rows)] = 0


@torch.no_grad()
def switch_off_attention(network: HeadNetwork) -> None:
    """Let the attention raise all channels alike, by half; what follows must take it back."""
    network.attention.fc.weight.zero_()
    network.attention.fc.bias.zero_()


@torch.no_grad()
def with_even_attention(network: nn.Module) -> DALAResNet50:
    """Return a DALAResNet50 that computes what one without its attention module does."""
    assert isinstance(network, DALAResNet50)
    whole = DALAResNet50(network.num_classes)
    whole.load_state_dict(network.state_dict(), strict=False)
    switch_off_attention(whole)
    whole.head.fc1.weight /= _EVEN_GAIN
    return whole.eval()
