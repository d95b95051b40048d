"""VGG16 and Inception in one network, one of the paper's comparisons."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

_TRUNK = 24  # modules of torchvision's VGG16, to the end of its fourth pooling


class NaiveInception(nn.Module):
    """Convolutions of 1, 3 and 5 px and a pooling of 3 px side by side (Szegedy et al. 2015, figure 2a).

    Parameters
    ----------
    channels
        Of the input.
    widths
        Channels of the three convolutions.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, width, size, padding="same") for width, size in zip(widths, (1, 3, 5), strict=True)
        )
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.out_channels = channels + sum(widths)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, out_channels, h, w) of maps (B, channels, h, w)."""
        parts = [torch.relu(convolution(maps)) for convolution in self.convolutions]
        return torch.cat([*parts, self.pool(maps)], dim=1)


class VGG16Inception(nn.Module):
    """VGG16 up to its fourth pooling, a naive Inception block, batch norm, dropout and one linear layer.

    The paper names the hybrid and does not describe it. This is VGGIN-Net (Saini and Susan 2022, doi
    10.1109/TCBB.2022.3163277), which was made for BreakHis: the block's widths are 64, 128 and 32, its maps are laid
    flat, dropout is 0.4. There the VGG part is frozen; here it is trained like the rest, as in every other network.

    Parameters
    ----------
    num_classes
        Number of classes.
    tile_px
        Side of a tile in pixels, at least 16; the linear layer is made for it.
    """

    def __init__(self, num_classes: int = 2, tile_px: int = 224) -> None:
        super().__init__()
        self.features = make_layers(cfgs["D"])[:_TRUNK]
        for layer in self.features:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:  # as torchvision's VGG begins
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.inception = NaiveInception(512, (64, 128, 32))
        self.norm = nn.BatchNorm2d(self.inception.out_channels)
        self.dropout = nn.Dropout(0.4)
        self.classifier = nn.Linear(self.inception.out_channels * (tile_px // 16) ** 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normalised images (B, 3, tile_px, tile_px)."""
        maps = self.norm(self.inception(self.features(images)))
        logits: Tensor = self.classifier(self.dropout(maps.flatten(1)))
        return logits
