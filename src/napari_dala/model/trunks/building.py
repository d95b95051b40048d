"""Building a trunk by the architecture on a model's card, with random weights. timm is imported for a trunk of timm's.

A trunk gives a map. Of a transformer that is its patch tokens after the last norm, laid out as they lie in the tile;
the class token and registers are left out, so that what follows sees the map through its channel means alone, and
head-only Grad-CAM is exact.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision import models

from napari_dala.errors import BundleError
from napari_dala.model.dalaresnet import DALAResNet50
from napari_dala.model.trunks.names import RESNET50, TIMM, timm_parts
from napari_dala.model.trunks.network import TrunkNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchvision.models import VisionTransformer

_CLASSIFIERS = {RESNET50: "fc", "densenet121": "classifier", "swin_t": "head", "vit_b_16": "heads"}
_BEHIND = ("avgpool", "flatten", *_CLASSIFIERS.values())  # the trunk


class OneSize(nn.Module):
    """A trunk that is made for tiles of one size, as a transformer's position embedding is.

    Attributes
    ----------
    tile_px : int
        Side of a tile; 0 for any.
    """

    tile_px = 0

    def check(self, images: Tensor) -> None:
        """Raise BundleError where images are of another size."""
        if self.tile_px and tuple(images.shape[2:]) != (self.tile_px, self.tile_px):
            high, wide = images.shape[2:]
            raise BundleError(
                f"this model's trunk takes squares of {self.tile_px} px, not {wide} x {high} px; use `dala analyze`, "
                "which cuts a picture into such tiles"
            )


class TorchvisionViT(OneSize):
    """The patch tokens of torchvision's ViT as a map; made of the network, whose parts it shares."""

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.tile_px = int(network.image_size)
        self.conv_proj, self.class_token, self.encoder = network.conv_proj, network.class_token, network.encoder

    def forward(self, images: Tensor) -> Tensor:
        """Return the map (B, C, h, w) of images (B, 3, tile_px, tile_px)."""
        self.check(images)
        patches: Tensor = self.conv_proj(images)
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = self.encoder(torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], 1))
        maps: Tensor = tokens[:, 1:].transpose(1, 2).unflatten(2, patches.shape[2:])
        return maps


