"""One picture as analysis sees it: what training and evaluation read photographs by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.slide.base import check_size
from napari_dala.slide.open import open_slide

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def read_rgb(path: Path, *, icc_profile: bool = True) -> NDArray[np.uint8]:
    """Return all pixels of a picture or a small slide, (h, w, 3) uint8 RGB, as `open_slide` gives them.

    Whatever the file's colours are (grey, palette, CMYK, YCbCr, Lab, min-is-white, transparency over white), and the
    right way up (TIFF's and EXIF's orientation); of 16-bit RGB the upper 8 bits. They are in sRGB by
    the file's ICC profile, unless `icc_profile` is False.

    Raises
    ------
    SlideError
        When it cannot be read, is too large to be held in memory, or its pixels are no colours: 12- or 16-bit grey,
        float, stacks. One line that names the file.
    """
    with open_slide(path, icc_profile=icc_profile) as slide:
        check_size(f"{path.name}: a picture", slide.dimensions, 3)
        return slide.read(0, 0, *slide.dimensions)
