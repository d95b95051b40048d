"""Slides copied to the cache: the same slide, checked, without its name, and removed by age and size."""

from __future__ import annotations

import os
import re
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.data import immunohistochemistry

from napari_dala.slide import SlideError, local_copy, open_slide
from napari_dala.slide.local_copy import open_local_copy, tidy_copies
from napari_dala.workspace import cache_folder
from tests.drawn_slides import write_mrxs
from tests.ome_zarrs import write_ome_zarr, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "Erika Mustermann"


@pytest.fixture
def tissue() -> np.ndarray:
    return np.ascontiguousarray(immunohistochemistry()[:300, :400])


def write_tiff(path: Path, tissue: np.ndarray) -> Path:
    tifffile.imwrite(path, tissue, photometric="rgb", tile=(64, 64), metadata=None)
    return path


def copies() -> list[Path]:
    folder = cache_folder() / "slides"
    return sorted(folder.iterdir()) if folder.is_dir() else []


WRITE: dict[str, Callable[[Path, np.ndarray], Path]] = {
    "tiff": lambda folder, tissue: write_tiff(folder / f"{NAME}.tif", tissue),
    "mrxs": lambda folder, tissue: write_mrxs(folder / NAME, tissue, (700, 900)),
    "zarr": lambda folder, tissue: write_ome_zarr(folder / f"{NAME}.ome.zarr", tissue),
    "zip": lambda folder, tissue: zipped(write_ome_zarr(folder / "a", tissue), folder / f"{NAME}.zarr.zip"),
}


def check_copied(path: Path) -> None:
    """Check that what opens is the original's slide, read from a copy that does not have its name."""
    with open_slide(path) as slide:
        fingerprint, pixels = slide.fingerprint, slide.read(0, 0, 400, 300)
    told: list[tuple[int, int]] = []
    with open_local_copy(path, mpp=0.3, told=lambda *count: told.append(count)) as slide:
        assert (slide.path, slide.name, slide.fingerprint) == (path, path.name, fingerprint)
        assert (slide.mpp, slide.mpp_source) == ((0.3, 0.3), "given")
        assert told[-1][0] == told[-1][1] > 0
        away = path.with_name("away")
        beside = path.with_suffix("") if path.suffix == ".mrxs" else None
        path.rename(away)
        if beside:
            beside.rename(path.with_name("beside"))
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), pixels)
        away.rename(path)
        if beside:
            path.with_name("beside").rename(beside)
    told.clear()
    open_local_copy(path, told=lambda *count: told.append(count)).close()
    assert not told, "it is there already"
    (copy,) = copies()
    assert not any(NAME in str(file) or path.stem in str(file) for file in copy.rglob("*"))
    assert copy.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("write", WRITE.values(), ids=WRITE)
def test_a_copy_is_the_same_slide_under_its_own_name(
    tmp_path: Path, tissue: np.ndarray, write: Callable[[Path, np.ndarray], Path]
) -> None:
    check_copied(write(tmp_path, tissue))


def test_a_dicom_folder_is_copied(tmp_path: Path, shared_data: Path) -> None:
    shutil.copytree(shared_data / "slides/CMU-1-Small-Region-dicom", tmp_path / NAME)
    check_copied(tmp_path / NAME)


def test_of_a_folder_of_dicom_slides_only_the_one_that_is_named_is_copied(tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / NAME
    shutil.copytree(shared_data / "slides/CMU-1-Small-Region-dicom", folder)
    files = sorted(folder.glob("*.dcm"))
    for file in files:
        content = file.read_bytes()
        series = re.search(rb"\x20\x00\x0e\x00UI..([0-9.]+)", content, re.DOTALL)
        assert series is not None
        other = series[1][:-1] + (b"1" if series[1][-1:] != b"1" else b"2")
        file.with_name(f"other {file.name}").write_bytes(content.replace(series[1], other))
    with open_slide(files[0]) as slide:
        fingerprint = slide.fingerprint
    with open_local_copy(files[0]) as slide:
        assert slide.fingerprint == fingerprint
        [copy] = copies()
        assert len([*copy.glob("*.dcm")]) == len(files)


def test_a_file_that_was_written_anew_is_copied_anew(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue)
    open_local_copy(path).close()
    write_tiff(path, 255 - tissue)
    with open_local_copy(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), 255 - tissue)
    assert len(copies()) == 2


