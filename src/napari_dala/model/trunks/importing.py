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
from napari_dala.model.importing.networks import is_prefix, without_second_copies
from napari_dala.model.importing.presets import PRESETS
from napari_dala.model.trunks.building import library_network, map_size, trunk_of, unfilled
from napari_dala.model.trunks.names import architecture_of
from napari_dala.model.trunks.network import TrunkNetwork
from napari_dala.model.trunks.transformers_names import with_timm_names
from napari_dala.model.weights import check_weights, fill, shapes_of
from napari_dala.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from torch import Tensor, nn

    from napari_dala.model.importing.request import ImportRequest

_CLASSIFIER = ("head.", "heads.", "head_dist.", "fc.", "classifier.", "fc_norm.")
_OLD_DENSENET = r"(denselayer\d+\.(?:norm|conv))\.(\d\.)"  # norm.1, which is norm1 now


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
    tensors = read_tensors(path)
    trunk, taken_from = trunk_with(architecture, asked.tile_px, tensors, path.name, asked.prefix)
    left_out = sorted({name.split(".")[0] for name in tensors if taken_from and not name.startswith(f"{taken_from}.")})
    training: dict[str, Any] = {
        "imported_from": path.name,
        "preset": asked.preset,
        "trunk": asked.trunk,
        TRUNK_ONLY: True,
    }
    training |= {"taken_from": taken_from} if taken_from else {}
    training |= {"left_out": left_out} if left_out else {}
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
            training=training,
            data=preset.data,
            licence=preset.licence,
            citation=preset.citation,
        )
    except ValidationError as error:
        raise BundleError(f"{path.name}: {first_problem(error)}") from None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        whole = TrunkNetwork(trunk, channels, len(card.classes))
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
) -> tuple[nn.Module, str]:
    """Return a trunk with the weights of a whole network that torchvision or timm has, and where in a file that lies.

    Its classifier is passed over.

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
    renamed = with_timm_names(tensors)
    begin, others = _prefix_of_one(renamed, names, source, prefix)
    weights = {
        own: tensor
        for name, tensor in renamed.items()
        if name.startswith(begin) and not name.startswith(others) and tensor.is_floating_point()
        if (own := name.removeprefix(begin)) in names or not own.startswith(_CLASSIFIER)
    }
    try:
        weights = fitted(weights, network)
    except (LookupError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{source}: its weights do not fit {architecture} ({reason})") from None
    check_weights(shapes_of(network), weights, source, architecture)
    whole = fill(library_network(architecture, tile_px) if unfilled(network, weights) else network, weights)
    return trunk_of(whole), begin.rstrip(".")


def _prefix_of_one(
    tensors: Collection[str], names: Iterable[str], source: str, wanted: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return what the names of the one network with these names begin with in a file, and those of others like it."""
    found = _prefixes(tensors, set(names))
    most = max(found.values(), default=0)
    whole = [prefix for prefix, count in found.items() if count == most]
    likely = (
        without_second_copies(whole) if wanted is None else [prefix for prefix in whole if is_prefix(wanted, prefix)]
    )
    if len(likely) != 1:
        there = ", ".join(prefix.rstrip(".") or "." for prefix in sorted(whole)) or min(tensors, default="nothing")
        raise BundleError(
            f"{source}: it holds no single network of this kind (it holds {there}); choose one with --prefix "
            "(the field Prefix), or name another kind with --trunk (the field Network)"
        )
    return likely[0], tuple(prefix for prefix in whole if prefix and prefix != likely[0])


def _prefixes(tensors: Collection[str], names: set[str]) -> Counter[str]:
    """Count, for each beginning of the tensors' names, how many go on as one of the network's names."""
    found: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for at in range(len(parts)):
            if ".".join(parts[at:]) in names:
                found["".join(f"{part}." for part in parts[:at])] += 1
    return found
