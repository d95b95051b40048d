"""One file has the same pixels in analysis, in training and in Pillow, whatever its colours and its turn; or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from skimage.data import immunohistochemistry

from napari_dala.slide import SlideError, open_slide
from napari_dala.slide.colours import picture_rgb
from napari_dala.slide.open import read_rgb

if TYPE_CHECKING:
    from pathlib import Path

WHITE = (255, 255, 255)
STRIPS, TILES = {"rowsperstrip": 32}, {"tile": (64, 48)}


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    return np.ascontiguousarray(immunohistochemistry()[:150, :200])


def _alpha(tissue: np.ndarray) -> np.ndarray:
    return np.dstack((tissue, np.arange(tissue.size // 3).reshape(tissue.shape[:2]).astype(np.uint8)))


def _converted(pixels: np.ndarray, mode: str) -> np.ndarray:
    picture = Image.fromarray(pixels).convert(mode)
    return np.array(picture)


# name: samples from RGB, how tifffile writes them, the RGB that is meant (None: the tissue's own), largest difference
KINDS = {
    "rgb": (lambda rgb: rgb, {"photometric": "rgb"}, None, 0),
    "planes": (lambda rgb: np.moveaxis(rgb, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, None, 0),
    "rgb16": (lambda rgb: rgb.astype(np.uint16) * 257, {"photometric": "rgb"}, None, 0),
    "alpha": (
        _alpha,
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        lambda rgb: picture_rgb(Image.fromarray(_alpha(rgb)), WHITE),
        0,
    ),
    "unspecified": (_alpha, {"photometric": "rgb", "extrasamples": ["unspecified"]}, None, 0),
    "grey": (lambda rgb: rgb[..., 0], {"photometric": "minisblack"}, lambda rgb: rgb[..., [0, 0, 0]], 0),
    "negative": (lambda rgb: 255 - rgb[..., 0], {"photometric": "miniswhite"}, lambda rgb: rgb[..., [0, 0, 0]], 0),
    "inks": (lambda rgb: _converted(rgb, "CMYK"), {"photometric": "separated"}, None, 0),
    "ycbcr": (lambda rgb: _converted(rgb, "YCbCr"), {"photometric": "ycbcr"}, None, 3),
}


@pytest.mark.parametrize("layout", [STRIPS, TILES, {}], ids=["strips", "tiles", "whole"])
@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("kind", KINDS)
def test_tiff_of_any_colours_is_read_as_it_is_meant(
    tmp_path: Path, tissue: np.ndarray, kind: str, compression: str | None, layout: dict[str, object]
) -> None:
    samples, options, meant, most = KINDS[kind]
    path = tmp_path / "kind.tif"
    tifffile.imwrite(path, samples(tissue), compression=compression, metadata=None, **layout, **options)
    expected = tissue if meant is None else meant(tissue)
    assert np.abs(read_rgb(path).astype(int) - expected).max() <= most


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "LAB", "YCbCr"])
def test_tiff_that_pillow_wrote_has_pillows_pixels(
    tmp_path: Path, tissue: np.ndarray, mode: str, compression: str
) -> None:
    path = tmp_path / f"{mode}.tif"
    picture = Image.fromarray(tissue)
    if mode == "LAB":
        lab = np.random.default_rng(0).integers(0, 255, tissue.shape, np.uint8)
        picture = Image.frombytes("LAB", picture.size, lab.tobytes())
    elif mode != "RGB":
        picture = Image.fromarray(_alpha(tissue)).convert(mode) if "A" in mode else picture.convert(mode)
    picture.save(path, compression=compression)
    with Image.open(path) as written:
        expected = picture_rgb(written, WHITE)
    assert np.abs(read_rgb(path).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("compression", ["lzw", "lzma", "zstd", "webp", "jpeg2000", "jpegxl", "png", "packbits"])
def test_tiles_of_every_codec_open(tmp_path: Path, tissue: np.ndarray, compression: str) -> None:
    options = {"webp": {"lossless": True}, "jpeg2000": {"reversible": True}, "jpegxl": {"lossless": True}}
    path, arguments = tmp_path / "codec.tif", options.get(compression)
    tifffile.imwrite(path, tissue, tile=(64, 64), photometric="rgb", compression=compression, compressionargs=arguments)
    with open_slide(path) as slide:
        assert not slide.is_photograph
        np.testing.assert_array_equal(slide.read(0, 0, 200, 150), tissue)


@pytest.mark.parametrize("layout", [STRIPS, TILES | {"compression": "jpeg"}], ids=["strips", "jpeg tiles"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_turns_the_whole_picture(
    tmp_path: Path, tissue: np.ndarray, orientation: int, layout: dict[str, object]
) -> None:
    path = tmp_path / "turned.tif"
    tag = (274, 3, 1, orientation, True)
    tifffile.imwrite(path, tissue, photometric="rgb", metadata=None, extratags=[tag], resolution=(2e4, 4e4), **layout)
    with tifffile.TiffFile(path) as tif:
        stored = Image.fromarray(tif.asarray())
    stored.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    with open_slide(path) as slide:
        assert slide.dimensions == expected.shape[1::-1]
        assert np.abs(slide.read(0, 0, *slide.dimensions).astype(int) - expected).max() <= 1
        x, y = 31, 17  # of several tiles
        assert np.abs(slide.read(x, y, 90, 100).astype(int) - expected[y : y + 100, x : x + 90]).max() <= 1
        assert (slide.read(-5, -5, 5, 5) == 255).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_photograph(tmp_path: Path, tissue: np.ndarray, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(tissue).save(tmp_path / f"turned{suffix}", exif=exif)
    with Image.open(tmp_path / f"turned{suffix}") as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_rgb(tmp_path / f"turned{suffix}"), expected)


def test_a_picture_is_read_by_what_it_is_not_by_its_name(tmp_path: Path, tissue: np.ndarray) -> None:
    Image.fromarray(tissue).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", tissue, photometric="rgb")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    (tmp_path / "b.tif").rename(tmp_path / "b.png")
    for name in ("a.tif", "b.png"):
        np.testing.assert_array_equal(read_rgb(tmp_path / name), tissue)


def _stack(tissue: np.ndarray) -> np.ndarray:
    return np.stack((tissue, tissue))


REFUSED = [
    # pixels, how they are written, what is said
    (lambda rgb: rgb[..., 0].astype(np.float32) / 255, {"photometric": "minisblack"}, "32-bit floating-point"),
    (lambda rgb: rgb.astype(np.float32) / 255, {"photometric": "rgb"}, "32-bit floating-point"),
    (lambda rgb: rgb[..., 0].astype(np.uint16) << 4, {"photometric": "minisblack"}, "16-bit unsigned"),
    (lambda rgb: rgb[..., 0].astype(np.int8), {"photometric": "minisblack"}, "8-bit signed"),
    (_stack, {"photometric": "rgb"}, "a stack"),
    (lambda rgb: np.repeat(rgb[..., :1], 5, -1), {"photometric": "minisblack", "planarconfig": "contig"}, "5 samples"),
    (lambda rgb: rgb, {"photometric": "minisblack", "planarconfig": "contig"}, "3 samples of colour space MINISBLACK"),
]


@pytest.mark.parametrize("layout", [STRIPS, TILES], ids=["strips", "tiles"])
@pytest.mark.parametrize(("pixels", "options", "reason"), REFUSED)
def test_what_is_no_picture_is_refused_in_words(
    tmp_path: Path, tissue: np.ndarray, pixels: Any, options: dict[str, Any], reason: str, layout: dict[str, Any]
) -> None:
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, pixels(tissue), metadata=None, compression="deflate", **layout, **options)
    with pytest.raises(SlideError, match=rf"odd\.tif: .*{reason}"):
        read_rgb(path)


def test_coarser_colours_that_no_codec_puts_together_are_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    path = tmp_path / "coarse.tif"
    tifffile.imwrite(path, tissue, photometric="ycbcr", compression="deflate")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["YCbCrSubSampling"].overwrite((2, 2))
    with pytest.raises(SlideError, match=r"coarse\.tif: .*subsampling"):
        read_rgb(path)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_grey_is_refused_in_words(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("deep.png" if mode == "I;16" else "deep.tif")
    Image.new(mode, (32, 32)).save(path)
    with pytest.raises(SlideError, match="8-bit RGB"):
        read_rgb(path)
