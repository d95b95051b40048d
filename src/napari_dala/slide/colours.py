"""From pixels as files store them to 8-bit RGB the right way up."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
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
