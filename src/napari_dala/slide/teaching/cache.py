"""The teaching slide that demo and sample data share: drawn once, then kept in the cache folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from pathlib import Path


def cached_teaching_slide(side_px: int = 4096, seed: int = 0) -> Path:
    """Return the drawn teaching slide's file, drawing it on first use (about a second per 1000 px of side)."""
    path = cache_folder() / f"teaching-slide-{side_px}-{seed}.tiff"
    if not path.exists():
        teaching_slide(path, side_px, seed)
    return path
