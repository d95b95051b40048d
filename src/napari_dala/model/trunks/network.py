"""A trunk with attention and head behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.model.head import HeadNetwork

if TYPE_CHECKING:
    from torch import Tensor, nn


class TrunkNetwork(HeadNetwork):
    """Any trunk, the lightweight attention and the small head; `DALAResNet50` is this on ResNet-50.

    Parameters
    ----------
    trunk : nn.Module
        Takes normalised images (B, 3, H, W) and gives a map (B, channels, h, w).
    channels : int
        Of the map.
    num_classes, dropout
        See `HeadNetwork`.
    """

    def __init__(self, trunk: nn.Module, channels: int, num_classes: int = 2, dropout: float = 0.25) -> None:
        super().__init__(num_classes, dropout, channels)
        self.trunk = trunk

    def features(self, images: Tensor) -> Tensor:
        """Return the trunk's map, before the attention, (B, channels, h, w), for normalised images (B, 3, H, W)."""
        features: Tensor = self.trunk(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for normalised images (B, 3, H, W), float."""
        logits: Tensor = self.head(self.attention(self.features(images)).mean((2, 3)))
        return logits