def test_old_copies_go_and_those_in_use_stay(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (write_tiff(tmp_path / f"{name}.tif", tissue + i) for i, name in enumerate(("old", "new")))
    with open_local_copy(old) as slide:
        (first,) = copies()
        month = time.time() - 31 * 86_400
        os.utime(first, (month, month))
        tidy_copies()
        assert copies() == [first], "it is being read"
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
    del slide
    open_local_copy(new).close()
    os.utime(first, (month, month))
    open_local_copy(new).close()
    assert first not in copies(), "one that is used again lets others go"
    os.utime(*copies(), (month, month))
    tidy_copies()
    assert not copies()
    for path in (old, new):
        open_local_copy(path).close()
    first = min(copies(), key=lambda copy: copy.stat().st_mtime)
    monkeypatch.setattr(local_copy, "MOST_BYTES", 3 * old.stat().st_size)
    tidy_copies(old.stat().st_size)
    assert len(copies()) == 2, "they fit"
    tidy_copies(2 * old.stat().st_size)
    assert first not in copies()
    assert len(copies()) == 1


def test_a_copy_that_is_not_what_was_read_is_refused(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = write_tiff(tmp_path / "a.tif", tissue), local_copy._copy

    def damaged(source: Path, target: Path, tell: Any) -> bytes:
        digest = copy(source, target, tell)
        with target.open("r+b") as file:
            file.seek(5000)
            file.write(b"\0\1\2")
        return digest

    monkeypatch.setattr(local_copy, "_copy", damaged)
    with pytest.raises(SlideError, match=r"^a\.tif: its copy in the cache is not what was read"):
        open_local_copy(path)
    assert not copies()


def test_a_file_that_is_written_to_meanwhile_is_named(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue)
    with pytest.raises(SlideError, match=r"^a\.tif: was written to while it was copied"):
        open_local_copy(path, told=lambda done, total: os.utime(path, (1, 1)))
    assert not copies()


def test_without_room_the_original_is_read(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue)
    monkeypatch.setattr(local_copy, "_LEFT_FREE", 1 << 60)
    with open_local_copy(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
    assert not copies()
    assert "a.tif: read where it is, for a copy of it has no room" in caplog.text


def test_who_cancels_leaves_nothing(tmp_path: Path, tissue: np.ndarray) -> None:
    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_local_copy(write_tiff(tmp_path / "a.tif", tissue), told=cancel)
    assert not copies()


def test_what_cannot_be_copied_is_opened_as_ever(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no such file"):
        open_local_copy(tmp_path / "gone.svs")
    (tmp_path / "x.svs").write_bytes(b"nonsense")
    with pytest.raises(SlideError, match=r"^x\.svs: not a slide"):
        open_local_copy(tmp_path / "x.svs")


def test_a_slide_whose_other_files_are_gone_is_named(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_mrxs(tmp_path / "a", tissue, (700, 900))
    shutil.rmtree(path.with_suffix(""))
    with pytest.raises(SlideError, match=r"^a\.mrxs: "):
        open_local_copy(path)


def test_a_damaged_profile_is_told_of_each_slide_by_its_own_name(
    tmp_path: Path, tissue: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        path = tmp_path / f"{name}.png"
        Image.fromarray(tissue).save(path, icc_profile=b"no profile at all")
        with open_local_copy(path) as slide:
            assert slide.profile_problem.startswith(f"{name}.png: its colour profile (ICC) is damaged")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["one.png", "two.png"]
