"""From pixels as pictures and TIFF files store them to 8-bit RGB the right way up."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, ImageCms

from napari_dala.errors import SlideError

if TYPE_CHECKING:
    import tifffile
    from numpy.typing import NDArray

    _Value = TypeVar("_Value", bound=np.generic)

# TIFF's and EXIF's Orientation: columns and rows change places first, then columns, then rows are reversed.
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def over(rgba: NDArray[np.uint8], background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Lay a picture with transparency, (h, w, 4) uint8, over a colour: (h, w, 3) uint8."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.size and alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    below = np.asarray(background, np.uint16) * (255 - alpha)
    return ((rgba[..., :3] * alpha + below + 127) // 255).astype(np.uint8)


def is_turned(orientation: int) -> bool:
    """Return whether width and height change places by a TIFF or EXIF orientation."""
    return _TURNS.get(orientation, _TURNS[1])[0]


def upright(pixels: NDArray[_Value], orientation: int) -> NDArray[_Value]:
    """Turn and mirror a picture (h, w, ...) as its TIFF or EXIF orientation, 1 to 8, asks; a view."""
    turned, across, down = _TURNS.get(orientation, _TURNS[1])
    pixels = pixels.swapaxes(0, 1) if turned else pixels
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def stored_box(box: tuple[int, int, int, int], size: tuple[int, int], orientation: int) -> tuple[int, int, int, int]:
    """Return where a file stores a rectangle (x, y, width, height) of an upright picture of that width and height."""
    (x, y, width, height), (turned, across, down) = box, _TURNS.get(orientation, _TURNS[1])
    x = size[0] - x - width if across else x
    y = size[1] - y - height if down else y
    return (y, x, height, width) if turned else (x, y, width, height)


def picture_rgb(picture: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a Pillow picture of any 8-bit mode, transparency over a colour, as (h, w, 3) uint8."""
    if picture.mode == "LAB":  # Pillow converts it by colour profiles only
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB"))
    if picture.has_transparency_data:
        return over(np.asarray(picture.convert("RGBA")), background)
    return np.asarray(picture.convert("RGB"))


_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS, _YCBCR, _LAB, _ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
_KEPT_AS_RGB = {7, 34892, 50001, 50002, 52546}  # compressions that leave YCbCr themselves: JPEG, WebP, JPEG XL
_ALPHA = {1: ("RGBa", "La"), 2: ("RGBA", "LA")}  # Pillow's modes of premultiplied and plain transparency


class TiffColours:
    """How the samples of a TIFF page become RGB, as Pillow and libtiff have it.

    Parameters
    ----------
    name
        The file's, for errors.
    page
        Of 8-bit samples, of grey or palette with fewer bits, or of 16-bit RGB, whose upper 8 bits are taken.
    planes
        How many such pages make up a picture: red, green and blue one each, or 1.

    Raises
    ------
    SlideError
        When its samples are no colours, or colours that are not understood.
    """

    def __init__(self, name: str, page: tifffile.TiffPage, planes: int = 1) -> None:
        self._bits, kind, samples = page.bitspersample, int(page.photometric), page.samplesperpixel
        extra = int(page.extrasamples[0]) if page.extrasamples else 0
        self._lookup: NDArray[np.uint8] | None = None
        self._mode: str | None = None
        narrow = self._bits in (1, 2, 4, 8) if samples == planes == 1 and kind in (0, 1, 3) else self._bits == 8
        wide = self._bits == 16 and kind == _RGB and planes == 1
        if int(page.sampleformat) != 1 or not (narrow or wide):
            form = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(int(page.sampleformat), "odd")
            raise SlideError(
                f"{name}: {self._bits}-bit {form} samples, {samples * planes} a pixel; a slide is 8-bit RGB or grey"
            )
        if planes == 3 and samples == 1:
            self._mode = "RGB"
        elif samples == 1 and kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
            ramp = np.round(np.linspace(0, 255, 1 << self._bits)).astype(np.uint8)
            self._lookup = np.repeat((ramp[::-1] if kind == _WHITE_IS_ZERO else ramp)[:, None], 3, axis=1)
        elif samples == 1 and kind == _PALETTE and page.colormap is not None:
            shift = 8 if page.colormap.max() > 255 else 0  # some write 8 bits
            self._lookup = (page.colormap.T >> shift).astype(np.uint8)
        elif kind == _RGB and samples >= 3:
            self._mode = _ALPHA[extra][0] if samples > 3 and extra in _ALPHA else "RGB"
        elif kind == _BLACK_IS_ZERO and samples == 2 and extra in _ALPHA:
            self._mode = _ALPHA[extra][1]
        elif kind == _INKS and samples == 4:
            self._mode = "CMYK"
        elif kind == _YCBCR and samples == 3:
            self._mode = "RGB" if int(page.compression) in _KEPT_AS_RGB else "YCbCr"
        elif kind in (_LAB, _ICC_LAB) and samples == 3:
            self._mode = "LAB"
        else:
            space = getattr(page.photometric, "name", kind)
            raise SlideError(f"{name}: {samples} samples of colour space {space}; a slide is 8-bit RGB or grey")
        self._unsigned = kind == _ICC_LAB

    def rgb(self, samples: NDArray[np.generic], background: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return (h, w, 3) uint8 of (h, w, samples), transparency over a colour."""
        if self._lookup is not None:
            return self._lookup[samples[..., 0].astype(np.uint8)]
        if self._bits == 16:
            samples = samples.astype(np.uint16) >> 8
        pixels = samples.astype(np.uint8, copy=False)
        if self._mode == "RGB":
            return np.ascontiguousarray(pixels[..., :3])
        assert self._mode is not None
        if self._unsigned:
            pixels = pixels ^ np.array([0, 128, 128], np.uint8)  # Pillow takes a* and b* as the other Lab has them
        bands = pixels[..., : len(self._mode) if self._mode != "YCbCr" else 3]
        size = pixels.shape[1], pixels.shape[0]
        return picture_rgb(Image.frombytes(self._mode, size, bands.tobytes()), background)
