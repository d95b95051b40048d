"""Pictures held in memory: photographs of one field (PNG, JPEG, BMP) and arrays."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError
from napari_dala.slide.base import Level, Slide, SlideFacts, read_inside

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class ImageSlide(Slide):
    """An (h, w, 3) uint8 picture as a slide of one level."""

    is_photograph = True

    def __init__(
        self, pixels: NDArray[np.uint8], path: Path | None = None, mpp: float | tuple[float, float] | None = None
    ) -> None:
        self._pixels = _rgb(np.asarray(pixels), path.name if path else "array")
        height, width = self._pixels.shape[:2]
        identity = None if path else _digest(self._pixels)
        facts = SlideFacts((Level(width, height, 1.0, (512, 512)),), vendor="image", identity=identity)
        super().__init__(path, facts, mpp)

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """See `Slide.read`."""
        return read_inside(
            lambda left, top, right, bottom: self._pixels[top:bottom, left:right],
            (x, y, width, height),
            self.levels[level],
            self.facts.background,
        )


def open_image(path: Path, mpp: float | tuple[float, float] | None = None) -> ImageSlide:
    """Read a PNG, JPEG or BMP file whole."""
    try:
        with Image.open(path) as picture:
            deep = picture.mode.startswith(("I", "F"))
            plain = picture if deep or picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGBA")
            pixels = np.asarray(plain)
    except Exception as error:  # decoders raise what they like
        raise SlideError(f"{path.name}: not a picture that can be read, or damaged") from error
    return ImageSlide(pixels, path, mpp)


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
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
