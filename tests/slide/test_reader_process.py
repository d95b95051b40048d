"""A slide read by another process: the very same pixels, and nothing lost where that process is."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import immunohistochemistry

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.reading import read_ahead
from napari_dala.analysis.schedule import Schedule
from napari_dala.errors import SlideError
from napari_dala.inference.sampler import Sampler
from napari_dala.slide import open_slide
from napari_dala.slide.local_copy import open_local_copy
from napari_dala.slide.reader_process import ReaderProcess
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import TileGrid
from tests.drawn_slides import write_mrxs
from tests.icc import SWAPPED
from tests.ome_zarrs import write_ome_zarr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.slide import Slide

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory is shared by a handle on Linux alone")


def ready(slide: Slide) -> ReaderProcess:
    """Return a process that reads by itself, not one that is about to."""
    reader = ReaderProcess(slide.with_halves())
    out = np.empty((4, 4, 3), np.uint8)
    until = time.monotonic() + 60
    while not reader._has_read(out, 0, 0, 0):
        assert time.monotonic() < until
        time.sleep(0.02)
    return reader


def picture(read: Callable[..., None], level: int = 0) -> np.ndarray:
    """Return what is read across an edge of the slide."""
    out = np.empty((300, 450, 3), np.uint8)
    read(out, -100, 200, level)
    return out


@pytest.mark.parametrize("kind", ["tiff", "svs", "dicom", "png", "mrxs", "zarr"])
def test_the_same_pixels_in_every_format(kind: str, drawn_slide: Path, shared_data: Path, tmp_path: Path) -> None:
    tissue = immunohistochemistry()[:400, :500]
    if kind == "mrxs":
        path = write_mrxs(tmp_path / "a.mrxs", tissue, (100, 100))
    elif kind == "zarr":
        path = write_ome_zarr(tmp_path / "a.ome.zarr", tissue)
    elif kind == "png":
        path = tmp_path / "-a b.png"
        Image.fromarray(tissue).save(path)
    else:
        slides = shared_data / "slides"
        path = {
            "tiff": drawn_slide,
            "svs": slides / "CMU-1-Small-Region.svs",
            "dicom": slides / "CMU-1-Small-Region-dicom",
        }[kind]
    with open_slide(path, mpp=0.4) as slide, ready(slide) as reader:
        for level in range(len(slide.levels)):
            known = picture(slide.read_into, level)
            assert known.std() > 2
            assert reader._has_read(out := np.zeros_like(known), -100, 200, level)
            assert (out == known).all()


def test_colours_by_the_profile_as_in_this_process(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(immunohistochemistry()).save(path, icc_profile=SWAPPED)
    pictures = []
    for wanted in (True, False):
        with open_slide(path, mpp=0.4, icc_profile=wanted) as slide, ready(slide) as reader:
            assert (slide.profile is not None) == wanted
            pictures.append(picture(reader.read_into))
            assert (pictures[-1] == picture(slide.read_into)).all()
    assert (pictures[0] != pictures[1]).any()


def test_this_process_reads_while_the_other_starts_and_after_it_died(drawn_slide: Path) -> None:
    with open_slide(drawn_slide) as slide:
        known = picture(slide.read_into)
        with ReaderProcess(slide.with_halves()) as reader:
            assert (picture(reader.read_into) == known).all()
        with ready(slide) as reader:
            reader._process.kill()
            reader._process.wait()
            assert (picture(reader.read_into) == known).all()
            assert (picture(reader.read_into) == known).all()


def test_damage_is_told_as_ever_and_what_is_sound_read_after_it(broken_mosaic: tuple[Path, tuple[int, int]]) -> None:
    path, (x, y) = broken_mosaic
    out = np.empty((256, 256, 3), np.uint8)
    with open_slide(path) as slide, ready(slide) as reader:
        with pytest.raises(SlideError, match=r"^broken\.tiff: pixels at .* cannot be decoded"):
            reader.read_into(out, x, y, 1)
        assert reader._has_read(out, x + 1024, y, 1)
        assert (out == slide.read(x + 1024, y, 256, 256, 1)).all()


def test_a_local_copy_is_read_where_it_lies(drawn_slide: Path, tmp_path: Path) -> None:
    original = tmp_path / "original.tif"
    original.write_bytes(drawn_slide.read_bytes())
    slide = open_local_copy(original)
    assert slide.path == original
    assert slide.file != original
    known = picture(slide.read_into)
    original.unlink()
    with slide, ready(slide) as reader:
        assert reader._has_read(out := np.empty_like(known), -100, 200, 0)
        assert (out == known).all()


def test_the_process_ends_with_the_one_that_asks(drawn_slide: Path) -> None:
    with open_slide(drawn_slide) as slide:
        reader = ready(slide)
        process = reader._process
        assert process.poll() is None
        reader.close()
        assert process.returncode is not None


def test_a_process_that_sees_another_slide_or_says_anything_else_is_not_asked(
    drawn_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other.tif"
    teaching_slide(other, 672, 3)
    (tmp_path / "sitecustomize.py").write_text("print('hello', flush=True)")
    with open_slide(drawn_slide) as slide:
        known = picture(slide.read_into)
        for wrong in ("file", "talk"):
            slide.file = other if wrong == "file" else drawn_slide
            if wrong == "talk":
                monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
            caplog.clear()
            with ReaderProcess(slide.with_halves()) as reader:
                until = time.monotonic() + 60
                while not reader._is_lost and time.monotonic() < until:
                    assert (picture(reader.read_into) == known).all()
                    time.sleep(0.02)
                assert reader._is_lost
                assert (picture(reader.read_into) == known).all()
            assert "is read without it" in caplog.text


def test_where_there_is_no_process_to_be_had_this_one_reads(drawn_slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    with open_slide(drawn_slide) as slide:
        grid = TileGrid.over(slide, 224, 0.5)
        tissue = np.ones(grid.shape, bool)
        monkeypatch.setattr(subprocess, "Popen", none_left)
        sampler = Sampler(slide, grid, torch.device("cpu"))
        blocks = read_ahead(sampler, tissue, Schedule(grid, tissue, RunControl()), 3, in_processes=True)
        assert sum(len(block.tiles) for block in blocks) == tissue.sum() > 3
        nothing = Schedule(grid, np.zeros_like(tissue), RunControl())
        assert not list(read_ahead(sampler, tissue, nothing, 3, in_processes=True))


def test_what_has_no_file_or_is_decoded_whole_has_no_process(tmp_path: Path) -> None:
    assert not ReaderProcess.can_read(open_slide(immunohistochemistry(), mpp=0.5))
    Image.fromarray(immunohistochemistry()).save(tmp_path / "a.png")
    assert not ReaderProcess.can_read(open_slide(tmp_path / "a.png"))
