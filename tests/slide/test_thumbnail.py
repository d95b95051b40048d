from __future__ import annotations

import numpy as np
from PIL import Image

from napari_dala.slide import open_slide
from napari_dala.slide.thumbnail import SIDE_PX, keep_thumbnail, kept_thumbnail


def test_a_picture_is_drawn_once_and_kept() -> None:
    pixels = np.full((400, 800, 3), (200, 100, 50), np.uint8)
    with open_slide(pixels) as slide:
        assert kept_thumbnail(slide.pixels_id) is None
        path = keep_thumbnail(slide)
        assert kept_thumbnail(slide.pixels_id) == path
        with Image.open(path) as picture:
            assert picture.size == (SIDE_PX, SIDE_PX // 2)
            assert picture.getpixel((5, 5)) == (200, 100, 50)
        before = path.stat().st_mtime_ns
        keep_thumbnail(slide)
        assert path.stat().st_mtime_ns == before
