"""A slide's ICC profile: the same sRGB whichever way pixels are read, littleCMS being the reference."""

from __future__ import annotations

import logging
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest
import tifffile
import torch
from PIL import Image
from skimage.data import immunohistochemistry

from napari_dala.inference.sampler import Sampler
from napari_dala.slide import open_slide
from napari_dala.slide.backends.openslide import OpenSlideSlide
from napari_dala.slide.backends.tifffile import TiffSlide
from napari_dala.slide.backends.tiled_tiff import TiledTiffSlide
from napari_dala.slide.open import read_rgb
from napari_dala.slide.profile import ColourProfile, _warn
from napari_dala.slide.pyramid import pyramid
from napari_dala.slide.thumbnail import keep_thumbnail, kept_thumbnail
from napari_dala.slide.tiles import TileGrid, read_tiles
from tests.icc import DARK, SRGB, SWAPPED, by_littlecms, profile

if TYPE_CHECKING:
    from pathlib import Path


_TISSUE = np.ascontiguousarray(immunohistochemistry()[:300, :400])
_APERIO = "Aperio Image Library v11.2.1\n400x300 [0,0 400x300] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
_TILED = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
_KINDS = ("svs", "jpeg.tif", "deflate.tif", "strips.tif", "ome.tif", "turned.tif", "png", "jpg")


def write(folder: Path, kind: str, icc: bytes | None) -> Path:
    """Write the tissue into a file with a profile."""
    path = folder / f"slide.{kind}"
    held = {"iccprofile": icc} if icc else {}
    if kind in ("png", "jpg"):
        Image.fromarray(_TISSUE).save(path, icc_profile=icc)
    elif kind == "svs":
        tifffile.imwrite(path, _TISSUE, compression="jpeg", description=_APERIO, **_TILED, **held)
    elif kind == "jpeg.tif":
        tifffile.imwrite(path, _TISSUE, compression="jpeg", **_TILED, **held)
    elif kind == "deflate.tif":
        tifffile.imwrite(path, _TISSUE, compression="zlib", **_TILED, **held)
    elif kind == "strips.tif":
        tifffile.imwrite(path, _TISSUE, photometric="rgb", rowsperstrip=50, metadata=None, **held)
    elif kind == "turned.tif":
        turned = {"extratags": [(274, 3, 1, 6, True)]}
        tifffile.imwrite(path, _TISSUE, compression="zlib", **_TILED, **turned, **held)
    else:
        tifffile.imwrite(path, _TISSUE, tile=(64, 64), photometric="rgb", **held)
    return path


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("icc", [SWAPPED, DARK], ids=["swapped", "dark"])
def test_every_way_of_reading_gives_what_littlecms_gives(tmp_path: Path, kind: str, icc: bytes) -> None:
    path = write(tmp_path, kind, icc)
    with open_slide(path, mpp=0.5) as slide, open_slide(path, mpp=0.5, icc_profile=False) as raw:
        stored = raw.read(0, 0, *raw.dimensions)
        expected = by_littlecms(stored, icc)
        assert np.abs(expected.astype(int) - stored).max() > 20
        whole = slide.read(0, 0, *slide.dimensions)
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_array_equal(read_rgb(path), expected)
        np.testing.assert_array_equal(read_rgb(path, icc_profile=False), stored)
        np.testing.assert_array_equal(slide.read(30, 40, 100, 90), expected[40:130, 30:130])
        into = np.empty((90, 100, 3), np.uint8)
        slide.read_into(into, 30, 40)
        np.testing.assert_array_equal(into, expected[40:130, 30:130])
        np.testing.assert_array_equal(np.asarray(pyramid(slide)[0]), expected)
        np.testing.assert_array_equal(slide.thumbnail(400), expected)
        grid = TileGrid.over(slide, 64, 0.5)
        tile = read_tiles(slide, grid, 1, 1, 1, 1)
        np.testing.assert_array_equal(tile, expected[64:128, 64:128])
        for on_device in (False, True):
            sampler = Sampler(slide, grid, torch.device("cpu"), decode_on_device=on_device)
            np.testing.assert_array_equal(sampler.picture(1, 1, 1, 1).numpy(), tile)
        assert whole.flags.writeable, "torch takes it as it is"


@pytest.mark.parametrize(
    ("kind", "reader"), [("svs", TiledTiffSlide), ("jpeg.tif", TiffSlide), ("deflate.tif", TiffSlide)]
)
def test_the_fast_paths_give_openslides_colours(tmp_path: Path, kind: str, reader: type) -> None:
    held = SWAPPED + bytes(4)  # which littleCMS would write without its end
    path = write(tmp_path, kind, held)
    with open_slide(path) as slide, OpenSlideSlide(path) as reference:
        assert isinstance(slide, reader)
        assert reference.own_profile is not None
        assert reference.facts.icc == held, "as the file holds it, for its digest is part of keys"
        assert slide.profile is not None
        reference.profile = reference.own_profile
        np.testing.assert_array_equal(slide.read(10, 20, 200, 200), reference.read(10, 20, 200, 200))
        handle = openslide.OpenSlide(path)
        theirs = np.asarray(handle.read_region((10, 20), 0, (200, 200)).convert("RGB"))
        np.testing.assert_array_equal(
            slide.read(10, 20, 200, 200), by_littlecms(theirs, handle.color_profile.tobytes())
        )


