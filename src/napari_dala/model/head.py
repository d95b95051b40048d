"""What follows the trunk: the lightweight channel attention and the small head. Needs torch, but no torchvision.

After the trunk the network sees its map only through the channel means, so `HeadNetwork` can be run, explained and
trained on stored means alone. `TrunkNetwork` is this with a trunk before it.
"""

from __future__ import annotations

from torch import Tensor, nn

from napari_dala.model.trunks.names import CHANNELS

__all__ = ["CHANNELS", "Head", "HeadNetwork", "LightweightAttention"]


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
    """The classifier on channel means: dropout, C -> 512, LeakyReLU (slope 0.01), 512 -> 128, ReLU, 128 -> classes.

    Parameters
    ----------
    num_classes : int
        Number of classes.
    dropout : float
        Probability of dropping a channel mean, in training only.
    channels : int
        Number of channels C.
    """

    def __init__(self, num_classes: int, dropout: float, channels: int = CHANNELS) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(channels, 512)
        self.leaky_relu = nn.LeakyReLU()
        self.fc2 = nn.Linear(512, 128)
        self.relu = nn.ReLU()
        self.fc3 = nn.Linear(128, num_classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for channel means (B, C) after the attention."""
        hidden = self.leaky_relu(self.fc1(self.dropout(pooled)))
        return self.logits(self.relu(self.fc2(hidden)))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for the last hidden values (B, 128).

        Not `fc3(hidden)`: for so few classes MKL's product rounds a tile's logits by the tile's place in the batch.
        """
        return (hidden[:, None] * self.fc3.weight).sum(2) + self.fc3.bias


class HeadNetwork(nn.Module):
    """Attention and head: all of the network that a quick training run changes.

    Parameters
    ----------
    num_classes : int
        Number of classes.
    dropout : float
        Probability of dropping a channel mean before the head, in training only.
    channels : int
        Number of channels C of the trunk's map.

    Attributes
    ----------
    attention : LightweightAttention
        The attention module; the layer Grad-CAM looks at.
    head : Head
        From the channel means of the attention's output to the logits.
    """

    def __init__(self, num_classes: int = 2, dropout: float = 0.25, channels: int = CHANNELS) -> None:
        super().__init__()
        self.attention = LightweightAttention(channels)
        self.head = Head(num_classes, dropout, channels)
        self.num_classes, self.channels = num_classes, channels

    def head_from_means(self, means: Tensor) -> Tensor:
        """Return the logits (B, num_classes) for the channel means (B, C) of the trunk's map.

        Exact, since GAP(F + F * a) = GAP(F) * (1 + a): this is what re-scores a slide from its stored features, and
        what a quick training run fits.
        """
        logits: Tensor = self.head(means * (1 + self.attention.gains(means)))
        return logits
