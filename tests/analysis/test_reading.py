"""Pixels that a disk or a share would not give: tried again, never called damaged."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_dala.analysis import reading
from napari_dala.analysis.engine import analyze
from napari_dala.analysis.reading import may_pass
from napari_dala.errors import SlideError
from napari_dala.inference.sampler import Sampler
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.inference.predictor import Predictor
    from napari_dala.results.progress import Progress


def lost(code: int = errno.EIO) -> SlideError:
    error = SlideError("s.svs: pixels cannot be read")
    error.__cause__ = OSError(code, os.strerror(code))
    return error


def test_what_the_file_system_says_may_pass() -> None:
    assert may_pass(lost())
    assert may_pass(lost(errno.ESTALE))
    assert may_pass(SlideError(f"s.svs: cannot be decoded (Couldn't read: {os.strerror(errno.EIO)})"))
    damaged = SlideError("s.svs: pixels cannot be decoded")
    damaged.__cause__ = OSError("image file is truncated")  # Pillow's: no errno
    assert not may_pass(damaged)
    assert not may_pass(SlideError("s.svs: a JPEG of another shape"))


@pytest.fixture
def unsteady(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], int]:
    """How often a tile (row, column) will not be had, for the test to say; blocks that hold such a one neither."""
    fails: dict[tuple[int, int], int] = {}
    picture = Sampler.picture

    def read(self: Sampler, row: int, column: int, rows: int, columns: int) -> Any:
        inside = [at for at in fails if row <= at[0] < row + rows and column <= at[1] < column + columns]
        if any(fails[at] > 0 for at in inside):
            if (rows, columns) == (1, 1):
                fails[row, column] -= 1
            raise lost()
        return picture(self, row, column, rows, columns)

    monkeypatch.setattr(Sampler, "picture", read)
    monkeypatch.setattr(reading, "_PAUSES_S", (0.0, 0.0))
    return fails


def test_a_tile_that_fails_once_is_read_after_a_pause(
    drawn_slide: Path, with_basis: Predictor, unsteady: dict[tuple[int, int], int], tmp_path: Path
) -> None:
    unsteady[2, 2] = 2
    reports: list[Progress] = []
    with open_slide(drawn_slide) as slide:
        found = analyze(slide, with_basis, tmp_path, on_progress=reports.append)
    assert found.analysed[2, 2]
    assert not reports[-1].warning


def test_a_tile_that_fails_for_long_is_left_to_the_next_run(
    drawn_slide: Path, with_basis: Predictor, unsteady: dict[tuple[int, int], int], tmp_path: Path
) -> None:
    unsteady[2, 2] = 3
    reports: list[Progress] = []
    with open_slide(drawn_slide) as slide:
        found = analyze(slide, with_basis, tmp_path, on_progress=reports.append)
        assert found.status[2, 2] == TileStatus.TODO
        assert (reports[-1].failed, reports[-1].unreadable) == (1, 0)
        assert "run it again" in reports[-1].warning
        again = analyze(slide, with_basis, tmp_path, on_progress=reports.append)
    assert again.analysed[2, 2]
    assert not reports[-1].warning
    assert np.isfinite(again.probability[0][found.analysed]).all()


def test_a_file_that_is_gone_ends_the_run_and_keeps_what_is_stored(
    drawn_slide: Path, with_basis: Predictor, unsteady: dict[tuple[int, int], int], tmp_path: Path
) -> None:
    unsteady.update({(row, column): 99 for row in (4,) for column in range(5)})
    with open_slide(drawn_slide) as slide:
        with pytest.raises(SlideError, match="cannot be read"):
            analyze(slide, with_basis, tmp_path)
        unsteady.clear()
        assert analyze(slide, with_basis, tmp_path).analysed.any()
