"""The networks that can be trained, by name: the paper's, its ablation, its baseline and others to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import VisionTransformer
from torchvision.models.resnet import Bottleneck

from napari_dala.errors import BundleError
from napari_dala.model.dalaresnet import DALAResNet50
from napari_dala.model.trunks.names import CELL_PX, NAMED, RESNET50
from napari_dala.training.networks.bundling import JudgedByMeans, bundled_network, with_even_attention
from napari_dala.training.networks.pretrained import Pretrained, load_pretrained
from napari_dala.training.networks.timm import DINOV2, DinoV2, seresnet50
from napari_dala.training.networks.vgg_inception import VGG16Inception
from napari_dala.training.settings import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.model.trunks.network import TrunkNetwork
    from napari_dala.training.settings import Network


class DALAResNet50WithoutAttention(DALAResNet50):
    """DALAResNet50 whose attention module passes its input on: trunk, pooling and head. See `DALAResNet50`."""

    def __init__(self, num_classes: int = 2, dropout: float = 0.25) -> None:
        super().__init__(num_classes, dropout)
        self.attention = nn.Identity()  # type: ignore[assignment]

    def head_from_means(self, means: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for the channel means (B, 2048) of layer4."""
        logits: Tensor = self.head(means)
        return logits


class MeanTokenViT(VisionTransformer):  # type: ignore[misc]  # torchvision has no types
    """ViT-B/16 that judges by the mean of its patch tokens, not by the class token.

    As good by its authors' later account (Beyer et al. 2022, arXiv 2205.01580), and a map sees what it judges by.
    """

    def __init__(self, num_classes: int, tile_px: int) -> None:
        super().__init__(tile_px, 16, 12, 12, 768, 3072, num_classes=num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of normalised images (B, 3, tile_px, tile_px)."""
        tokens = self._process_input(images)
        tokens = self.encoder(torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1))
        logits: Tensor = self.heads(tokens[:, 1:].mean(1))
        return logits


@dataclass(frozen=True)
class _Architecture:
    """A network that can be trained.

    Attributes
    ----------
    make
        Gives it, of classes, dropout and tile side.
    pretrained
        Which weights it can begin with.
    one_size
        Whether it is made for tiles of one size.
    means
        How it judges by the means of its last map; None of one that sees more, or has a bundle's form already.
    """

    make: Callable[[int, float, int], nn.Module]
    pretrained: Pretrained
    one_size: bool = False
    means: JudgedByMeans | None = None


def _dala(kind: type[DALAResNet50]) -> _Architecture:
    weights = Pretrained("resnet50", prefix="trunk.", left_out=("fc.",), own=("attention.", "head."))
    return _Architecture(lambda classes, dropout, tile_px: _identity_blocks(kind(classes, dropout)), weights)


def _identity_blocks(network: nn.Module) -> nn.Module:
    """Let each of ResNet's blocks begin as the identity (Goyal et al. 2017, arXiv 1706.02677, section 5.1).

    Without it a few hundred photographs teach a ResNet-50 next to nothing from scratch.
    """
    for block in network.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)
    return network


def _torchvision(name: str, head: str, means: bool = True) -> _Architecture:
    def make(classes: int, dropout: float, tile_px: int) -> nn.Module:
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes)
        return _identity_blocks(network)

    form = JudgedByMeans(NAMED[name], head) if means else None
    return _Architecture(make, Pretrained(name, left_out=(f"{head}.",), own=(f"{head}.",)), means=form)


_CATALOGUE: dict[Network, _Architecture] = {
    "dalaresnet50": _dala(DALAResNet50),
    "dalaresnet50-no-attention": _dala(DALAResNet50WithoutAttention),
    "resnet50": _torchvision("resnet50", "fc"),
    "seresnet50": _Architecture(
        lambda classes, dropout, tile_px: seresnet50(classes),
        Pretrained("seresnet50", "timm", left_out=("fc.",), own=("fc.",)),
        means=JudgedByMeans(NAMED["seresnet50"], "fc"),
    ),
    "densenet121": _torchvision("densenet121", "classifier"),
    "vgg16": _torchvision("vgg16", "classifier.6", means=False),
    "vgg16-inception": _Architecture(
        lambda classes, dropout, tile_px: VGG16Inception(classes, tile_px),
        Pretrained(
            "vgg16",
            left_out=("features.24.", "features.26.", "features.28.", "classifier."),
            own=("inception.", "norm.", "classifier."),
        ),
        one_size=True,
    ),
    "vit_b_16": _Architecture(
        lambda classes, dropout, tile_px: MeanTokenViT(classes, tile_px),
        Pretrained("vit_b_16", left_out=("heads.",), own=("heads.",)),
        one_size=True,
        means=JudgedByMeans("vit_b_16", "heads.head"),
    ),
    "swin_t": _torchvision("swin_t", "head"),
    "dinov2_vitb14": _Architecture(
        lambda classes, dropout, tile_px: DinoV2(classes, tile_px),
        Pretrained(DINOV2, "timm", "vit.", left_out=("head.",), own=("vit.head.",), of="LVD-142M"),
        one_size=True,
        means=JudgedByMeans(NAMED["dinov2_vitb14"], "vit.head"),
    ),
}


def build(
    name: str, num_classes: int, *, dropout: float = 0.25, tile_px: int = 224, train_px: int | None = None
) -> nn.Module:
    """Return a network with random weights.

    Parameters
    ----------
    name
        A `settings.Network`: ``dalaresnet50`` and ``dalaresnet50-no-attention`` (the same head, without the attention
        module), ``resnet50`` (the paper's baseline: one linear layer), and the paper's comparisons: torchvision's
        ``densenet121``, ``vgg16`` and ``swin_t`` as they are, ``vit_b_16`` (see `MeanTokenViT`), ``vgg16-inception``
        (see `VGG16Inception`), and timm's ``seresnet50`` and ``dinov2_vitb14`` (see `DinoV2`).
    num_classes
        Number of classes.
    dropout
        Of DALAResNet50's head; the others keep what torchvision gives them.
    tile_px
        Side of a tile in pixels, a multiple of 32; ``vgg16-inception``, ``vit_b_16`` and ``dinov2_vitb14`` are made
        for it, the others take any.
    train_px
        Side of the tiles to learn from, where it is another.

    Raises
    ------
    BundleError
        If there is no such network (the line lists those that there are), it is timm's and timm is not installed, or
        it is made for one size and `train_px` is another.
    """
    if _find(name).one_size and train_px not in (None, tile_px):
        raise BundleError(f"{name}: this network takes tiles of one size only; leave train_px out")
    return _find(name).make(num_classes, dropout, tile_px)


def begin(
    network: nn.Module,
    name: str,
    classes: tuple[str, ...],
    *,
    init: ModelBundle | None = None,
    imagenet: bool = True,
) -> str:
    """Put the weights to begin from into a network of `build`: a bundle's, else ImageNet's, else its random ones.

    Parameters
    ----------
    network
        Changed in place.
    name
        As given to `build`.
    classes
        Names, in the order of the logits.
    init
        For ``dalaresnet50`` only; its last layer is left out where the classes differ.
    imagenet
        Take torchvision's or timm's ImageNet weights (DINOv2's own for ``dinov2_vitb14``) if they lie on this machine;
        nothing is downloaded. The classifier keeps its random weights, and so do DALAResNet50's attention and head.

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
        if not imagenet:
            return "training starts from scratch, as asked"
        return load_pretrained(network, name, _find(name).pretrained)
    if name != BUNDLED or init.card.architecture != RESNET50:
        raise BundleError(
            f"{init.card.name}: its trunk is that of {init.card.architecture}; it cannot begin a {name} "
            f"(a bundle can begin a {BUNDLED} alone, if it is one)"
        )
    weights = init.network.state_dict()
    same = init.card.class_names == classes
    if not same:
        weights = {key: tensor for key, tensor in weights.items() if not key.startswith("head.fc3.")}
    network.load_state_dict(weights, strict=same)
    return f"weights of {init.card.name}" + ("" if same else ", its last layer anew for other classes")


def bundled(network: nn.Module, name: str, tile_px: int) -> tuple[TrunkNetwork, dict[str, Any]]:
    """Return a trained network in a bundle's form, with the same logits, and what its card says of the trunk.

    Parameters
    ----------
    network
        Of `build`, in eval mode, on the processor.
    name, tile_px
        As given to `build`.

    Raises
    ------
    BundleError
        If it has no such form; the line says why.
    """
    kind = _find(name)
    if kind.means is not None:
        whole, cell_px = bundled_network(network, kind.means, tile_px)
        return whole, {"architecture": kind.means.architecture, "channels": whole.channels, "cell_px": cell_px}
    if not isinstance(network, DALAResNet50):
        raise BundleError(f"{name}: its last layers see where in a tile something lies, which a bundle's head does not")
    whole = with_even_attention(network) if isinstance(network, DALAResNet50WithoutAttention) else network
    return whole, {"architecture": RESNET50, "channels": whole.channels, "cell_px": CELL_PX}


def _find(name: str) -> _Architecture:
    if name not in _CATALOGUE:
        raise BundleError(f"{name}: there is no network of this name; there are {', '.join(_CATALOGUE)}")
    return _CATALOGUE[name]
