"""Pictures held in memory: photographs of one field (PNG, JPEG, BMP) and arrays."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError
from napari_dala.slide.base import Level, Slide, SlideFacts, check_size
from napari_dala.slide.colours import over, picture_rgb, upright
from napari_dala.slide.pictures import read_inside

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_BAND_PX = 1 << 22  # turned to RGB at once
_WHITE = (255, 255, 255)
_EXIF_ORIENTATION = 0x0112
_pillow_limit = threading.Lock()


class ImageSlide(Slide):
    """An (h, w, 3) uint8 picture as a slide of one level."""

    is_photograph = True

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        path: Path | None = None,
        mpp: float | tuple[float, float] | None = None,
        icc: bytes | None = None,
    ) -> None:
        self._pixels = _rgb(np.asarray(pixels), path.name if path else "array")
        height, width = self._pixels.shape[:2]
        identity = None if path else _digest(self._pixels)
        facts = SlideFacts((Level(width, height, 1.0, (512, 512)),), vendor="image", identity=identity, icc=icc)
        super().__init__(path, facts, mpp)

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> NDArray[np.uint8]:
        """See `Slide.read`."""
        return read_inside(
            lambda left, top, right, bottom: self._pixels[top:bottom, left:right],
            (x, y, width, height),
            self.levels[level],
            self.facts.background,
        )


def open_image(path: Path, mpp: float | tuple[float, float] | None = None) -> ImageSlide:
    """Read a PNG, JPEG or BMP file whole, the right way up; transparency lies over white, 16-bit RGB becomes 8.

    Raises
    ------
    SlideError
        When it is damaged, larger than memory allows, or grey of more than 8 bits.
    """
    try:
        with _opened(path) as picture:
            # Pillow holds grey and palettes in one byte a pixel, colours in four; ours takes three more.
            bytes_per_px = (1 if len(picture.getbands()) == 1 else 4) + 3
            check_size(f"{path.name}: a picture", picture.size, bytes_per_px)
            if picture.mode.startswith(("I", "F")):
                raise SlideError(f"{path.name}: grey of {picture.mode} pixels; convert the picture to 8-bit RGB")
            picture.load()
            icc = picture.info.get("icc_profile")
            pixels = upright(_in_bands(picture), picture.getexif().get(_EXIF_ORIENTATION, 1))
    except SlideError:
        raise
    except Exception as error:  # decoders raise what they like
        raise SlideError(f"{path.name}: not a picture that can be read, or damaged") from error
    return ImageSlide(pixels, path, mpp, icc)


def _opened(path: Path) -> Image.Image:
    """Open a file by Pillow without its limit on sizes: `check_size` is ours, which knows how many bytes it takes."""
    with _pillow_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _in_bands(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a loaded picture as (h, w, 3) uint8."""
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    rows = max(1, _BAND_PX // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(picture.height, top + rows)
        pixels[top:bottom] = picture_rgb(picture.crop((0, top, picture.width, bottom)), _WHITE)
    return pixels


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _rgb(pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Check for 8 bits; repeat grey, lay transparency over white."""
    if pixels.dtype != np.uint8:
        raise SlideError(f"{name}: {pixels.dtype} pixels; convert the picture to 8-bit RGB")
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or 0 in pixels.shape:
        raise SlideError(f"{name}: shape {pixels.shape} is not a picture; expected (height, width, 3)")
    return pixels if pixels.shape[2] == 3 else over(pixels, _WHITE)
