"""ICC profiles whose effect is known, drawn byte by byte (ICC.1:2001): primaries, one gamma, Bradford's D50 white."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray

D50 = (0.9642, 1.0, 0.8249)
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)  # sRGB's, in D50


def profile(
    red: tuple[float, ...] = RED,
    green: tuple[float, ...] = GREEN,
    blue: tuple[float, ...] = BLUE,
    *,
    gamma: float = 2.2,
    space: bytes = b"RGB ",
) -> bytes:
    """Return a scanner's profile (matrix and tone curve, version 2.1)."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", 8) + b"a drawn\0" + b"\0" * 76
    tags = {
        b"desc": name + b"\0" * (-len(name) % 4),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": _xyz(D50),
        **{b"rXYZ": _xyz(red), b"gXYZ": _xyz(green), b"bXYZ": _xyz(blue)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), curve),
    }
    first = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", first + len(body), len(data))
        body += data
    head = struct.pack(">I4xI", first + len(body), 0x02100000) + b"scnr" + space + b"XYZ "
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _fixed(D50)
    return head.ljust(128, b"\0") + table + body


def _fixed(values: tuple[float, ...]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


SWAPPED = profile(BLUE, GREEN, RED)
"""What it calls red is sRGB's blue."""
DARK = profile(gamma=3.0)
"""sRGB's primaries, darker in between."""
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def by_littlecms(pixels: NDArray[np.uint8], icc: bytes) -> NDArray[np.uint8]:
    """Return what Pillow's ImageCms makes of pixels, as OpenSlide's documentation has it: the reference."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    intent = ImageCms.Intent(ImageCms.getDefaultIntent(source))
    to_srgb = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB", intent)
    return np.asarray(to_srgb.apply(Image.fromarray(np.ascontiguousarray(pixels))))