class TimmTrunk(OneSize):
    """The last map of a network of timm's, or its patch tokens as one; made of the network, which it holds."""

    def __init__(self, network: nn.Module, tile_px: int = 0) -> None:
        super().__init__()
        self.tile_px = tile_px
        self.body = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the map (B, C, h, w) of images (B, 3, H, W)."""
        self.check(images)
        body: Any = self.body
        found: Tensor = body.forward_features(images)
        if found.ndim == 3:  # tokens (B, n, C), the class token and registers first
            found = found[:, getattr(body, "num_prefix_tokens", 0) :]
            side = math.isqrt(found.shape[1])
            maps: Tensor = found.transpose(1, 2).unflatten(2, (side, -1))
            return maps
        return found.permute(0, 3, 1, 2) if getattr(body, "output_fmt", "NCHW") == "NHWC" else found


def build_trunk(architecture: str, tile_px: int) -> nn.Module:
    """Return a trunk with random weights; see `library_network`."""
    return trunk_of(library_network(architecture, tile_px))


def trunk_of(network: Any) -> nn.Module:
    """Return the trunk of a classifier of torchvision's or timm's, whose parts it shares."""
    if hasattr(network, "forward_features"):
        is_one_size = network.pretrained_cfg.get("fixed_input_size") and hasattr(network, "patch_embed")
        return TimmTrunk(network, network.patch_embed.img_size[0] if is_one_size else 0)
    if isinstance(network, models.VisionTransformer):
        return TorchvisionViT(network)
    if isinstance(network, models.DenseNet):
        return nn.Sequential(OrderedDict([*network.features.named_children(), ("relu", nn.ReLU())]))
    return nn.Sequential(OrderedDict((name, part) for name, part in network.named_children() if name not in _BEHIND))


def library_network(architecture: str, tile_px: int) -> nn.Module:
    """Return the network that a trunk is part of, as torchvision or timm has and names it, without its classifier.

    Parameters
    ----------
    architecture : str
        See `names`.
    tile_px : int
        Side of the tiles that it is made for, pixels.

    Raises
    ------
    BundleError
        If there is no such network, it does not take tiles of this size, or it is timm's and timm is not installed.
    """
    if architecture.startswith(TIMM):
        return timm_network(architecture, tile_px)
    if architecture not in _CLASSIFIERS:
        raise BundleError(f"{architecture}: there is no trunk of this name")
    name = "resnet50" if architecture == RESNET50 else architecture
    side = {"image_size": tile_px} if architecture == "vit_b_16" else {}
    try:
        network: nn.Module = models.get_model(name, weights=None, **side)
    except AssertionError as error:  # torchvision's way to say it
        raise BundleError(f"{architecture}: it does not take tiles of {tile_px} px ({error})") from None
    setattr(network, _CLASSIFIERS[architecture], nn.Identity())
    return network


def timm_network(architecture: str, tile_px: int, num_classes: int = 0, **options: Any) -> nn.Module:
    """Return a network of timm's with random weights; nothing is looked up or downloaded.

    Parameters
    ----------
    architecture : str
        timm/NAME or timm/NAME?option=value, see `names.timm_parts`.
    tile_px : int
        Side of the tiles; only a network that is made for one size takes note of it.
    num_classes : int
        Of its own classifier; 0 for none.
    **options
        Of timm's `create_model`, besides those of the architecture.

    Raises
    ------
    BundleError
        If timm is not installed, knows no such network, or cannot make it so.
    """
    if find_spec("timm") is None:
        raise BundleError(
            f"{architecture}: this network is timm's, which is not installed: pip install 'napari-dala[trunks]'"
        )
    import timm

    try:
        name, further = timm_parts(architecture)
    except ValueError as error:
        raise BundleError(f"{architecture[:100]}: {error}") from None
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "timm.list_models() lists all"
        raise BundleError(f"{architecture}: timm {timm.__version__} has no network {name}; there are {near}")
    stem = further.pop("stem", None)
    known = timm.models.get_pretrained_cfg(name)
    if known is not None and known.fixed_input_size:
        options["img_size"] = tile_px
    if "mlp_layer" in further:
        further["mlp_layer"] = getattr(timm.layers, further["mlp_layer"])
    try:
        network: Any = timm.create_model(name, pretrained=False, num_classes=num_classes, **further, **options)
        if stem == "convolutional":
            network.patch_embed.proj = convolutional_stem(network.embed_dim)
    except Exception as error:  # what timm's networks raise for options that do not fit them is not agreed upon
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{architecture}: timm cannot build it for tiles of {tile_px} px ({reason})") from None
    made: nn.Module = network
    return made


def convolutional_stem(channels: int) -> nn.Sequential:
    """Return what CTransPath (Wang et al. 2022, doi 10.1016/j.media.2022.102559) has in place of Swin's 4 x 4 patches.

    Two 3 x 3 convolutions of stride 2 with batch norm and ReLU, of an eighth and a quarter of the channels, and one of
    1 x 1.
    """
    parts: list[nn.Module] = []
    before = 3
    for width in (channels // 8, channels // 4):
        parts += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        before = width
    return nn.Sequential(*parts, nn.Conv2d(before, channels, 1))


def map_size(architecture: str, tile_px: int) -> tuple[int, int]:
    """Return the channels of a trunk's map and the side of its cells in pixels, without arithmetic.

    Raises
    ------
    BundleError
        If it cannot be built, or its map is not one of square cells that fill the tile.
    """
    with torch.device("meta"):
        return size_of_map(build_trunk(architecture, tile_px).eval(), architecture, tile_px)


def size_of_map(trunk: nn.Module, architecture: str, tile_px: int) -> tuple[int, int]:
    """Return the same of a trunk that is built, on the meta device."""
    with torch.device("meta"), torch.no_grad():
        try:
            _, channels, high, wide = trunk(torch.empty(1, 3, tile_px, tile_px)).shape
        except Exception as error:  # nor what they raise for a tile that is too small
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BundleError(f"{architecture}: it gives no map of a tile of {tile_px} px ({reason})") from None
    if high != wide or high * (tile_px // high) != tile_px:
        raise BundleError(
            f"{architecture}: a tile of {tile_px} px is no whole number of its cells ({wide} x {high}); choose another "
            "tile side (--tile-px, the field Tile side)"
        )
    return channels, tile_px // high


def build_network(architecture: str, channels: int, tile_px: int, num_classes: int) -> TrunkNetwork:
    """Return trunk, attention and head with random weights; see `build_trunk`."""
    if architecture == RESNET50:
        return DALAResNet50(num_classes)
    return TrunkNetwork(build_trunk(architecture, tile_px), channels, num_classes)


def unfilled(network: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Tell whether a network computes with buffers that no weights fill: one on the meta device lacks them."""
    return any(name not in weights and buffer.ndim > 0 for name, buffer in network.named_buffers())
