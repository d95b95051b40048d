"""Small pictures of slides, kept so that a list of many shows them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from napari_dala.files import replacing
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.slide.base import Slide

SIDE_PX = 192


def kept_thumbnail(pixels_id: str) -> Path | None:
    """Return a slide's small picture (PNG, longer side `SIDE_PX`) by `Slide.pixels_id`; None where there is none."""
    path = _path(pixels_id)
    return path if path.is_file() else None


def keep_thumbnail(slide: Slide) -> Path:
    """Draw a slide small, once, and return the picture's file; label pictures are never in it.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    path = _path(slide.pixels_id)
    if not path.is_file():
        picture = Image.fromarray(slide.thumbnail(SIDE_PX))
        with replacing(path) as temporary:
            picture.save(temporary, "PNG")
    return path


def _path(pixels_id: str) -> Path:
    return cache_folder() / "thumbnails" / f"{pixels_id}.png"
