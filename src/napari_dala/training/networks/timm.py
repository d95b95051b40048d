"""The comparison networks that torchvision lacks, from timm, an extra."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from napari_dala.model.trunks.building import timm_network
from napari_dala.model.trunks.names import NAMED

DINOV2 = "vit_base_patch14_dinov2.lvd142m"
_PATCH = 14


class DinoV2(nn.Module):
    """DINOv2's ViT-B/14 with one linear layer on the mean of its patch tokens (Oquab et al. 2023).

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
        options = {"global_pool": "avg", "fc_norm": False}
        self.vit = timm_network(NAMED["dinov2_vitb14"], self.side_px, num_classes, **options)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normalised images (B, 3, tile_px, tile_px)."""
        if images.shape[-1] != self.side_px:
            size = [self.side_px, self.side_px]
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        logits: Tensor = self.vit(images)
        return logits


def seresnet50(num_classes: int) -> nn.Module:
    """Return SE-ResNet-50 (Hu et al. 2018): squeeze and excitation in each of ResNet-50's blocks."""
    return timm_network(NAMED["seresnet50"], 224, num_classes)
