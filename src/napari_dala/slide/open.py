"""One door to every kind of slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import openslide

from napari_dala.errors import SlideError
from napari_dala.slide.backends.dicom import dicom_file, dicom_files
from napari_dala.slide.backends.image import ImageSlide, open_image
from napari_dala.slide.backends.ome_zarr import OmeZarrSlide
from napari_dala.slide.backends.openslide import OpenSlideSlide
from napari_dala.slide.backends.remote import url_of
from napari_dala.slide.backends.tifffile import TiffSlide, refuse_for_openslide
from napari_dala.slide.backends.tiled_tiff import TiledTiffSlide
from napari_dala.slide.backends.zarr_store import is_zarr_folder, ome_zarr_root
from napari_dala.slide.base import check_size, checked_mpp
from napari_dala.slide.profile import warn_of_profile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide

OPENSLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi", ".dcm")
TIFF_SUFFIXES = (".tif", ".tiff", ".qptiff")
PHOTOGRAPH_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # and BigTIFF
_UNKNOWN = "not a slide in a known format, or cut short; copy the file again"


def open_slide(
    path_or_array: str | Path | NDArray[np.uint8],
    *,
    mpp: float | tuple[float, float] | None = None,
    icc_profile: bool = True,
) -> Slide:
    """Open a slide, a photograph or an array.

    Parameters
    ----------
    path_or_array
        A slide or picture file, a folder holding one DICOM slide, an OME-Zarr (folder, zip file or address), or an
        (h, w, 3) uint8 array.
    mpp
        Micrometres per level-0 pixel, one number or (x, y); wins over what the file says.
    icc_profile
        Bring colours to sRGB by the file's ICC profile, where it has one that changes them.

    Returns
    -------
    Slide
        By content: scanners' formats are OpenSlide's, but for the JPEG tiles of SVS; other TIFF is tifffile's,
        OME-Zarr is zarr's, and pictures are Pillow's.

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
    slide = open_quietly(path_or_array, mpp=mpp, icc_profile=icc_profile)
    warn_of_profile(slide)
    return slide


def open_quietly(
    path_or_array: str | Path | NDArray[np.uint8],
    *,
    mpp: float | tuple[float, float] | None = None,
    icc_profile: bool = True,
) -> Slide:
    """Open what `open_slide` does, and log nothing: for a file that is not called what the user calls it."""
    if mpp is not None:
        checked_mpp(mpp)
    if not isinstance(path_or_array, (str, Path)):
        return ImageSlide(path_or_array, mpp=mpp)
    path = Path(path_or_array)
    try:
        slide = _open_file(path, mpp)
    except OSError as error:
        raise SlideError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    slide.profile = slide.own_profile if icc_profile else None
    return slide


def is_slide_folder(path: Path) -> bool:
    """Return whether a folder is a slide as a whole: an OME-Zarr, or the files of DICOM slides."""
    return path.is_dir() and (is_zarr_folder(path) or bool(dicom_files(path)))


def _open_file(path: Path, mpp: float | tuple[float, float] | None) -> Slide:
    if not url_of(path) and not path.exists():
        raise SlideError(f"{path}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise SlideError(f"{path.name}: the file is empty")
    if (root := ome_zarr_root(path)) is not None:
        return OmeZarrSlide(root, mpp)
    try:
        if path.is_dir() or path.suffix.lower() == ".dcm":
            return OpenSlideSlide(path, mpp, dicom_file(path))
        is_tiff = _first_bytes(path) in _TIFF
        vendor = (
            openslide.OpenSlide.detect_format(path) if is_tiff or path.suffix.lower() in OPENSLIDE_SUFFIXES else None
        )
        if is_tiff and vendor not in (None, "generic-tiff", "hamamatsu"):
            refuse_for_openslide(path)
        if vendor == "aperio":
            return TiledTiffSlide(path, mpp)
        if vendor not in (None, "generic-tiff"):
            return OpenSlideSlide(path, mpp)
    except openslide.OpenSlideUnsupportedFormatError:
        raise SlideError(f"{path.name}: {_UNKNOWN}") from None
    except openslide.OpenSlideError as error:
        raise SlideError(f"{path.name}: not a slide that can be read: {error}") from error
    if not is_tiff:
        if path.suffix.lower() in OPENSLIDE_SUFFIXES:
            raise SlideError(f"{path.name}: {_UNKNOWN}")
        return open_image(path, mpp)
    try:
        return TiffSlide(path, mpp)
    except (SlideError, OSError):
        raise
    except Exception as error:  # a damaged file can break tifffile anywhere
        raise SlideError(f"{path.name}: not a TIFF that can be read, or damaged: {error}") from error


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


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
