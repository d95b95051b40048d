"""DALAResNet50: ResNet-50, a lightweight channel attention at the end of layer4, and a small head.

After layer4 the network sees its features only through their channel means. `head_from_means` is therefore the rest
of the network, exactly, and Grad-CAM needs no backward pass through the trunk (`gradcam.py`).
"""

from __future__ import annotations

from collections import OrderedDict

from napari_dala.model import triton_first  # noqa: F401  (before torchvision)

# isort: split
from torch import Tensor, nn
from torchvision.models import resnet50

CHANNELS = 2048
"""Channels of ResNet-50's layer4."""

STRIDE = 32
"""Input pixels per cell of the layer4 map, along each axis."""


class LightweightAttention(nn.Module):
    """Weigh each channel by a gain learned from all channel means, and fuse the result with the input.

    With z = GAP(F) and a = sigmoid(W z + b), the output is F + F * a. The paper (arXiv 2308.13150) names the steps
    (channel-wise average pooling, linear transformation, element-wise multiplication, feature fusion); the formula
    is this project's reading of it.

    Parameters
    ----------
    channels : int
        Number of channels C of the map.
    """

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def gains(self, means: Tensor) -> Tensor:
        """Return the channel weights a, in (0, 1), for channel means of shape (B, C)."""
        gains: Tensor = self.fc(means).sigmoid()
        return gains

    def forward(self, features: Tensor) -> Tensor:
        """Return F + F * a for a map F of shape (B, C, h, w)."""
        return features + features * self.gains(features.mean((2, 3)))[:, :, None, None]


class Head(nn.Module):
    """The classifier on channel means: dropout, 2048 -> 512, LeakyReLU (slope 0.01), 512 -> 128, ReLU, 128 -> classes.

    Parameters
    ----------
    num_classes : int
        Number of classes.
    dropout : float
        Probability of dropping a channel mean, in training only.
    """

    def __init__(self, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(CHANNELS, 512)
        self.leaky_relu = nn.LeakyReLU()
        self.fc2 = nn.Linear(512, 128)
        self.relu = nn.ReLU()
        self.fc3 = nn.Linear(128, num_classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for channel means (B, 2048) after the attention."""
        hidden = self.leaky_relu(self.fc1(self.dropout(pooled)))
        logits: Tensor = self.fc3(self.relu(self.fc2(hidden)))
        return logits


class DALAResNet50(nn.Module):
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
    attention : LightweightAttention
        The attention module; the layer Grad-CAM looks at.
    head : Head
        From the channel means of the attention's output to the logits.
    """

    def __init__(self, num_classes: int = 2, dropout: float = 0.25) -> None:
        super().__init__()
        resnet = resnet50(weights=None)
        self.trunk = nn.Sequential(
            OrderedDict((name, part) for name, part in resnet.named_children() if name not in ("avgpool", "fc"))
        )
        self.attention = LightweightAttention(CHANNELS)
        self.head = Head(num_classes, dropout)
        self.num_classes = num_classes

    def features(self, images: Tensor) -> Tensor:
        """Return layer4's map before the attention, (B, 2048, H/32, W/32), for normalised images (B, 3, H, W)."""
        features: Tensor = self.trunk(images)
        return features

    def head_from_means(self, means: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for the channel means (B, 2048) of layer4 before the attention.

        Exact, since GAP(F + F * a) = GAP(F) * (1 + a): this is what re-scores a slide from its stored features, and
        what a quick training run fits.
        """
        logits: Tensor = self.head(means * (1 + self.attention.gains(means)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for normalised images (B, 3, H, W), float."""
        logits: Tensor = self.head(self.attention(self.features(images)).mean((2, 3)))
        return logits
