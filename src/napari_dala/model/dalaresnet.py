"""DALAResNet50: ResNet-50, a lightweight channel attention at the end of layer4, and a small head.

What follows the trunk is `head.py`'s; Grad-CAM needs no backward pass through the trunk (`gradcam.py`).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision.models import resnet50

from napari_dala.model.head import Head, LightweightAttention
from napari_dala.model.trunks.names import CELL_PX, CHANNELS
from napari_dala.model.trunks.network import TrunkNetwork

__all__ = ["CHANNELS", "STRIDE", "DALAResNet50", "Head", "LightweightAttention"]

STRIDE = CELL_PX
"""Input pixels per cell of the layer4 map, along each axis."""


class DALAResNet50(TrunkNetwork):
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
        resnet = resnet50(weights=None)
        trunk = nn.Sequential(
            OrderedDict((name, part) for name, part in resnet.named_children() if name not in ("avgpool", "fc"))
        )
        super().__init__(trunk, CHANNELS, num_classes, dropout)
