"""The comparison networks that torchvision lacks, from timm, an extra."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from napari_dala.errors import BundleError

DINOV2 = "vit_base_patch14_dinov2.lvd142m"
_PATCH = 14


class DinoV2(nn.Module):
    """DINOv2's ViT-B/14 with one linear layer (Oquab et al. 2023).

    Tiles are multiples of 32 px, its patches are 14 px: inside, a tile is scaled to the nearest multiple of 14 (128 to
    126; 224 stays), bilinearly with antialiasing.

    Parameters
    ----------
    num_classes
        Number of classes.
    tile_px
        Side of a tile in pixels; the position embedding is made for it.
    """

    def __init__(self, num_classes: int = 2, tile_px: int = 224) -> None:
        super().__init__()
        self.side_px = max(1, round(tile_px / _PATCH)) * _PATCH
        self.vit = _create(DINOV2, num_classes, img_size=self.side_px)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normalised images (B, 3, tile_px, tile_px)."""
        if images.shape[-1] != self.side_px:
            size = [self.side_px, self.side_px]
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        logits: Tensor = self.vit(images)
        return logits


def seresnet50(num_classes: int) -> nn.Module:
    """Return SE-ResNet-50 (Hu et al. 2018): squeeze and excitation in each of ResNet-50's blocks."""
    return _create("seresnet50", num_classes)


def _create(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Return a network of timm with random weights; nothing is looked up or downloaded."""
    if find_spec("timm") is None:
        raise BundleError(f"{name}: this network is timm's, which is not installed: pip install napari-dala[compare]")
    from timm import create_model

    network: nn.Module = create_model(name, pretrained=False, num_classes=num_classes, **options)
    return network
