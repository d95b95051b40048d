"""A bundle whose trunk stays packed: read, scored with, changed and written without building the trunk.

A quick training run and the re-scoring of a slide need attention and head alone; importing torchvision, or timm, and
building a trunk for them would cost more than they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_dala.model.bundle_file import TRUNK, Bundle, Replay, read_file, sort_parts
from napari_dala.model.catalog import find_model
from napari_dala.model.head import HeadNetwork
from napari_dala.model.trunks.names import RESNET50
from napari_dala.model.weights import check_finite, check_weights, fill, pack, shapes_of, trunk_shapes, weights_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.model.card import ModelCard

_BITS = 16


@dataclass(eq=False)
class BundleHead(Bundle):
    """A bundle's attention and head, ready to use, and the rest of its file as it is stored.

    Parameters
    ----------
    network : HeadNetwork
        Put into eval mode; float32.
    card, basis, familiarity, replay, path
        As in `ModelBundle`.
    trunk : dict of str to Tensor
        The trunk's tensors as in the file.

    Raises
    ------
    BundleError
        If card and network differ in the number of classes, or the replayed features do not fit them.
    """

    network: HeadNetwork
    card: ModelCard
    basis: Tensor | None
    familiarity: dict[str, Tensor] | None
    replay: Replay | None
    path: Path | None
    trunk: dict[str, Tensor]

    @classmethod
    def of(cls, bundle: ModelBundle) -> BundleHead:
        """Return the head of a bundle in memory, rounded as `save` rounds it."""
        rounded = bundle.as_stored()
        weights = weights_of(rounded.network)
        trunk = {name: tensor for name, tensor in weights.items() if name.startswith(TRUNK)}
        head = {name: tensor for name, tensor in weights.items() if not name.startswith(TRUNK)}
        return cls(
            fill(_empty(rounded.network.num_classes, rounded.network.channels), head),
            rounded.card,
            rounded.basis,
            rounded.familiarity,
            rounded.replay,
            bundle.path,
            pack(trunk, _BITS, rounded.card.name),
        )

    def with_head(self, network: HeadNetwork, card: ModelCard, replay: Replay | None) -> BundleHead:
        """Return a bundle with the same trunk and statistics and another head, rounded as it will be stored.

        Figures are to be measured on the network that this gives, which is the one that loads from its file.

        Parameters
        ----------
        network : HeadNetwork
            Copied; may have other classes than this one's.
        card : ModelCard
            For the new head.
        replay : Replay or None
            What the new head is to be shown again when it learns more.

        Raises
        ------
        BundleError
            If a weight is not finite or too large to be stored, or the card does not fit the network.
        """
        weights = weights_of(network)
        check_finite(weights, card.name)
        rounded = pack(weights, _BITS, card.name)
        return BundleHead(
            fill(
                _empty(network.num_classes, network.channels),
                {name: tensor.clone() for name, tensor in rounded.items()},
            ),
            card,
            self.basis,
            self.familiarity,
            replay,
            None,
            self.trunk,
        )

    def _weights(self) -> dict[str, Tensor]:
        return weights_of(self.network) | self.trunk


def load_head(name_or_path: str | Path) -> BundleHead:
    """Return a model by name or from a file, as `load_model` does, without building its trunk.

    The untrained model has no file and is built whole first.

    Raises
    ------
    BundleError
        If there is no such model, or its file is not a valid bundle; the same lines as `load_model`'s. Whether a trunk
        other than ResNet-50 is whole shows when it is built.
    """
    path = find_model(name_or_path)
    if path is None:
        from napari_dala.model.bundle import untrained

        return BundleHead.of(untrained())
    tensors, card = read_file(path)
    parts = sort_parts(tensors, path.name)
    network = _empty(len(card.classes), card.channels)
    trunk = {name: tensor for name, tensor in parts.weights.items() if name.startswith(TRUNK)}
    if card.architecture == RESNET50:
        expected, called = trunk_shapes(), "DALAResNet50"
    else:  # what another trunk has shows when it is built; the file's seal says that its bytes are those written
        expected, called = {name: tuple(tensor.shape) for name, tensor in trunk.items()}, card.architecture
    check_weights(expected | shapes_of(network), parts.weights, path.name, called)
    fill(network, {name: tensor for name, tensor in parts.weights.items() if name not in trunk})
    return BundleHead(network, card, parts.basis, parts.familiarity, parts.replay, path, trunk)


def _empty(num_classes: int, channels: int) -> HeadNetwork:
    """Return a head without weights, to be filled."""
    with torch.device("meta"):
        return HeadNetwork(num_classes, channels=channels)
