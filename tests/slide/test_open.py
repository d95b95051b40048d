from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from napari_dala.slide import SlideError, open_slide
from napari_dala.slide.backends.openslide import OpenSlideSlide
from napari_dala.slide.backends.tifffile import TiffSlide, write_pixels
from napari_dala.slide.fingerprint import fingerprint_of

if TYPE_CHECKING:
    from pathlib import Path

SMALL_REGION = "slides/CMU-1-Small-Region.svs"

REAL_SLIDES = [
    # file, backend, size, levels, mpp
    (SMALL_REGION, "TiledTiffSlide", (2220, 2967), 1, 0.499),
    ("slides/CMU-1-Small-Region-dicom", "OpenSlideSlide", (2220, 2967), 1, 0.499),
    ("slides/boxes.tiff", "TiffSlide", (300, 250), 4, None),  # 72 dpi is no microscope's resolution
    ("slides/😐.svs", "TiledTiffSlide", (16, 16), 1, 0.499),
]


@pytest.mark.parametrize(("name", "backend", "size", "levels", "mpp"), REAL_SLIDES)
def test_real_slides_open_and_read(
    shared_data: Path, name: str, backend: str, size: tuple[int, int], levels: int, mpp: float | None
) -> None:
    with open_slide(shared_data / name) as slide:
        assert type(slide).__name__ == backend
        assert slide.dimensions == size
        assert len(slide.levels) == levels
        assert slide.mpp == (None if mpp is None else (mpp, mpp))
        assert slide.mpp_source == (None if mpp is None else "file")
        pixels = slide.read(0, 0, 16, 10)
        assert pixels.shape == (10, 16, 3)
        assert pixels.dtype == np.uint8
        thumbnail = slide.thumbnail(100)
        assert max(thumbnail.shape[:2]) == min(100, max(size))


def test_a_breakhis_photograph_is_a_slide_of_one_level_without_resolution(shared_data: Path) -> None:
    path = next((shared_data / "breakhis-100x").rglob("SOB_B_*.jpg"))
    with open_slide(path) as slide:
        assert slide.is_photograph
        assert slide.dimensions == (700, 460)
        assert slide.mpp is None
    with open_slide(path, mpp=0.65) as slide:
        assert slide.mpp == (0.65, 0.65)
        assert slide.mpp_source == "given"


def test_dicom_and_svs_of_one_slide_show_the_same_tissue(shared_data: Path) -> None:
    with open_slide(shared_data / SMALL_REGION) as svs, open_slide(shared_data / f"{SMALL_REGION[:-4]}-dicom") as dicom:
        region = (700, 900, 300, 200)
        difference = np.abs(svs.read(*region).astype(int) - dicom.read(*region))  # it was compressed anew
        assert np.median(difference) <= 3
        assert np.abs(svs.read(*region).astype(int) - dicom.read(704, 900, 300, 200)).mean() > 2 * difference.mean()
        assert svs.fingerprint != dicom.fingerprint
        for file in sorted((shared_data / f"{SMALL_REGION[:-4]}-dicom").iterdir()):
            if file.stat().st_size > 500_000:
                with open_slide(file) as by_file:  # not the folder
                    assert by_file.fingerprint == dicom.fingerprint


BAD_FILES = [
    # name, what the message says
    ("broken.svs", "not a slide"),
    ("unopenable.tiff", "COMPRESSION"),
    ("empty.svs", "empty"),
    ("text.svs", "not a slide"),
    ("folder", "folder without a slide"),
    ("truncated.svs", "cut short"),
    ("truncated.tiff", "cut short"),
    ("missing.svs", "no such file"),
    ("broken.png", "not a picture"),
    ("float.tif", "8-bit"),
    ("sixteen.png", "8-bit"),
]


