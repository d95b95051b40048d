from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from hypothesis import given, strategies as st

from napari_dala.errors import SlideError
from napari_dala.slide import open_slide
from napari_dala.slide.pyramid import TOP_PX, LazyLevel, _build, _missing_sizes, _stored_levels, pyramid

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_levels_and_chunks_are_the_files_own(mosaic: Path) -> None:
    with open_slide(mosaic) as slide:
        levels = pyramid(slide)
        assert [level.shape[:2] for level in levels] == [(at.height, at.width) for at in slide.levels]
        assert levels[0].chunks == (256, 256, 3)
        assert (levels[1][500:600, 700:900] == slide.read(1400, 1000, 200, 100, 1)).all()


ROWS = st.one_of(st.integers(-9, 8), st.slices(9))
COLUMNS = st.one_of(st.integers(-11, 10), st.slices(11))
KEYS = st.one_of(
    ROWS,
    st.tuples(ROWS, COLUMNS),
    st.tuples(ROWS, COLUMNS, st.slices(3)),
    st.sampled_from([..., (..., 1), (3, ..., 2), (slice(2, 5), ...)]),
)


@given(KEYS)
def test_a_level_is_sliced_as_an_array_is(key: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    level = LazyLevel((9, 11, 3), (4, 5, 3), "drawn", lambda top, bottom, left, right: pixels[top:bottom, left:right])
    np.testing.assert_array_equal(level[key], pixels[key])


def test_what_was_read_of_a_level_is_not_read_again_while_there_is_room() -> None:
    read: list[tuple[int, int, int, int]] = []

    def noted(*rectangle: int) -> np.ndarray:
        read.append(rectangle)
        top, bottom, left, right = rectangle
        return np.full((bottom - top, right - left, 3), len(read), np.uint8)

    side = 4096  # a tile takes 48 MiB
    level = LazyLevel((4 * side, 2 * side, 3), (side, side, 3), "of no slide", noted)
    first = level[10:20, 10:20]
    assert read == [(0, side, 0, side)]
    np.testing.assert_array_equal(level[30:40, 10:20], first)
    assert len(read) == 1
    level[0:1, side:]
    level[:, 5]
    assert len(read) == len(set(read)) == 5
    level[:, side + 5]
    assert level[10, 10, 0] != first[0, 0, 0]  # read again, for others took its place
    assert read.count((0, side, 0, side)) == 2


def test_missing_levels_are_made_once_and_kept(shared_data: Path) -> None:
    ready = threading.Event()
    with open_slide(shared_data / "slides/CMU-1-Small-Region.svs") as slide:
        first = pyramid(slide, ready.set)
        assert max(first[-1].shape) <= TOP_PX
        assert ready.wait(20)
        levels = pyramid(slide, lambda: (_ for _ in ()).throw(AssertionError("built twice")))
        assert levels[-1].name != first[-1].name  # what napari cached of the placeholder is not shown again
        coarse = np.asarray(levels[-1]).astype(int)
        width, height = slide.dimensions
        whole = slide.read(0, 0, width // 4 * 4, height // 4 * 4).astype(float)
        expected = whole.reshape(height // 4, 4, width // 4, 4, 3).mean((1, 3))
        assert np.abs(coarse - expected).max() <= 1


def test_a_damaged_tile_shows_grey_and_leaves_the_rest(broken_mosaic: tuple[Path, tuple[int, int]]) -> None:
    path, (x, y) = broken_mosaic
    with open_slide(path) as slide:
        level = pyramid(slide)[1]
        assert (level[y // 2 : y // 2 + 20, x // 2 : x // 2 + 20] == 128).all()
        assert (level[0:20, 0:20] == slide.read(0, 0, 20, 20, 1)).all()


def test_what_is_lost_for_the_moment_is_not_kept_as_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: int) -> NoReturn:
        raise SlideError("a.svs: cannot be read") from OSError(errno.EIO, os.strerror(errno.EIO))

    with open_slide(np.full((2 * TOP_PX, 2 * TOP_PX, 3), 90, np.uint8)) as slide:
        finest, *_ = pyramid(slide)
        stored = _stored_levels(slide, _missing_sizes(slide))
        ready: list[bool] = []
        with monkeypatch.context() as patched:
            patched.setattr(slide, "_read", lost)
            assert (finest[:10, :10] == 128).all()
            _build(slide, stored, lambda: ready.append(True))
            assert not ready
            assert "complete" not in stored[-1].attrs
        assert (finest[:10, :10] == 90).all()
        _build(slide, stored, lambda: ready.append(True))
        assert ready
        assert (np.asarray(stored[-1]) == 90).all()
