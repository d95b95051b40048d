"""A model bundle: network, card and statistics in one safetensors file, never a pickle.

The expanded weights are the model: hashes and every figure of the card are of what `load_bundle` gives back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_dala.errors import BundleError
from napari_dala.files import replacing
from napari_dala.model.card import UNTRAINED_CARD, ModelCard, parse_card, read_metadata
from napari_dala.model.catalog import find_model
from napari_dala.model.dalaresnet import CHANNELS, DALAResNet50
from napari_dala.model.weights import check_finite, digest, network_from, pack, unpack, weights_of

BASIS_SHAPE = (CHANNELS, 128)
_BASIS, _FAMILIARITY = "basis", "familiarity."


@dataclass(eq=False)
class ModelBundle:
    """A network and what is needed to use it and to trust it.

    Parameters
    ----------
    network : DALAResNet50
        Put into eval mode; float32.
    card : ModelCard
        Its description; has as many classes as the network.
    basis : Tensor, optional
        (2048, 128) float32, on which layer4 maps are projected to be stored.
    familiarity : dict of str to Tensor, optional
        Statistics of the training features, float32.
    path : Path, optional
        The file it was loaded from; None for one built in memory.

    Raises
    ------
    BundleError
        If card and network differ in the number of classes.
    """

    network: DALAResNet50
    card: ModelCard
    basis: Tensor | None = None
    familiarity: dict[str, Tensor] | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        self.network.eval()
        if self.network.num_classes != len(self.card.classes):
            raise BundleError(
                f"{self.card.name}: the card has {len(self.card.classes)} classes, "
                f"the network {self.network.num_classes}"
            )

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of all that changes an output: weights, statistics and the card's fields that matter.

        Computed once; read it before changing the network's precision in place.
        """
        settings = [*_pixels(self.card), self.card.temperature, *self.card.class_names]
        return digest(self._tensors(), json.dumps(settings))

    @cached_property
    def trunk_hash(self) -> str:
        """SHA-256 (hex) of all that determines stored features: trunk, basis, and how pixels are read.

        Computed once; read it before changing the network's precision in place.
        """
        tensors = {name: tensor for name, tensor in self._tensors().items() if name.startswith(("trunk.", _BASIS))}
        return digest(tensors, json.dumps(_pixels(self.card)))

    def normalize(self, tiles: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 network input, channels last, for (B, H, W, 3) uint8 RGB tiles."""
        mean, std = (torch.tensor(value, device=tiles.device) * 255 for value in (self.card.mean, self.card.std))
        return ((tiles - mean) / std).permute(0, 3, 1, 2)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (B, C) float32 probabilities for logits (B, C), with the card's temperature."""
        return torch.softmax(logits.float() / self.card.temperature, dim=1)

    def save(self, path: Path, bits: int = 16) -> None:
        """Write the bundle to `path`, whole or not at all.

        What loads from it is `as_stored(bits)`, with that one's hash.

        Parameters
        ----------
        path : Path
            The file, ending in .safetensors.
        bits : int
            Bits per weight of matrices and kernels; 16 only. Vectors stay float32.

        Raises
        ------
        BundleError
            If a weight is not finite or too large to be stored.
        """
        metadata = {"format": "napari-dala", "bits": str(bits), "card": self.card.model_dump_json()}
        packed = self._packed(bits)
        with replacing(path) as temporary:
            save_file(packed, temporary, metadata)

    def as_stored(self, bits: int = 16) -> ModelBundle:
        """Return this bundle with its tensors rounded as `save` rounds them: the model whose figures count.

        Rounding again changes nothing. Raises BundleError as `save` does.
        """
        return _bundle({name: unpack(tensor) for name, tensor in self._packed(bits).items()}, self.card)

    def _packed(self, bits: int) -> dict[str, Tensor]:
        tensors = self._tensors()
        check_finite(tensors, self.card.name)
        return {name: pack(tensor, bits, f"{self.card.name}: {name}") for name, tensor in tensors.items()}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = weights_of(self.network)
        if self.basis is not None:
            tensors[_BASIS] = self.basis
        for name, tensor in (self.familiarity or {}).items():
            tensors[_FAMILIARITY + name] = tensor
        return tensors


def load_bundle(path: str | Path) -> ModelBundle:
    """Return the bundle in a file.

    Raises
    ------
    BundleError
        If the file is missing, truncated, a pickle or no bundle, or its card or weights are not valid; one line
        that names the file, the tensor where there is one, and the reason.
    """
    path = Path(path)
    card = parse_card(read_metadata(path), path)
    try:
        tensors = {name: unpack(tensor) for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path.name}: it cannot be read ({error})") from None
    return _bundle(tensors, card, path)


def load_model(name_or_path: str | Path) -> ModelBundle:
    """Return a model by name or from a file.

    Parameters
    ----------
    name_or_path : str or Path
        "default" or "untrained" (the built-in one), a name that `list_models` shows, or the path of a bundle.

    Raises
    ------
    BundleError
        If there is no such model, or its file is not a valid bundle.
    """
    path = find_model(name_or_path)
    return untrained() if path is None else load_bundle(path)


def untrained() -> ModelBundle:
    """Return the built-in model: random weights from seed 0, the same on every call and as if loaded from a file."""
    return ModelBundle(seeded_network(len(UNTRAINED_CARD.classes)), UNTRAINED_CARD).as_stored()


def seeded_network(num_classes: int, seed: int = 0) -> DALAResNet50:
    """Return a network with random weights from `seed`, leaving torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return DALAResNet50(num_classes).eval()


def _bundle(tensors: dict[str, Tensor], card: ModelCard, path: Path | None = None) -> ModelBundle:
    """Return the bundle of the tensors of a file, checked."""
    source = path.name if path else card.name
    check_finite(tensors, source)
    basis = tensors.pop(_BASIS, None)
    if basis is not None and tuple(basis.shape) != BASIS_SHAPE:
        raise BundleError(f"{source}: {_BASIS} has shape {tuple(basis.shape)}, expected {BASIS_SHAPE}")
    familiarity = {
        name.removeprefix(_FAMILIARITY): tensors.pop(name) for name in list(tensors) if name.startswith(_FAMILIARITY)
    }
    return ModelBundle(network_from(tensors, len(card.classes), source), card, basis, familiarity or None, path)


def _pixels(card: ModelCard) -> list[object]:
    return [card.architecture, card.tile_px, card.mpp, card.mean, card.std]
