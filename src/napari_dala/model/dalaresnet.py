"""DALAResNet50: ResNet-50, a lightweight channel attention at the end of layer4, and a small head.

What follows the trunk is `head.py`'s; Grad-CAM needs no backward pass through the trunk (`gradcam.py`).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import resnet50

from napari_dala.model.head import CHANNELS, Head, HeadNetwork, LightweightAttention

__all__ = ["CHANNELS", "STRIDE", "DALAResNet50", "Head", "LightweightAttention"]

STRIDE = 32
"""Input pixels per cell of the layer4 map, along each axis."""


class DALAResNet50(HeadNetwork):
    """The classifier of arXiv 2308.13150: trunk, attention and head.

    Parameters
    ----------
    num_classes : int
        Number of classes.
    dropout : float
        Probability of dropping a channel mean before the head, in training only.

    Attributes
    ----------
    trunk : nn.Sequential
        ResNet-50 from conv1 to layer4, named as in torchvision; random weights.
    attention, head
        See `HeadNetwork`.
    """

    def __init__(self, num_classes: int = 2, dropout: float = 0.25) -> None:
        resnet = resnet50(weights=None)  # first: a seed gives each part its weights in the network's order
        super().__init__(num_classes, dropout)
        self.trunk = nn.Sequential(
            OrderedDict((name, part) for name, part in resnet.named_children() if name not in ("avgpool", "fc"))
        )

    def features(self, images: Tensor) -> Tensor:
        """Return layer4's map before the attention, (B, 2048, H/32, W/32), for normalised images (B, 3, H, W)."""
        features: Tensor = self.trunk(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for normalised images (B, 3, H, W), float."""
        logits: Tensor = self.head(self.attention(self.features(images)).mean((2, 3)))
        return logits
