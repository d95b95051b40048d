"""A file of weights that a user brings, of a network pretrained elsewhere, becomes the frozen trunk of a bundle.

The file is a state dict with the names that torchvision's or timm's network has, whatever prefix they stand behind.
Attention and head are random then: a quick training run on one's own regions makes a model of it.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from napari_dala.errors import BundleError
from napari_dala.files import sha256_of
from napari_dala.model.bundle import ModelBundle
from napari_dala.model.card import TRUNK_ONLY, ModelCard, TrunkSource
from napari_dala.model.class_colors import class_infos
from napari_dala.model.importing.checkpoint import read_tensors
from napari_dala.model.importing.presets import PRESETS
from napari_dala.model.trunks.building import library_network, map_size, trunk_of, unfilled
from napari_dala.model.trunks.names import architecture_of
from napari_dala.model.trunks.network import TrunkNetwork
from napari_dala.model.trunks.transformers_names import with_timm_names
from napari_dala.model.weights import check_weights, fill, shapes_of
from napari_dala.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from napari_dala.model.importing.request import ImportRequest

_CLASSIFIER = ("head.", "heads.", "head_dist.", "fc.", "classifier.", "fc_norm.")
_OLD_DENSENET = r"(denselayer\d+\.(?:norm|conv))\.(\d\.)"  # norm.1, which is norm1 now
_PREFERRED = ("teacher", "ema")  # of two networks in one file, as self-supervised training leaves them


def import_trunk(asked: ImportRequest) -> ModelBundle:
    """Return a bundle whose trunk has the weights of a file; nothing is saved.

    Position embeddings are resampled to the tile. Attention and head are random (seed 0), and the card says that the
    model must learn first; it keeps the file's name, its SHA-256 and the licence's text.

    Raises
    ------
    BundleError
        If timm is needed and not installed, the file is no state dict of such a network or its weights do not fit, or
        the settings do not make a valid card; one line.
    """
    path, preset = asked.file, PRESETS[asked.preset]
    architecture = architecture_of(asked.trunk)
    channels, cell_px = map_size(architecture, asked.tile_px)
    weights = trunk_with(architecture, asked.tile_px, read_tensors(path), path.name, asked.prefix)
    try:
        card = ModelCard(
            name=asked.name,
            summary=f"{asked.trunk} from {path.name}; attention and head are random and must learn first.",
            architecture=architecture,
            channels=channels,
            cell_px=cell_px,
            trunk_source=TrunkSource(file=path.name, sha256=sha256_of(path), licence=asked.licence),
            classes=class_infos(asked.classes),
            mpp=asked.mpp,
            tile_px=asked.tile_px,
            mean=asked.mean or preset.mean,
            std=asked.std or preset.std,
            trained=False,
            training={"imported_from": path.name, "preset": asked.preset, "trunk": asked.trunk, TRUNK_ONLY: True},
            data=preset.data,
            licence=preset.licence,
            citation=preset.citation,
        )
    except ValidationError as error:
        raise BundleError(f"{path.name}: {first_problem(error)}") from None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        whole = TrunkNetwork(weights, channels, len(card.classes))
    return ModelBundle(whole, card).as_stored()


def fitted(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return tensors under the names that a network of torchvision's or timm's has now, in the shapes it has them.

    Position embeddings are resampled to the network's tile.
    """
    if isinstance(network, VisionTransformer):
        resampled: dict[str, Tensor] = interpolate_embeddings(network.image_size, network.patch_size, weights)
        return resampled
    rename: Any = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)  # timm's own, if any
    if rename is not None:
        return dict(rename(weights, network))
    return {re.sub(_OLD_DENSENET, r"\1\2", name): tensor for name, tensor in weights.items()}


def trunk_with(
    architecture: str, tile_px: int, tensors: dict[str, Tensor], source: str, prefix: str | None = None
) -> nn.Module:
    """Return a trunk with the weights of a whole network that torchvision or timm has; its classifier is passed over.

    Parameters
    ----------
    architecture, tile_px
        See `build_trunk`.
    tensors : dict of str to Tensor
        With that network's names, or those that transformers gives a ViT, behind a prefix or not.
    source : str
        What to call them in an error.
    prefix : str, optional
        Which of several networks: the last parts of the prefix that its names have.

    Raises
    ------
    BundleError
        If there is no such network among them, or its weights do not fit.
    """
    with torch.device("meta"):
        network = library_network(architecture, tile_px)
    names = shapes_of(network)
    weights = {
        name: tensor
        for name, tensor in _one_network(with_timm_names(tensors), names, source, prefix).items()
        if tensor.is_floating_point() and (name in names or not name.startswith(_CLASSIFIER))
    }
    try:
        weights = fitted(weights, network)
    except (LookupError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{source}: its weights do not fit {architecture} ({reason})") from None
    check_weights(shapes_of(network), weights, source, architecture)
    return trunk_of(fill(library_network(architecture, tile_px) if unfilled(network, weights) else network, weights))


def _one_network(
    tensors: dict[str, Tensor], names: Iterable[str], source: str, wanted: str | None
) -> dict[str, Tensor]:
    """Return the tensors of the network with these names, without the prefix that its place gives them."""
    found = _prefixes(tensors, set(names))
    if wanted is not None:
        end = wanted.strip(".")
        found = Counter({one: count for one, count in found.items() if f".{one}".endswith(f".{end}." if end else ".")})
    most = max(found.values(), default=0)
    likely = [prefix for prefix, count in found.items() if count == most]
    preferred = [prefix for prefix in likely if any(word in prefix for word in _PREFERRED)]
    if len(likely) > 1 and len(preferred) == 1:
        likely = preferred
    if len(likely) != 1:
        holds = " and ".join(f"{prefix}*" for prefix in sorted(likely)) or f"{min(tensors, default='nothing')}, ..."
        raise BundleError(
            f"{source}: it holds no single network of this kind (it holds {holds}); choose one with --prefix "
            "(the field Prefix), or name another with --trunk (the field Network)"
        )
    return {name.removeprefix(likely[0]): tensor for name, tensor in tensors.items() if name.startswith(likely[0])}


def _prefixes(tensors: Mapping[str, Tensor], names: set[str]) -> Counter[str]:
    """Count, for each beginning of the tensors' names, how many go on as one of the network's names."""
    found: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for at in range(len(parts)):
            if ".".join(parts[at:]) in names:
                found["".join(f"{part}." for part in parts[:at])] += 1
    return found
