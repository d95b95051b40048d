from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.slide import open_slide
from napari_dala.slide.pyramid import TOP_PX, pyramid

if TYPE_CHECKING:
    from pathlib import Path


def test_levels_and_chunks_are_the_files_own(mosaic: Path) -> None:
    with open_slide(mosaic) as slide:
        levels = pyramid(slide)
        assert [level.shape[:2] for level in levels] == [(at.height, at.width) for at in slide.levels]
        assert levels[0].chunksize == (256, 256, 3)
        assert (levels[1][500:600, 700:900].compute() == slide.read(1400, 1000, 200, 100, 1)).all()


def test_missing_levels_are_made_once_and_kept(shared_data: Path) -> None:
    ready = threading.Event()
    with open_slide(shared_data / "slides/CMU-1-Small-Region.svs") as slide:
        first = pyramid(slide, ready.set)
        assert max(first[-1].shape) <= TOP_PX
        assert ready.wait(20)
        levels = pyramid(slide, lambda: (_ for _ in ()).throw(AssertionError("built twice")))
        assert levels[-1].name != first[-1].name  # what napari cached of the placeholder is not shown again
        coarse = levels[-1].compute().astype(int)
        width, height = slide.dimensions
        whole = slide.read(0, 0, width // 4 * 4, height // 4 * 4).astype(float)
        expected = whole.reshape(height // 4, 4, width // 4, 4, 3).mean((1, 3))
        assert np.abs(coarse - expected).max() <= 1


def test_a_damaged_tile_shows_grey_and_leaves_the_rest(broken_mosaic: tuple[Path, tuple[int, int]]) -> None:
    path, (x, y) = broken_mosaic
    with open_slide(path) as slide:
        level = pyramid(slide)[1]
        assert (level[y // 2 : y // 2 + 20, x // 2 : x // 2 + 20].compute() == 128).all()
        assert (level[0:20, 0:20].compute() == slide.read(0, 0, 20, 20, 1)).all()
