"""JPEG tiles decoded on a GPU by nvJPEG, through torchvision: only compressed bytes cross the bus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_dala.inference.streams import wait_for

if TYPE_CHECKING:
    from napari_dala.slide import Slide
    from napari_dala.slide.backends.jpeg_tiles import JpegTiles

_END = b"\xff\xd9"
_SAMPLE = 4  # tiles that are decoded both ways before a device is trusted
_TIMED = 64  # tiles by which a device's speed is judged
_SAME_PIXELS = 3.0  # mean difference in grey levels; decoders round and smooth colours in ways of their own


class DeviceDecoder:
    """Rectangles of one level, their tiles decoded on a device; see `device_decoder`.

    Parameters
    ----------
    tiles
        Of the level.
    background
        Colour of what is not there.
    device
        Any that torchvision decodes on: CUDA, or the processor.
    """

    def __init__(self, tiles: JpegTiles, background: tuple[int, int, int], device: torch.device) -> None:
        self._tiles, self._device = tiles, device
        self._background = torch.tensor(background, dtype=torch.uint8, device=device)

    def decode(self, places: list[tuple[int, int]]) -> list[Tensor]:
        """Return tiles (h, w, 3) uint8 by row and column; each must be stored.

        Raises
        ------
        RuntimeError, ValueError
            When one is damaged. nvJPEG does not see all damage that the processor's decoder sees.
        """
        from torchvision.io import ImageReadMode, decode_jpeg  # deprecated since 0.29: one day it will not be there

        compressed = [self._tiles.compressed(*place) for place in places]
        if not all(data.endswith(_END) for data in compressed):
            raise ValueError("a tile that breaks off")
        data = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in compressed]
        return [one.permute(1, 2, 0) for one in decode_jpeg(data, mode=ImageReadMode.RGB, device=self._device)]

    def read(self, box: tuple[int, int, int, int]) -> Tensor:
        """Put a rectangle together on the device; see `JpegTiles.read`."""
        pieces, _ = self._tiles.pieces(box)
        pieces = [piece for piece in pieces if self._tiles.counts[piece.row, piece.column]]
        picture = self._background.repeat(box[3], box[2], 1)
        if pieces:
            for piece, tile in zip(pieces, self.decode([piece[:2] for piece in pieces]), strict=True):
                picture[piece.target] = tile[piece.source]
        return picture


def device_decoder(slide: Slide, level: int, device: torch.device, readers: int = 0) -> DeviceDecoder | None:
    """Return a decoder of a slide's level, None where its tiles are no JPEGs or the device gives other pixels.

    Colours that an ICC profile changes are the processor's too: there is none for the device. With `readers`, there is
    none either where so many of the processor's cores decode as fast.
    """
    tiles: JpegTiles | None = slide.jpeg_tiles[level] if slide.jpeg_tiles else None
    if tiles is None or slide.profile is not None:
        return None
    decoder = DeviceDecoder(tiles, slide.facts.background, device)
    largest = tiles.counts.ravel().argsort()[: -_TIMED - 1 : -1]  # most is to be seen in them
    timed = [divmod(int(place), tiles.counts.shape[1]) for place in largest if tiles.counts.flat[place]]
    places = timed[:_SAMPLE]
    try:
        for place, found in zip(places, decoder.decode(places), strict=True):
            known = torch.tensor(tiles.decode(*place), device=device)
            if found.shape != known.shape or (found.float() - known.float()).abs().mean() > _SAME_PIXELS:
                return None
        if readers:
            for place in timed:
                tiles.compressed(*place)  # now the system has it
            begin = time.perf_counter()
            decoder.decode(timed)
            wait_for(device)
            between = time.perf_counter()
            for place in timed:
                tiles._decode(*place)
            if (between - begin) * readers >= time.perf_counter() - between:
                return None
    except (ImportError, RuntimeError, ValueError, TypeError, OSError):  # no nvJPEG, or not for these JPEGs
        return None
    return decoder if places else None
