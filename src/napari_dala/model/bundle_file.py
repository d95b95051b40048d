"""What every form of a bundle shares: its card, its statistics, its hashes and its file. Needs no torchvision."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from napari_dala.errors import BundleError
from napari_dala.files import replacing
from napari_dala.model.card import TRUNK_OF, ModelCard, parse_card, trunk_file
from napari_dala.model.familiarity import Familiarity
from napari_dala.model.tensor_file import HASH, UNSEALED, check_seal, read_header, seal
from napari_dala.model.weights import check_finite, digest, pack, unpack
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.head import HeadNetwork

COMPONENTS = 128
"""Of the basis on which a trunk's maps are projected to be stored; fewer where it has fewer channels."""
TRUNK = "trunk."
_BASIS, _FAMILIARITY, _REPLAY = "basis", "familiarity.", "replay."
_OF_TRUNK = (TRUNK, _BASIS)
_TRUNK_HASH = "trunk_hash"  # in a file's metadata, of the trunk that it leaves to another; older ones do not say it
_LARGE = 150 << 20  # bytes of a bundle's file; one on ResNet-50 has 60 to 120 MB


def basis_shape(channels: int) -> tuple[int, int]:
    """Return the shape of the basis of a trunk with so many channels, (channels, components)."""
    return channels, min(channels, COMPONENTS)


@dataclass(frozen=True, eq=False)
class Replay:
    """A class-balanced sample of what a head was trained on, shown again to a head that learns more.

    Attributes
    ----------
    features : Tensor
        (n, channels) float16, channel means of the trunk's map.
    labels : Tensor
        (n,) int64, index of each tile's class on the card.
    """

    features: Tensor
    labels: Tensor


