"""Pixels that a disk or a share would not give: tried again, never called damaged."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from skimage.data import immunohistochemistry

from napari_dala.analysis import reading
from napari_dala.analysis.control import RunControl
from napari_dala.analysis.engine import analyze
from napari_dala.analysis.plan import tissue_tiles
from napari_dala.analysis.reading import read_ahead
from napari_dala.analysis.schedule import Schedule
from napari_dala.errors import SlideError, may_pass
from napari_dala.inference.sampler import Sampler
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.reader_process import ReaderProcess
from napari_dala.slide.tiles import TileGrid
from tests.drawn_slides import write_mrxs
from tests.ome_zarrs import write_ome_zarr

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
    for code in (errno.EIO, errno.ENOENT):
        assert may_pass(SlideError(f"s.svs: cannot be decoded (Couldn't read: {os.strerror(code)})"))
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
        with pytest.raises(SlideError, match="cannot be read; what is done is kept: run it again"):
            analyze(slide, with_basis, tmp_path)
        unsteady.clear()
        assert analyze(slide, with_basis, tmp_path).analysed.any()


def _mrxs(folder: Path, tissue: np.ndarray) -> tuple[Path, Path]:
    path = write_mrxs(folder / "lost", tissue, (700, 900))
    return path, path.with_suffix("")


def _ome_zarr(folder: Path, tissue: np.ndarray) -> tuple[Path, Path]:
    path = write_ome_zarr(folder / "lost.zarr", tissue)
    return path, path


@pytest.mark.parametrize("write", [_mrxs, _ome_zarr])
def test_a_slide_that_vanishes_is_named_and_the_run_goes_on_when_it_is_back(
    with_basis: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    monkeypatch.setattr(reading, "_PAUSES_S", (0.0, 0.0))
    tissue = np.ascontiguousarray(np.tile(immunohistochemistry(), (2, 2, 1))[:700, :800])
    path, on_drive = write(tmp_path, tissue)
    picture, read, some_are_done = Sampler.picture, [], threading.Event()

    def lose(self: Sampler, *box: int) -> Any:
        read.append(box)
        if len(read) == 3:  # a block each
            assert some_are_done.wait(30)
            on_drive.rename(tmp_path / "away")
        return picture(self, *box)

    monkeypatch.setattr(with_basis, "batch_size", 4)
    mpp = 1.9 * with_basis.bundle.card.mpp
    with monkeypatch.context() as losing, open_slide(path, mpp=mpp) as slide:
        losing.setattr(Sampler, "picture", lose)
        with pytest.raises(SlideError, match=r"^lost\.\w+: .*run it again when") as caught:
            analyze(slide, with_basis, tmp_path / "out", on_progress=lambda now: now.done and some_are_done.set())
    assert "\n" not in str(caught.value)
    (tmp_path / "away").rename(on_drive)
    done: list[Progress] = []
    with open_slide(path, mpp=mpp) as slide:
        found = analyze(slide, with_basis, tmp_path / "out", on_progress=done.append)
        whole = analyze(slide, with_basis, tmp_path / "whole")
    assert 0 < done[0].done < done[-1].total, "what was done is not done again"
    assert not (found.status == TileStatus.UNREADABLE).any()
    np.testing.assert_array_equal(found.probability, whole.probability)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory is shared by a handle on Linux alone")
def test_readers_with_processes_give_the_same_blocks(mosaic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_read, by_process = ReaderProcess._has_read, []

    def once_it_runs(self: ReaderProcess, *request: Any) -> bool:
        until = time.monotonic() + 60
        while not has_read(self, *request) and time.monotonic() < until:
            time.sleep(0.02)
        by_process.append(time.monotonic() < until)
        return by_process[-1]

    monkeypatch.setattr(ReaderProcess, "_has_read", once_it_runs)
    with open_slide(mosaic) as slide:
        grid = TileGrid.over(slide, 224, 0.4)
        tissue = tissue_tiles(slide, grid)
        found = []
        for workers, in_processes in ((1, False), (2, True)):
            schedule = Schedule(grid, tissue, RunControl())
            sampler = Sampler(slide, grid, torch.device("cpu"))
            ahead = read_ahead(sampler, tissue, schedule, workers, in_processes=in_processes)
            blocks = [(block.tiles, block.pixels) for block in ahead]
            found.append({tile: pixels for tiles, many in blocks for tile, pixels in zip(tiles, many, strict=True)})
    assert len(by_process) > 5
    assert all(by_process)
    assert len(found[0]) == tissue.sum() > 50
    assert found[0].keys() == found[1].keys()
    assert all((pixels == found[1][tile]).all() for tile, pixels in found[0].items())