@pytest.mark.parametrize(("name", "reason"), BAD_FILES)
def test_bad_files_are_refused_in_one_line(shared_data: Path, tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    if name in ("broken.svs", "unopenable.tiff"):
        path = shared_data / "slides" / name
    elif name == "empty.svs":
        path.touch()
    elif name in ("text.svs", "broken.png"):
        path.write_text("this is not a slide")
    elif name == "folder":
        path.mkdir()
    elif name.startswith("truncated"):
        path.write_bytes((shared_data / SMALL_REGION).read_bytes()[:1_900_000])
    elif name == "float.tif":
        tifffile.imwrite(path, np.zeros((32, 32, 3), np.float32), photometric="rgb")
    elif name == "sixteen.png":
        imsave(path, np.zeros((8, 8), np.uint16), check_contrast=False)
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    message = str(caught.value)
    assert name in message
    assert reason in message
    assert "\n" not in message


def test_fingerprint_follows_the_content_not_the_name(shared_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "another name.svs"
    shutil.copy(shared_data / SMALL_REGION, copy)
    with open_slide(shared_data / SMALL_REGION) as slide, open_slide(copy) as copied:
        assert slide.fingerprint == copied.fingerprint
        assert len(slide.fingerprint) == 32


def test_properties_carry_nothing_of_the_vendors_tags(shared_data: Path) -> None:
    with open_slide(shared_data / SMALL_REGION) as slide:
        text = str(slide.properties)
    assert "User" not in text
    assert "12/29/09" not in text  # the scan's date stands in the file
    assert "aperio" in text


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf"), 0.00025, 25400, (0.25, 0)])
def test_an_impossible_mpp_is_refused(mpp: float) -> None:
    with pytest.raises(SlideError, match=r"micrometres per pixel, 0\.02 to 20"):
        open_slide(np.zeros((8, 8, 3), np.uint8), mpp=mpp)


def test_outside_the_slide_is_background() -> None:
    slide = open_slide(np.full((20, 30, 3), 7, np.uint8))
    pixels = slide.read(25, 15, 10, 10)
    assert (pixels[:5, :5] == 7).all()
    assert (pixels[5:] == 255).all()
    assert (pixels[:, 5:] == 255).all()


def test_transparent_and_grey_pictures_become_rgb() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (open_slide(clear).read(0, 0, 4, 4) == 255).all()
    assert open_slide(np.full((4, 4), 9, np.uint8)).read(0, 0, 4, 4).shape == (4, 4, 3)


def _ome(path: Path, pixels: np.ndarray, unit: str, size: float) -> None:
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": size}
    metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(pixels, tile=(64, 64), subifds=1, photometric="rgb", metadata=metadata)
        tif.write(pixels[::2, ::2], tile=(64, 64), subfiletype=1, photometric="rgb")


@pytest.mark.parametrize(("unit", "size"), [("µm", 0.25), ("nm", 250.0), ("mm", 0.00025)])
def test_ome_tiff_with_its_pyramid_and_units(tmp_path: Path, unit: str, size: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    path = tmp_path / "slide.ome.tif"
    _ome(path, pixels, unit, size)
    with TiffSlide(path) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.25))
        assert [level.downsample for level in slide.levels] == [1.0, 2.0]
        assert (slide.read(10, 20, 50, 40) == pixels[20:60, 10:60]).all()
        assert (slide.read(10, 20, 50, 40, 1) == pixels[20:100:2, 10:110:2]).all()


def test_plain_tiff_is_a_photograph_and_planes_are_understood(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8)
    tifffile.imwrite(tmp_path / "plain.tif", pixels, photometric="rgb")
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(pixels, -1, 0), photometric="rgb", planarconfig="separate")
    for name in ("plain.tif", "planes.tif"):
        with open_slide(tmp_path / name) as slide:
            assert slide.is_photograph
            assert (slide.read(0, 0, 50, 40) == pixels).all()


def test_openslide_and_tifffile_read_the_same_pixels(mosaic: Path) -> None:
    with OpenSlideSlide(mosaic) as first, open_slide(mosaic) as second:
        assert isinstance(second, TiffSlide)
        assert first.levels == second.levels
        assert first.mpp == pytest.approx(second.mpp)
        for level in (0, 2):
            region = (1600, 1200, 300, 200, level)
            assert np.abs(first.read(*region).astype(int) - second.read(*region)).max() <= 2


def test_after_an_undecodable_tile_the_next_one_still_reads(broken_mosaic: tuple[Path, tuple[int, int]]) -> None:
    path, (x, y) = broken_mosaic
    with open_slide(path) as slide:
        before = slide.read(0, 0, 64, 64, 1)
        with pytest.raises(SlideError, match="cannot be decoded"):
            slide.read(x, y, 64, 64, 1)
        assert (slide.read(0, 0, 64, 64, 1) == before).all()


def test_objective_power_gives_a_flagged_estimate(monkeypatch: pytest.MonkeyPatch, shared_data: Path) -> None:
    from dataclasses import replace

    from napari_dala.slide.backends import openslide as openslide_backend

    facts = openslide_backend._facts
    monkeypatch.setattr(openslide_backend, "_facts", lambda *handle: replace(facts(*handle), mpp=None))
    with open_slide(shared_data / SMALL_REGION) as slide:
        assert slide.mpp == (0.5, 0.5)
        assert slide.mpp_source == "objective power"


def test_pixels_without_a_file_are_the_same_slide_once_written(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    for given in (pixels, pixels[::-1, :, ::-1]):  # not contiguous
        slide = open_slide(given, mpp=0.5)
        write_pixels(slide, tmp_path / "pixels.tif")
        written = open_slide(tmp_path / "pixels.tif", mpp=0.5)
        np.testing.assert_array_equal(written.read(0, 0, 90, 70), given)
        assert written.fingerprint == slide.fingerprint
    assert open_slide(pixels).fingerprint != open_slide(pixels[::-1]).fingerprint
    for description in ("napari-dala pixels of", "napari-dala pixels of " + "z" * 64, "x" * 64):
        tifffile.imwrite(tmp_path / "other.tif", pixels, photometric="rgb", description=description)
        assert open_slide(tmp_path / "other.tif").fingerprint == fingerprint_of(tmp_path / "other.tif")
