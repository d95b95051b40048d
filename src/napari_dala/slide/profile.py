"""A slide's ICC profile: what brings the colours of its scanner to sRGB, as OpenSlide's and QuPath's users see them."""

from __future__ import annotations

import hashlib
import io
import logging
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

from napari_dala.errors import SlideError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.slide.base import Slide

_log = logging.getLogger(__name__)

_MOST_BYTES = 16 << 20  # of a profile; scanners' have some hundred kB
_SAME = 2  # grey levels, by which the profiles that call themselves sRGB differ from each other
_STEPS = 18  # of red, green and blue, at which it is looked whether a profile is sRGB


class ColourProfile:
    """Brings 8-bit RGB to sRGB by littleCMS (Pillow's), with the rendering intent that the profile itself asks for.

    Parameters
    ----------
    icc
        The profile as the file holds it.

    Raises
    ------
    SlideError
        When it is damaged, or not of RGB; half a sentence.

    Attributes
    ----------
    digest
        12 hexadecimal digits of the profile's SHA-256. What it says of itself is not shown: it may name the scanner.
    """

    def __init__(self, icc: bytes) -> None:
        self.digest = hashlib.sha256(icc).hexdigest()[:12]
        if len(icc) > _MOST_BYTES:
            raise SlideError("is larger than any profile")
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            space = profile.profile.xcolor_space.strip()
            if space != "RGB":
                raise SlideError(f"is not of RGB ({space})")
            intent = ImageCms.Intent(ImageCms.getDefaultIntent(profile))
            self._transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB", intent)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            raise SlideError("is damaged") from None

    def to_srgb(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pixels (h, w, 3) in sRGB, as new ones; safe in several threads."""
        if not pixels.size:
            return pixels
        picture = Image.fromarray(pixels)  # a copy, of four bytes a pixel
        self._transform.apply_in_place(picture)
        return np.array(picture)

    @property
    def changes_nothing(self) -> bool:
        """True where the profile is sRGB itself, to what two of these differ by."""
        steps = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(_STEPS, -1, 3)
        return int(np.abs(self.to_srgb(cube).astype(int) - cube).max()) <= _SAME


def profile_in(icc: bytes | None) -> tuple[ColourProfile | None, str]:
    """Return what brings a file's colours to sRGB, and what is wrong with the profile that it holds, or nothing.

    Returns
    -------
    The profile, None where there is none that changes a colour; and half a sentence ("is damaged"), mostly empty.
    """
    try:
        return _profile_of(icc) if icc else None, ""
    except SlideError as error:
        return None, str(error)


def warn_of_profile(slide: Slide) -> None:
    """Log that a slide's profile cannot be used, once, however often its file is opened."""
    if slide.profile_problem:
        _warn(slide.path, slide.profile_problem)


@lru_cache(maxsize=16)
def _profile_of(icc: bytes) -> ColourProfile | None:
    """Return a profile, built once for all files that hold it; None where it is sRGB already."""
    profile = ColourProfile(icc)
    return None if profile.changes_nothing else profile


@lru_cache(maxsize=1024)
def _warn(path: Path | None, line: str) -> None:
    _log.warning("%s", line)
