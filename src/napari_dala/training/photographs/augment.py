"""From a photograph to tiles: random ones to train on, fixed ones to be judged on. All uint8, (3, h, w) RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from skimage.color import rgb_from_hed
from torch import Tensor, nn
from torchvision.transforms import v2

from napari_dala.errors import DatasetError, SlideError
from napari_dala.slide.open import read_rgb

if TYPE_CHECKING:
    from pathlib import Path

Strength: TypeAlias = Literal["none", "stains", "mild", "strong"]

_LEFT_OUT = 0.13  # of a square, along each axis


def read_photograph(path: Path, *, icc_profile: bool = True) -> Tensor:
    """Return an image file's pixels as analysis sees them (see `read_rgb`), (3, h, w) uint8.

    Raises
    ------
    DatasetError
        If it cannot be read, or is no picture that analysis would take; one line.
    """
    try:
        pixels = read_rgb(path, icc_profile=icc_profile)
    except SlideError as error:
        raise DatasetError(f"{path}: {str(error).removeprefix(f'{path.name}: ')}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class RandomSquare(nn.Module):
    """Cut a square of random place and size out of an image and scale it to a tile.

    Parameters
    ----------
    square_px : float
        Side of a square at the right scale, in the image's pixels.
    tile_px : int
        Side of the tile.
    scale : float
        The smallest square's side is this part of `square_px`, the largest's is as much larger, and all between are as
        likely; none is larger than the image's shorter side.
    """

    def __init__(self, square_px: float, tile_px: int, scale: float = 0.8) -> None:
        super().__init__()
        self.square_px, self.tile_px, self.scale = square_px, tile_px, scale

    def forward(self, image: Tensor) -> Tensor:
        """Return a tile (3, tile_px, tile_px) of an image (3, h, w)."""
        height, width = image.shape[-2:]
        size, down, right = torch.rand(3).tolist()
        shorter = min(height, width)
        smallest, largest = min(self.square_px, shorter) * self.scale, min(self.square_px / self.scale, shorter)
        side = round(smallest * (largest / smallest) ** size)
        top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
        return _scaled(image[..., top : top + side, left : left + side], self.tile_px)


class RandomDihedral(nn.Module):
    """Mirror and turn a square image by a multiple of 90 degrees: tissue has no upright."""

    def forward(self, image: Tensor) -> Tensor:
        """Return one of the eight views of an image (3, h, h), each as likely."""
        turns, mirrored = divmod(int(torch.randint(8, ()).item()), 2)
        return torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))


class StainJitter(nn.Module):
    """Vary the amounts of haematoxylin, eosin and residual: s' = s a + b for each stain s, with random a and b.

    The image is taken apart by colour deconvolution (Ruifrok and Johnston 2001, with their stain vectors); the
    perturbation is that of Tellez et al. 2018 (doi 10.1109/TMI.2018.2820199). Stains are optical densities to base 10.

    Parameters
    ----------
    strength : float
        a is uniform in 1 - strength to 1 + strength.
    shift : float
        b is uniform in -shift to shift: a large one tints the bare glass more than laboratories do.
    """

    def __init__(self, strength: float = 0.15, shift: float = 0.075) -> None:
        super().__init__()
        self.strength, self.shift = strength, shift
        self._rgb_from_hed = torch.tensor(rgb_from_hed, dtype=torch.float32)
        self._hed_from_rgb = torch.linalg.inv(self._rgb_from_hed)

    def forward(self, image: Tensor) -> Tensor:
        """Return the image (3, h, w) uint8, stained otherwise."""
        scale, shift = (torch.rand(2, 3) * 2 - 1) * torch.tensor([[self.strength], [self.shift]])
        # In one matrix: density -> stains -> perturbed stains -> density.
        matrix = self._hed_from_rgb @ ((1 + scale)[:, None] * self._rgb_from_hed)
        offset = shift @ self._rgb_from_hed
        density = -torch.log10((image.float() + 1) / 256)
        density = torch.einsum("chw,cd->dhw", density, matrix) + offset[:, None, None]
        return (torch.pow(10, -density) * 256 - 1).round().clamp(0, 255).to(torch.uint8)


_COLOURS: dict[Strength, tuple[nn.Module, ...]] = {
    "none": (),
    "stains": (StainJitter(0.35, 0.0),),
    "mild": (StainJitter(0.15), v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.03)),
    "strong": (StainJitter(0.15), v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.08)),
}


def for_training(strength: Strength = "stains") -> nn.Module:
    """Return the augmentation of a square tile: turned and mirrored, its stains and colours varied.

    All randomness is from torch's global generator, so that a seed fixes the result.

    Parameters
    ----------
    strength
        "none" leaves stains and colours, "stains" makes haematoxylin and eosin stronger or weaker by up to 35 % each,
        "mild" varies both as laboratories differ, "strong" more than they do, so that colour tells little.
    """
    pipeline: nn.Module = v2.Compose([RandomDihedral(), *_COLOURS[strength]])
    return pipeline


def for_tiles(tile_px: int) -> nn.Module:
    """Return the augmentation of tiles, whose resolution is known: scaled a little, turned and mirrored, restained.

    Random as `for_training` is. Takes and gives (3, tile_px, tile_px) uint8.
    """
    pipeline: nn.Module = v2.Compose([RandomSquare(tile_px, tile_px, scale=0.9), RandomDihedral(), StainJitter()])
    return pipeline


def for_evaluation(image: Tensor, square_px: float, tile_px: int = 224) -> Tensor:
    """Return the squares that cover a photograph, evenly spaced from edge to edge, as tiles (n, 3, tile_px, tile_px).

    A photograph of 700 x 460 pixels gives two squares of 460 and six of 224. What is smaller than a square, down to
    half of one, is made as large by mirroring its edges. At most an eighth of a square is left out along an axis
    rather than covered by one more.
    """
    side = round(square_px)
    image = mirrored(image, side)
    height, width = image.shape[-2:]
    return torch.stack(
        [
            _scaled(image[..., top : top + side, left : left + side], tile_px)
            for top in _starts(height, side)
            for left in _starts(width, side)
        ]
    )


def mirrored(image: Tensor, side: int) -> Tensor:
    """Return an image (3, h, w), made at least so large by mirroring its edges; at most threefold."""
    lacking = [max(0, side - length) for length in image.shape[:0:-1]]
    if not any(lacking):
        return image
    before = [length // 2 for length in lacking]
    ends = [before[0], lacking[0] - before[0], before[1], lacking[1] - before[1]]
    return nn.functional.pad(image[None].float(), ends, mode="reflect")[0].to(torch.uint8)


def _starts(length: int, side: int) -> list[int]:
    count = max(1, int(np.ceil(length / side - _LEFT_OUT)))
    return [round(start) for start in np.linspace(0, length - side, count)] if count > 1 else [(length - side) // 2]


def _scaled(square: Tensor, tile_px: int) -> Tensor:
    scaled: Tensor = v2.functional.resize(square, [tile_px, tile_px], antialias=True)
    return scaled
