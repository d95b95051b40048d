"""One door to every kind of slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openslide

from napari_dala.errors import SlideError
from napari_dala.slide.backends.image import ImageSlide, open_image
from napari_dala.slide.backends.openslide import OpenSlideSlide
from napari_dala.slide.backends.tifffile import TiffSlide
from napari_dala.slide.backends.tiled_tiff import TiledTiffSlide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide

OPENSLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".dcm")
TIFF_SUFFIXES = (".tif", ".tiff")
PHOTOGRAPH_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def open_slide(
    path_or_array: str | Path | NDArray[np.uint8], *, mpp: float | tuple[float, float] | None = None
) -> Slide:
    """Open a slide, a photograph or an array.

    Parameters
    ----------
    path_or_array
        A slide or picture file, a folder holding one DICOM slide, or an (h, w, 3) uint8 array.
    mpp
        Micrometres per level-0 pixel, one number or (x, y); wins over what the file says.

    Returns
    -------
    Slide
        OpenSlide says what it is, where it can, and reads it but for JPEG tiles of SVS and TIFF; then come tifffile
        and, for photographs, Pillow.

    Raises
    ------
    SlideError
        When the file is missing, is not a slide or is damaged; one line that names it and the reason.

    Examples
    --------
    >>> import numpy as np
    >>> open_slide(np.zeros((20, 30, 3), np.uint8), mpp=0.5).dimensions
    (30, 20)
    """
    if mpp is not None and not all(0 < side < float("inf") for side in np.atleast_1d(mpp)):
        raise SlideError(f"mpp {mpp}: micrometres per pixel must be above 0")
    if isinstance(path_or_array, np.ndarray):
        return ImageSlide(path_or_array, mpp=mpp)
    path = Path(path_or_array)
    try:
        return _open_file(path, mpp)
    except OSError as error:
        raise SlideError(f"{path.name}: cannot be read: {error.strerror or error}") from error


def _open_file(path: Path, mpp: float | tuple[float, float] | None) -> Slide:
    if not path.exists():
        raise SlideError(f"{path}: no such file")
    if path.is_dir():
        if not any(path.glob("*.dcm")):
            raise SlideError(f"{path.name}: a folder without a slide; a DICOM slide is a folder of .dcm files")
    elif path.stat().st_size == 0:
        raise SlideError(f"{path.name}: the file is empty")
    if path.suffix.lower() in PHOTOGRAPH_SUFFIXES:
        return open_image(path, mpp)
    try:
        tiled_tiff = path.suffix.lower() in (".svs", *TIFF_SUFFIXES)
        return TiledTiffSlide(path, mpp) if tiled_tiff else OpenSlideSlide(path, mpp)
    except openslide.OpenSlideUnsupportedFormatError:
        if path.suffix.lower() not in TIFF_SUFFIXES:
            raise SlideError(f"{path.name}: not a slide in a known format, or cut short; copy the file again") from None
    except openslide.OpenSlideError as error:
        raise SlideError(f"{path.name}: not a slide that can be read: {error}") from error
    try:
        return TiffSlide(path, mpp)
    except (SlideError, OSError):
        raise
    except Exception as error:  # a damaged file can break tifffile anywhere
        raise SlideError(f"{path.name}: not a TIFF that can be read, or damaged: {error}") from error
