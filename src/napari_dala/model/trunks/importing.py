"""A file of weights that a user brings, of a network pretrained elsewhere, becomes the frozen trunk of a bundle.

The file is a state dict with the names that torchvision's or timm's network has, whatever prefix they stand behind.
Attention and head are random then: a quick training run on one's own regions makes a model of it.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from napari_dala.errors import BundleError
from napari_dala.files import open_to_read
from napari_dala.model.bundle import ModelBundle
from napari_dala.model.card import IMAGENET_MEAN, IMAGENET_STD, ModelCard, TrunkSource
from napari_dala.model.convert import _tensors as read_tensors
from napari_dala.model.trunks.building import library_network, map_size, trunk_of, unfilled
from napari_dala.model.trunks.names import architecture_of
from napari_dala.model.trunks.network import TrunkNetwork
from napari_dala.model.trunks.transformers_names import with_timm_names
from napari_dala.model.weights import check_weights, fill, shapes_of
from napari_dala.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from napari_dala.model.card import ClassInfo

_CLASSIFIER = ("head.", "heads.", "head_dist.", "fc.", "classifier.", "fc_norm.")
_OLD_DENSENET = r"(denselayer\d+\.(?:norm|conv))\.(\d\.)"  # norm.1, which is norm1 now
_PREFERRED = ("teacher", "ema")  # of two networks in one file, as self-supervised training leaves them


def import_trunk(
    path: str | Path,
    trunk: str,
    *,
    classes: Sequence[ClassInfo],
    mpp: float,
    name: str,
    tile_px: int = 224,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    licence: str = "",
) -> ModelBundle:
    """Return a bundle whose trunk has the weights of a file; nothing is saved.

    Parameters
    ----------
    path : str or Path
        A safetensors file, or a state dict of `torch.save`, of which only tensors are read (see `import_checkpoint`).
    trunk : str
        Which network it is of: a name in `names.NAMED`, or timm/NAME.
    classes, mpp, name, tile_px, mean, std
        As for `import_checkpoint`. Position embeddings are resampled to the tile.
    licence : str
        Text of the licence that the weights came with; the card keeps it, and so do those of models learned on it.

    Raises
    ------
    BundleError
        If there is no such trunk, timm is needed and not installed, the file is no such state dict or its weights do
        not fit, or the settings do not make a valid card; one line.
    """
    path = Path(path)
    architecture = architecture_of(trunk)
    channels, cell_px = map_size(architecture, tile_px)
    weights = trunk_with(architecture, tile_px, read_tensors(path), path.name)
    try:
        card = ModelCard(
            name=name,
            summary=f"{trunk} from {path.name}; attention and head know nothing yet: learn from drawn regions (quick).",
            architecture=architecture,
            channels=channels,
            cell_px=cell_px,
            trunk_source=TrunkSource(file=path.name, sha256=_sha256(path), licence=licence),
            classes=tuple(classes),
            mpp=mpp,
            tile_px=tile_px,
            mean=mean,
            std=std,
            trained=False,
            trunk_only=True,
            training={
                "imported_from": path.name,
                "trunk": f"imported, {trunk}",
                "attention and head": "random, seed 0",
            },
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


def trunk_with(architecture: str, tile_px: int, tensors: dict[str, Tensor], source: str) -> nn.Module:
    """Return a trunk with the weights of a whole network that torchvision or timm has; its classifier is passed over.

    Parameters
    ----------
    architecture, tile_px
        See `build_trunk`.
    tensors : dict of str to Tensor
        With that network's names, or those that transformers gives a ViT, behind a prefix or not.
    source : str
        What to call them in an error.

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
        for name, tensor in _one_network(with_timm_names(tensors), names, source).items()
        if tensor.is_floating_point() and (name in names or not name.startswith(_CLASSIFIER))
    }
    try:
        weights = fitted(weights, network)
    except (LookupError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{source}: its weights do not fit {architecture} ({reason})") from None
    check_weights(shapes_of(network), weights, source, architecture)
    return trunk_of(fill(library_network(architecture, tile_px) if unfilled(network, weights) else network, weights))


def _one_network(tensors: dict[str, Tensor], names: Iterable[str], source: str) -> dict[str, Tensor]:
    """Return the tensors of the network with these names, without the prefix that its place gives them."""
    found = _prefixes(tensors, set(names))
    most = max(found.values(), default=0)
    likely = [prefix for prefix, count in found.items() if count == most]
    preferred = [prefix for prefix in likely if any(word in prefix for word in _PREFERRED)]
    if len(likely) > 1 and len(preferred) == 1:
        likely = preferred
    if len(likely) != 1:
        holds = " and ".join(f"{prefix}*" for prefix in sorted(likely)) or f"{min(tensors, default='nothing')}, ..."
        raise BundleError(
            f"{source}: it holds no single network of this kind (it holds {holds}); save the state dict of that "
            "network alone, or name another --trunk"
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


def _sha256(path: Path) -> str:
    sha = hashlib.sha256()
    with open_to_read(path) as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
