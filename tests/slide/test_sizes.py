"""What declares itself too large is refused in one line, before memory is taken for it."""

from __future__ import annotations

import gzip
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_dala.slide import SlideError, open_slide
from napari_dala.slide.open import read_rgb

CASES = Path(__file__).parents[1] / "data" / "cases"


def _png(path: Path, side: int, colour: int, bits: int) -> None:
    """Write a PNG that says it is so large; of its pixels there is nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def _refused(path: Path, *said: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert all(part in message for part in said)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_slide_of_a_million_px_square_without_levels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.svs"
    path.write_bytes(gzip.decompress((CASES / "declares-1e6x1e6.svs.gz").read_bytes()))
    _refused(path, "1000000 x 1000000 px", "at most 34 gigapixels")


@pytest.mark.parametrize(("side", "colour", "bits"), [(13_000, 2, 8), (20_000, 0, 1), (100_000, 6, 16)])
def test_a_picture_that_takes_more_than_a_gigabyte_is_refused(
    tmp_path: Path, side: int, colour: int, bits: int
) -> None:
    _png(tmp_path / "huge.png", side, colour, bits)
    _refused(tmp_path / "huge.png", f"{side} x {side} px", "megapixels")


def test_a_large_picture_that_fits_opens_though_pillow_alone_would_not(tmp_path: Path) -> None:
    Image.new("1", (14_000, 13_000), 1).save(tmp_path / "large.png")
    limit = Image.MAX_IMAGE_PIXELS
    with open_slide(tmp_path / "large.png") as slide:
        assert slide.dimensions == (14_000, 13_000)
        assert (slide.read(13_990, 12_990, 10, 10) == 255).all()
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_tiles_of_a_hundred_thousand_px_are_refused(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "tiles.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), tile=(64, 64), photometric="rgb", compression=compression)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for name in ("TileWidth", "TileLength"):
            tif.pages[0].tags[name].overwrite(102_400)
    _refused(path, "a tile or strip of 102400 x 102400 px")


def test_a_tile_whose_jpeg_is_larger_than_it_says_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), tile=(64, 64), photometric="rgb", compression="jpeg")
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SlideError, match="cannot be decoded"):
        open_slide(path).read(0, 0, 64, 64)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_large_slide_is_no_photograph(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    _sparse(path, 20_480)
    with open_slide(path) as slide:
        assert slide.dimensions == (20_480, 20_480)
    with pytest.raises(SlideError, match="too large to be read at once"):
        read_rgb(path)


def _sparse(path: Path, side: int) -> None:
    """Write a slide of one stored tile many times over."""
    tifffile.imwrite(path, np.zeros((256, 256, 3), np.uint8), tile=(256, 256), photometric="rgb", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tags = tif.pages[0].tags
        count, offset, size = (side // 256) ** 2, tags["TileOffsets"].value[0], tags["TileByteCounts"].value[0]
        for name in ("ImageWidth", "ImageLength"):
            tags[name].overwrite(side)
        tags["TileOffsets"].overwrite([offset] * count)
        tags["TileByteCounts"].overwrite([size] * count)


def _svs(path: Path) -> tifffile.TiffPage:
    """Write a slide as Aperio's scanners do; return its page."""
    about = "Aperio Image Library v11.2.1\n256x256 [0,0 256x256] (128x128) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    how = {"tile": (128, 128), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    tifffile.imwrite(path, np.full((256, 256, 3), 200, np.uint8), description=about, **how)
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first


def test_a_tile_that_says_it_is_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    """OpenSlide would ask for as much memory, and end the process where it gets none."""
    file = tmp_path / "large.svs"
    counts = _svs(file).tags["TileByteCounts"]
    assert open_slide(file).facts.vendor == "aperio"
    held = bytearray(file.read_bytes())
    assert counts.dtype.name == "LONG"
    held[counts.valueoffset : counts.valueoffset + 4] = b"\xff" * 4
    file.write_bytes(held)
    with pytest.raises(SlideError, match=r"large\.svs: damaged, one of its tiles says it is larger than the file"):
        open_slide(file)


@pytest.mark.parametrize("suffix", [".svs", ".tif"])
def test_a_list_of_pages_that_leads_back_into_itself_ends(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"round{suffix}"
    page = _svs(file)
    held = bytearray(file.read_bytes())
    entries = int.from_bytes(held[page.offset : page.offset + 2], "little")
    link = page.offset + 2 + 12 * entries  # where the next page lies
    held[link : link + 4] = len(held).to_bytes(4, "little")
    second = bytearray(held[page.offset : link + 4])
    second[-4:] = len(held).to_bytes(4, "little")  # itself
    file.write_bytes(held + second)
    with pytest.raises(SlideError, match=f"round\\{suffix}: .*circular reference"):
        open_slide(file)
