"""Pixels of a slide at the model's resolution, resampled by torch: on the processor 5 times as fast as Pillow.

Where a level of JPEG tiles is far more than twice as fine as the model, they are decoded at half size. At a quarter, or
at half size for exactly twice as fine, probabilities would change by more than 0.01 (`docs/decisions.md`).
"""

from __future__ import annotations

from copy import copy
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from napari_dala.inference.jpeg_decoder import device_decoder
from napari_dala.slide.tiles import mirrored_at_edge

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from napari_dala.slide import Slide
    from napari_dala.slide.tiles import TileGrid

_FINER_THAN_A_HALF = 1.25  # model px per px of a level at half size: what follows smooths as decoding in full would
_MARGIN = 16  # model px; so many starts are tried for one that falls on a whole pixel of the slide


class Sampler:
    """Reads neighbouring tiles as one picture, as `read_tiles` does, but with torch and onto a device.

    torch resamples from whole pixels on. Of the model pixels just before a picture the one is taken as its start that
    lies nearest to a whole pixel of the slide's level: a picture is off by less than half a pixel of that level, mostly
    by less than a thirtieth, and by the same in every run.

    Parameters
    ----------
    slide, grid
        What to read, and where its tiles lie.
    device
        Where pictures are resampled and left if it is a CUDA device; else that is done on the processor.
    decode_on_device
        Whether JPEG tiles are decoded there too, where that can be had. Damage within a tile may then go unnoticed,
        and pixels differ by some grey levels: resume a run as it was begun.
    readers
        How many cores would decode instead; see `device_decoder`, which makes `decoder`.
    """

    def __init__(
        self, slide: Slide, grid: TileGrid, device: torch.device, *, decode_on_device: bool = False, readers: int = 0
    ) -> None:
        self.grid, self.slide = grid, slide.with_halves()
        self._read_into: Callable[[NDArray[np.uint8], int, int, int], None] = self.slide.read_into
        self.device = device if device.type == "cuda" else torch.device("cpu")
        self._level = slide.level_for(min(grid.scale))
        self.decoder = device_decoder(slide, self._level, self.device, readers) if decode_on_device else None
        if self.decoder is None:
            halved = self.slide.level_for(min(grid.scale) / _FINER_THAN_A_HALF)
            if self.slide.levels[halved].downsample > 1.01 * self.slide.levels[self._level].downsample:
                self._level = halved
        self._down = self.slide.levels[self._level].downsample
        self._scale = grid.scale[0] / self._down, grid.scale[1] / self._down  # level px per model px

    def by(self, read_into: Callable[[NDArray[np.uint8], int, int, int], None]) -> Sampler:
        """Return the same with another way to read the slide, by the parameters of `Slide.read_into`."""
        other = copy(self)
        other._read_into = read_into
        return other

    def picture(self, row: int, column: int, rows: int, columns: int) -> Tensor:
        """Read neighbouring tiles; parameters, shape and errors are those of `read_tiles`."""
        *start, width, height = self.grid.box(row, column, rows, columns)
        if max(abs(scale - 1) for scale in self._scale) * max(width, height) < 1e-3:
            left, top = (round(at * scale) for at, scale in zip(start, self._scale, strict=True))
            return self._read(left, top, width, height)
        (left, before), (top, above) = (_start(at, scale) for at, scale in zip(start, self._scale, strict=True))
        needed = (width + _MARGIN + 1, height + _MARGIN + 1)
        wide, high = (ceil(size * scale) + 1 for size, scale in zip(needed, self._scale, strict=True))
        picture = resampled(self._read(left, top, wide, high), self._scale)
        return picture[above : above + height, before : before + width]

    def _read(self, left: int, top: int, width: int, height: int) -> Tensor:
        """Return pixels of the level, by the place of the first."""
        pixels: Tensor = mirrored_at_edge(
            self._read_level(left, top, width, height), self.grid, self.slide.levels[self._level], left, top
        )
        return pixels

    def _read_level(self, left: int, top: int, width: int, height: int) -> Tensor:
        if self.decoder is not None:
            try:
                return self.decoder.read((left, top, width, height))
            except (RuntimeError, ValueError):
                pass  # the slide says what is wrong with it, if anything is
        x, y = round(left * self._down), round(top * self._down)
        on_device = self.device.type == "cuda"
        picture = torch.empty((height, width, 3), dtype=torch.uint8, pin_memory=on_device)
        self._read_into(picture.numpy(), x, y, self._level)
        return picture.to(self.device, non_blocking=True)


def _start(first: int, scale: float) -> tuple[int, int]:
    """Return the pixel of the level to read from for a model pixel, and how many model pixels lie before that one."""
    _, before = min((abs((first - n) * scale - round((first - n) * scale)), n) for n in range(1, _MARGIN + 1))
    return round((first - before) * scale), before


def resampled(pixels: Tensor, scale: tuple[float, float]) -> Tensor:
    """Resample a picture from its first pixel's edge on, with a triangle filter as wide as a new pixel (as Pillow's).

    Parameters
    ----------
    pixels
        (h, w, 3) uint8.
    scale
        Old pixels per new one (x, y).

    Returns
    -------
    (floor(h / scale y), floor(w / scale x), 3) uint8
    """
    picture = pixels.permute(2, 0, 1)[None]
    if pixels.device.type != "cpu":
        picture = picture.float()  # only the processor does it in integers
    new = functional.interpolate(picture, scale_factor=(1 / scale[1], 1 / scale[0]), mode="bilinear", antialias=True)
    return (new.round_().byte() if new.is_floating_point() else new)[0].permute(1, 2, 0)