def test_a_swap_of_primaries_swaps_red_and_blue(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[..., 0] = 255
    Image.fromarray(pixels).save(tmp_path / "red.png", icc_profile=SWAPPED)
    np.testing.assert_allclose(read_rgb(tmp_path / "red.png")[5, 5], (0, 0, 255), atol=3)


def test_dicom_states_its_profile_in_the_optical_path(tmp_path: Path, shared_data: Path) -> None:
    folder = shutil.copytree(shared_data / "slides" / "CMU-1-Small-Region-dicom", tmp_path / "dicom")
    with open_slide(folder) as slide:
        own = slide.facts.icc
        stored = slide.read(500, 500, 300, 300)
        assert own is not None
        assert (slide.profile_id, slide.properties["icc_profile"]) == ("", "sRGB"), "which costs nothing"
        fingerprint = slide.fingerprint
    for file in folder.glob("*.dcm"):
        content = file.read_bytes()
        assert own in content
        file.write_bytes(content.replace(own, SWAPPED.ljust(len(own), b"\0")))
    with open_slide(folder) as slide:
        assert slide.profile is not None
        np.testing.assert_array_equal(slide.read(500, 500, 300, 300), by_littlecms(stored, SWAPPED))
        assert len({slide.fingerprint, fingerprint}) in (1, 2)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("icc", [None, SRGB], ids=["none", "sRGB"])
def test_without_a_profile_or_with_srgb_nothing_changes(tmp_path: Path, kind: str, icc: bytes | None) -> None:
    with open_slide(write(tmp_path, kind, icc)) as slide:
        assert slide.profile is None
        assert slide.uses_profile
        assert (slide.profile_id, slide.pixels_id) == ("", slide.fingerprint)
        assert slide.properties.get("icc_profile") == ("sRGB" if icc else None)
        if kind in ("deflate.tif", "strips.tif", "png"):
            np.testing.assert_array_equal(slide.read(0, 0, 400, 300), _TISSUE)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(
    ("icc", "reason"),
    [
        (SWAPPED[:200], "damaged"),
        (b"no profile at all", "damaged"),
        (SWAPPED.replace(b"rXYZ", b"none"), "damaged"),
        (profile(space=b"CMYK"), "not of RGB (CMYK)"),
    ],
    ids=["cut short", "text", "a tag is missing", "inks"],
)
def test_a_damaged_profile_is_named_once_and_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, icc: bytes, reason: str
) -> None:
    _warn.cache_clear()
    path = write(tmp_path, kind, icc)
    (tmp_path / "plain").mkdir()
    with open_slide(write(tmp_path / "plain", kind, None)) as slide:
        stored = slide.read(0, 0, *slide.dimensions)
    with caplog.at_level(logging.WARNING, "napari_dala"):
        for _ in range(3):
            with open_slide(path) as slide:
                assert slide.profile is None
                assert slide.properties["icc_profile"] == "damaged or not RGB, ignored"
                np.testing.assert_array_equal(slide.read(0, 0, *slide.dimensions), stored)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1, lines
    assert f"slide.{kind}" in lines[0]
    assert reason in lines[0]


def test_small_pictures_are_kept_apart_by_colours(tmp_path: Path) -> None:
    path = write(tmp_path, "png", SWAPPED)
    pictures = []
    for icc_profile in (True, False):
        with open_slide(path, icc_profile=icc_profile) as slide:
            assert slide.uses_profile is icc_profile
            kept = keep_thumbnail(slide)
            assert kept == kept_thumbnail(slide.pixels_id)
            pictures.append(np.asarray(Image.open(kept)))
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 10


def test_levels_that_are_computed_are_kept_apart_by_colours(tmp_path: Path) -> None:
    high = np.tile(_TISSUE, (8, 8, 1))
    tifffile.imwrite(tmp_path / "high.tif", high, compression="zlib", iccprofile=SWAPPED, **_TILED)
    for icc_profile in (False, True):
        with open_slide(tmp_path / "high.tif", icc_profile=icc_profile) as slide:
            done: list[bool] = []
            pyramid(slide, lambda done=done: done.append(True))
            for _ in range(600):
                if done:
                    break
                time.sleep(0.1)
            coarse = np.asarray(pyramid(slide)[-1][:70, :90])
            stored = np.asarray(Image.fromarray(high[:280, :360]).reduce(4))
            expected = by_littlecms(high[:280, :360], SWAPPED) if icc_profile else high[:280, :360]
            near = np.asarray(Image.fromarray(np.ascontiguousarray(expected)).reduce(4))
            np.testing.assert_array_equal(coarse, near)
            assert np.array_equal(coarse, stored) is not icc_profile


def test_the_profile_is_safe_in_threads(tmp_path: Path) -> None:
    expected = by_littlecms(_TISSUE, DARK)
    one = ColourProfile(DARK)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: one.to_srgb(_TISSUE), range(24)))
    for pixels in found:
        np.testing.assert_array_equal(pixels, expected)
