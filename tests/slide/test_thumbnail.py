from __future__ import annotations

import errno
import os
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from napari_dala.errors import SlideError
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


def test_no_picture_is_kept_of_a_slide_that_is_lost_for_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: int) -> NoReturn:
        raise SlideError("a.svs: cannot be read") from OSError(errno.EIO, os.strerror(errno.EIO))

    with open_slide(np.full((400, 800, 3), 90, np.uint8)) as slide:
        with monkeypatch.context() as patched:
            patched.setattr(slide, "_read", lost)
            with pytest.raises(SlideError):
                keep_thumbnail(slide)
            assert kept_thumbnail(slide.pixels_id) is None
        with Image.open(keep_thumbnail(slide)) as picture:
            assert picture.getpixel((5, 5)) == (90, 90, 90)
