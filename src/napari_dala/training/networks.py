"""The networks that can be trained, by name: the paper's, its ablation, its baseline and others to compare with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from napari_dala.errors import BundleError
from napari_dala.model.dalaresnet import DALAResNet50  # before torch: it sees to triton

# isort: split
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_dala.model.bundle import ModelBundle

_VIT_PATCH = 16


class DALAResNet50WithoutAttention(DALAResNet50):
    """DALAResNet50 whose attention module passes its input on: trunk, pooling and head. See `DALAResNet50`."""

    def __init__(self, num_classes: int = 2, dropout: float = 0.25) -> None:
        super().__init__(num_classes, dropout)
        self.attention = nn.Identity()  # type: ignore[assignment]

    def head_from_means(self, means: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for the channel means (B, 2048) of layer4."""
        logits: Tensor = self.head(means)
        return logits


@dataclass(frozen=True)
class _Architecture:
    """How a network is made of classes, dropout and tile side, and what of torchvision's ImageNet weights fits it."""

    make: Callable[[int, float, int], nn.Module]
    imagenet: str  # torchvision's name
    prefix: str = ""  # where torchvision's network sits in this one
    head: tuple[str, ...] = ()  # prefixes of torchvision's names that have no place here


def _dala(kind: type[DALAResNet50]) -> _Architecture:
    return _Architecture(lambda classes, dropout, tile_px: kind(classes, dropout), "resnet50", "trunk.", ("fc.",))


def _torchvision(name: str, head: str) -> _Architecture:
    return _Architecture(
        lambda classes, dropout, tile_px: models.get_model(name, weights=None, num_classes=classes),
        name,
        head=(head,),
    )


_CATALOGUE: dict[str, _Architecture] = {
    "dalaresnet50": _dala(DALAResNet50),
    "dalaresnet50-no-attention": _dala(DALAResNet50WithoutAttention),
    "resnet50": _torchvision("resnet50", "fc."),
    "densenet121": _torchvision("densenet121", "classifier."),
    "vgg16": _torchvision("vgg16", "classifier.6."),
    "vit_b_16": _Architecture(
        lambda classes, dropout, tile_px: models.vit_b_16(weights=None, num_classes=classes, image_size=tile_px),
        "vit_b_16",
        head=("heads.",),
    ),
    "swin_t": _torchvision("swin_t", "head."),
}
NAMES = tuple(_CATALOGUE)
BUNDLED = "dalaresnet50"
"""The network that a bundle can hold."""


def build(name: str, num_classes: int, *, dropout: float = 0.25, tile_px: int = 224) -> nn.Module:
    """Return a network with random weights.

    Parameters
    ----------
    name
        One of `NAMES`: ``dalaresnet50`` and ``dalaresnet50-no-attention`` (the same head, without the attention
        module), ``resnet50`` (the paper's baseline: one linear layer), and torchvision's ``densenet121``, ``vgg16``,
        ``vit_b_16`` and ``swin_t`` as they are.
    num_classes
        Number of classes.
    dropout
        Of DALAResNet50's head; the others keep what torchvision gives them.
    tile_px
        Side of a tile in pixels, a multiple of 32; ``vit_b_16`` is made for it, the others take any.

    Raises
    ------
    BundleError
        If there is no such network; the line lists those that there are.
    """
    return _find(name).make(num_classes, dropout, tile_px)


def begin(
    network: nn.Module,
    name: str,
    classes: tuple[str, ...],
    *,
    init: ModelBundle | None = None,
    imagenet: bool = True,
    tile_px: int = 224,
) -> str:
    """Put the weights to begin from into a network of `build`: a bundle's, else ImageNet's, else its random ones.

    Parameters
    ----------
    network
        Changed in place.
    name, tile_px
        As given to `build`.
    classes
        Names, in the order of the logits.
    init
        For ``dalaresnet50`` only; its last layer is left out where the classes differ.
    imagenet
        Take torchvision's ImageNet weights if they lie on this machine; nothing is downloaded. The classifier keeps
        its random weights, and so do DALAResNet50's attention and head.

    Returns
    -------
    str
        Which weights these are, for people, in one line.

    Raises
    ------
    BundleError
        If `init` is for another network, or the file of ImageNet weights is damaged or does not fit.
    """
    if init is None:
        return _load_imagenet(network, name, tile_px) if imagenet else "training starts from scratch, as asked"
    if name != BUNDLED:
        raise BundleError(f"{init.card.name}: a bundle is a DALAResNet50 and cannot begin a {name}")
    weights = init.network.state_dict()
    same = init.card.class_names == classes
    if not same:
        weights = {key: tensor for key, tensor in weights.items() if not key.startswith("head.fc3.")}
    network.load_state_dict(weights, strict=same)
    return f"weights of {init.card.name}" + ("" if same else ", its last layer anew for other classes")


def _load_imagenet(network: nn.Module, name: str, tile_px: int) -> str:
    architecture = _find(name)
    url = models.get_model_weights(architecture.imagenet).IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.is_file():
        return f"no ImageNet weights: {path} is not there (from {url}); training starts from scratch"
    try:
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        weights = {_modern(key): tensor for key, tensor in found.items()}
        if name == "vit_b_16":
            weights = interpolate_embeddings(tile_px, _VIT_PATCH, weights)
        weights = {
            architecture.prefix + key: tensor
            for key, tensor in weights.items()
            if not key.startswith(architecture.head)
        }
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except (RuntimeError, UnpicklingError, OSError, EOFError, AttributeError) as error:
        raise BundleError(f"{path}: not the ImageNet weights of {name} ({_first_line(error)})") from None
    parts = architecture.head if not architecture.prefix else ("attention.", "head.")
    lacking = [key for key in missing if not key.startswith(parts) and not key.endswith("num_batches_tracked")]
    if lacking or unexpected:
        raise BundleError(f"{path}: not the ImageNet weights of {name} (see {(lacking + unexpected)[0]})")
    return f"ImageNet weights from {path.name}"


def _find(name: str) -> _Architecture:
    if name not in _CATALOGUE:
        raise BundleError(f"{name}: there is no network of this name; there are {', '.join(NAMES)}")
    return _CATALOGUE[name]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["it ends too early"])[0]


def _modern(key: str) -> str:
    """Return the present name of a tensor: torchvision's file of DenseNet says ``norm.1`` for ``norm1``."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", key)