class Bundle(ABC):
    """A network and what is needed to use it and to trust it; see `ModelBundle` and `BundleHead`.

    Attributes
    ----------
    network : HeadNetwork
        In eval mode, float32; at least attention and head.
    card : ModelCard
        Its description; has as many classes as the network.
    basis : Tensor or None
        (channels, components) float32, on which the trunk's maps are projected to be stored; see `basis_shape`.
    familiarity : dict of str to Tensor, or None
        Statistics of the training features, float32: see `Familiarity`.
    replay : Replay or None
        What a quick training run shows the head again; changes no output and no hash.
    path : Path or None
        The file it was loaded from.
    """

    network: HeadNetwork
    card: ModelCard
    basis: Tensor | None
    familiarity: dict[str, Tensor] | None
    replay: Replay | None
    path: Path | None

    def __post_init__(self) -> None:
        self.network.eval()
        classes = len(self.card.classes)
        if self.network.num_classes != classes:
            raise BundleError(
                f"{self.card.name}: the card has {classes} classes, the network {self.network.num_classes}"
            )
        source = self.path.name if self.path else self.card.name
        if self.network.channels != self.card.channels:
            raise BundleError(
                f"{source}: the card's trunk has {self.card.channels} channels, the network's {self.network.channels}"
            )
        if self.basis is not None and tuple(self.basis.shape) != (expected := basis_shape(self.card.channels)):
            raise BundleError(f"{source}: {_BASIS} has shape {tuple(self.basis.shape)}, expected {expected}")
        if self.replay is not None:
            _check_replay(self.replay, classes, self.card.channels, source)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of all that changes an output: weights, statistics and the card's fields that matter.

        Computed once; read it before changing the network's precision in place.
        """
        return self._hash_of(self._tensors())

    @cached_property
    def trunk_hash(self) -> str:
        """SHA-256 (hex) of all that determines stored features: trunk, basis, and how pixels are read.

        Computed once; read it before changing the network's precision in place.
        """
        return _trunk_hash(self._tensors(), self.card)

    def normalize(self, tiles: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return (B, 3, H, W) network input, computed in float32, channels last, for (B, H, W, 3) uint8 RGB tiles."""
        batch, height, width, _ = tiles.shape
        mean, variance = _row_statistics(tuple(self.card.mean), tuple(self.card.std), width, tiles.device)
        rows = tiles.reshape(batch * height, 3 * width).to(dtype)  # exactly: a byte fits into bfloat16
        rows = functional.batch_norm(rows, mean, variance, eps=1e-12)  # computes in float32
        return rows.reshape(batch, height, width, 3).permute(0, 3, 1, 2)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (B, C) float32 probabilities for logits (B, C), with the card's temperature."""
        return torch.softmax(logits.float() / self.card.temperature, dim=1)

    @cached_property
    def known(self) -> Familiarity | None:
        """The statistics that tell an unfamiliar tile; None where the bundle has none."""
        return None if self.familiarity is None else Familiarity.of(self.familiarity, self.card.channels)

    def save(self, path: Path, bits: int = 16, *, trunk_of: str | None = None) -> None:
        """Write the bundle to `path`, whole or not at all.

        What loads from it is this bundle with its tensors rounded, and has that one's hash.

        Parameters
        ----------
        path : Path
            The file, ending in .safetensors.
        bits : int
            Bits per weight of matrices and kernels, 16 or 10; see `weights.pack`. Vectors stay float32.
        trunk_of : str, optional
            Name of another bundle's file, to lie beside this one or among the models: trunk and basis are the same
            there, and left out.

        Raises
        ------
        BundleError
            If a weight is not finite or too large to be stored.
        """
        packed = self._packed(bits)
        metadata = {"format": "napari-dala", "bits": str(bits), "card": self.card.model_dump_json(), **UNSEALED}
        metadata[HASH] = self._hash_of(unpack(packed, self.card.name))
        if trunk_of is not None:
            metadata |= {TRUNK_OF: trunk_of, _TRUNK_HASH: _trunk_hash(unpack(packed, self.card.name), self.card)}
            packed = {name: tensor for name, tensor in packed.items() if not name.startswith(_OF_TRUNK)}
        if self.replay is not None:
            packed |= {f"{_REPLAY}{name}": tensor.contiguous() for name, tensor in vars(self.replay).items()}
        with replacing(path) as temporary:
            save_file(packed, temporary, metadata)
            seal(temporary)

    def _hash_of(self, tensors: dict[str, Tensor]) -> str:
        settings = [*_pixels(self.card), self.card.temperature, *self.card.class_names]
        return digest(tensors, json.dumps(settings))

    @abstractmethod
    def _weights(self) -> dict[str, Tensor]:
        """Return trunk, attention and head by name."""

    def _packed(self, bits: int) -> dict[str, Tensor]:
        """Return what hashes are of as it is stored."""
        tensors = self._tensors()
        check_finite(tensors, self.card.name)
        statistics = {name: tensors.pop(name) for name in list(tensors) if name.startswith((_BASIS, _FAMILIARITY))}
        return pack(tensors, bits, self.card.name) | pack(statistics, 16, self.card.name)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = self._weights()
        if self.basis is not None:
            tensors[_BASIS] = self.basis
        for name, tensor in (self.familiarity or {}).items():
            tensors[_FAMILIARITY + name] = tensor
        return tensors


@dataclass(frozen=True)
class Parts:
    """The tensors of a bundle's file, sorted: weights as they are stored, statistics as they are used."""

    weights: dict[str, Tensor]
    basis: Tensor | None
    familiarity: dict[str, Tensor] | None
    replay: Replay | None


def read_file(path: Path) -> tuple[dict[str, Tensor], ModelCard]:
    """Return the tensors of a bundle's file, none in fewer than 16 bits, and its card.

    Raises
    ------
    BundleError
        If the file, or that of its trunk, is missing, truncated, a pickle or no bundle, or its card is not valid.
    """
    tensors, card, trunk = _read(path)
    if trunk is not None:
        whole, _, further = _read(trunk)
        if further is not None:
            raise BundleError(f"{path.name}: its trunk is that of {trunk.name}, which has none of its own")
        tensors |= {name: tensor for name, tensor in whole.items() if name.startswith(_OF_TRUNK)}
        expected = read_header(path).metadata.get(_TRUNK_HASH)
        if expected is not None and expected != _trunk_hash(tensors, card):
            raise BundleError(f"{path.name}: {trunk.name} has another trunk now than the one this model was made on")
    return tensors, card


