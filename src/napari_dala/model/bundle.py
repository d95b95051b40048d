"""A model bundle: network, card and statistics in one safetensors file, never a pickle.

The expanded weights are the model: hashes and every figure of the card are of what `load_bundle` gives back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_dala.errors import BundleError
from napari_dala.model.bundle_file import Bundle, Replay, read_file, sort_parts
from napari_dala.model.card import UNTRAINED_CARD, ModelCard
from napari_dala.model.catalog import find_model
from napari_dala.model.trunks.building import build_network, size_of_map, unfilled
from napari_dala.model.trunks.names import RESNET50
from napari_dala.model.weights import check_weights, fill, shapes_of, unpack, weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_dala.model.trunks.network import TrunkNetwork

__all__ = ["ModelBundle", "Replay", "load_bundle", "load_model", "seeded_network", "untrained"]


@dataclass(eq=False)
class ModelBundle(Bundle):
    """A network and what is needed to use it and to trust it.

    Parameters
    ----------
    network : TrunkNetwork
        Put into eval mode; float32. A `DALAResNet50`, or one on another trunk.
    card : ModelCard
        Its description; has as many classes as the network.
    basis : Tensor, optional
        (channels, components) float32, on which the trunk's maps are projected to be stored; see `basis_shape`.
    familiarity : dict of str to Tensor, optional
        Statistics of the training features, float32.
    replay : Replay, optional
        What a quick training run shows the head again; changes no output and no hash.
    path : Path, optional
        The file it was loaded from; None for one built in memory.

    Raises
    ------
    BundleError
        If card and network differ in the number of classes, or the replayed features do not fit them.
    """

    network: TrunkNetwork
    card: ModelCard
    basis: Tensor | None = None
    familiarity: dict[str, Tensor] | None = None
    replay: Replay | None = None
    path: Path | None = None

    def as_stored(self, bits: int = 16) -> ModelBundle:
        """Return this bundle with its tensors rounded as `save` rounds them: the model whose figures count.

        Rounding again changes nothing. Raises BundleError as `save` does.
        """
        return _bundle(unpack(self._packed(bits), self.card.name), self.card, replay=self.replay)

    def _weights(self) -> dict[str, Tensor]:
        return weights_of(self.network)


def load_bundle(path: str | Path) -> ModelBundle:
    """Return the bundle in a file.

    Raises
    ------
    BundleError
        If the file is missing, truncated, a pickle or no bundle, or its card or weights are not valid; one line
        that names the file, the tensor where there is one, and the reason.
    """
    path = Path(path)
    return _bundle(*read_file(path), path)


def load_model(name_or_path: str | Path) -> ModelBundle:
    """Return a model by name or from a file.

    Parameters
    ----------
    name_or_path : str or Path
        "default" or "untrained" (built in), a name that `list_models` shows, or the path of a bundle.

    Raises
    ------
    BundleError
        If there is no such model, or its file is not a valid bundle.
    """
    path = find_model(name_or_path)
    return untrained() if path is None else load_bundle(path)


def untrained() -> ModelBundle:
    """Return the model of random weights from seed 0, the same on every call and as if loaded from a file."""
    return ModelBundle(seeded_network(len(UNTRAINED_CARD.classes)), UNTRAINED_CARD).as_stored()


def seeded_network(num_classes: int, seed: int = 0, like: ModelCard = UNTRAINED_CARD) -> TrunkNetwork:
    """Return a network with random weights from `seed`, leaving torch's global random state as it was.

    It has the trunk that the card `like` names: ResNet-50, where none is given.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build_network(like.architecture, like.channels, like.tile_px, num_classes).eval()


def network_from(
    weights: Mapping[str, Tensor], num_classes: int, source: str, like: ModelCard = UNTRAINED_CARD
) -> TrunkNetwork:
    """Return a network in eval mode with these weights, which it takes over without a copy where they are float32.

    Parameters
    ----------
    weights : mapping of str to Tensor
        As `weights_of` gives them, of any floating type.
    num_classes : int
        Number of classes.
    source : str
        What to call the weights in an error.
    like : ModelCard
        Names the trunk; ResNet-50 by default.

    Raises
    ------
    BundleError
        If a tensor is missing, unexpected, of another shape, or not finite; or the trunk cannot be built.
    """
    parts = like.architecture, like.channels, like.tile_px, num_classes
    with torch.device("meta"):
        network = build_network(*parts)
    if like.architecture != RESNET50:
        found = size_of_map(network.eval().trunk, like.architecture, like.tile_px)
        if found != (like.channels, like.cell_px):
            raise BundleError(
                f"{source}: its card says {like.channels} channels and cells of {like.cell_px} px, its trunk has "
                f"{found[0]} and {found[1]}"
            )
    name = "DALAResNet50" if like.architecture == RESNET50 else like.architecture
    check_weights(shapes_of(network), weights, source, name)
    return fill(build_network(*parts) if unfilled(network, weights) else network, weights)


def _bundle(
    tensors: dict[str, Tensor], card: ModelCard, path: Path | None = None, replay: Replay | None = None
) -> ModelBundle:
    """Return the bundle of the tensors of a file, checked; `replay` where it is not among them."""
    source = path.name if path else card.name
    parts = sort_parts(tensors, source)
    network = network_from(parts.weights, len(card.classes), source, card)
    return ModelBundle(network, card, parts.basis, parts.familiarity, parts.replay or replay, path)