def trunk_to_share(path: Path | None) -> str | None:
    """Return the name of the file whose trunk a model learned on the bundle at `path` need not copy; None for none.

    That is one of the workspace's models, and a large one: a copy of a small trunk makes the new model whole by itself.
    """
    if path is None or path.parent != models_folder():
        return None
    trunk = trunk_file(read_header(path).metadata, path) or path
    return trunk.name if trunk.parent == path.parent and trunk.stat().st_size > _LARGE else None


def _read(path: Path) -> tuple[dict[str, Tensor], ModelCard, Path | None]:
    """Return a file's own tensors, its card, and the file that has its trunk where it has none."""
    metadata = read_header(path).metadata
    card = parse_card(metadata, path)
    trunk = trunk_file(metadata, path)
    check_seal(path, metadata)
    try:
        return unpack(load_file(path), path.name), card, trunk
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path.name}: it cannot be read ({error})") from None


def sort_parts(tensors: dict[str, Tensor], source: str) -> Parts:
    """Sort the tensors of a bundle's file, and check all but the weights.

    Raises
    ------
    BundleError
        If basis, familiarity or replayed features are not as they should be; `source` names the file.
    """
    weights = dict(tensors)
    basis = weights.pop(_BASIS, None)
    familiarity = _pop(weights, _FAMILIARITY)
    replay = _pop(weights, _REPLAY)
    if replay and replay.keys() != {"features", "labels"}:
        raise BundleError(f"{source}: {_REPLAY}features and {_REPLAY}labels belong together, with nothing else")
    check_finite(({} if basis is None else {_BASIS: basis}), source)
    check_finite({_FAMILIARITY + name: tensor for name, tensor in familiarity.items()}, source)
    return Parts(
        weights,
        None if basis is None else basis.float(),
        {name: tensor.float() for name, tensor in familiarity.items()} or None,
        Replay(**replay) if replay else None,
    )


@cache  # never dropped: a CUDA graph reads them where they lie
def _row_statistics(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each value of a row of pixels, (3 width,), in grey levels, for `Bundle.normalize`.

    For a row, not for a pixel: three values at a time would be computed one by one. Kept: a CUDA graph can hold no copy
    from the processor.
    """
    with torch.inference_mode(False):
        per_row = [(torch.tensor(value, device=device) * 255).repeat(width) for value in (mean, std)]
    return per_row[0], per_row[1].square()


def _pop(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _check_replay(replay: Replay, classes: int, channels: int, source: str) -> None:
    features, labels = replay.features, replay.labels
    count = len(features) if features.ndim else 0
    for name, tensor, dtype, shape in (
        ("features", features, torch.float16, (count, channels)),
        ("labels", labels, torch.int64, (count,)),
    ):
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            found = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            expected = f"{str(dtype).removeprefix('torch.')} {shape}"
            raise BundleError(f"{source}: {_REPLAY}{name} is {found}, expected {expected}")
    check_finite({f"{_REPLAY}features": features}, source)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise BundleError(f"{source}: {_REPLAY}labels must be 0 to {classes - 1}, one of the card's classes each")


def _trunk_hash(tensors: dict[str, Tensor], card: ModelCard) -> str:
    of_trunk = {name: tensor for name, tensor in tensors.items() if name.startswith(_OF_TRUNK)}
    return digest(of_trunk, json.dumps(_pixels(card)))


def _pixels(card: ModelCard) -> list[object]:
    return [card.architecture, card.tile_px, card.mpp, card.mean, card.std]
