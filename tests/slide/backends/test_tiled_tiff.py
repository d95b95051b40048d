"""JPEG tiles decoded without OpenSlide give its pixels, its facts, and its errors."""

from __future__ import annotations

import gc
import io
import shutil
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image
from skimage.data import immunohistochemistry

from napari_dala.slide import SlideError, open_slide
from napari_dala.slide.backends.jpeg_tiles import JpegTiles
from napari_dala.slide.backends.openslide import OpenSlideSlide
from napari_dala.slide.backends.tifffile import TiffSlide
from napari_dala.slide.backends.tiled_tiff import TiledTiffSlide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Pair = tuple[TiledTiffSlide | TiffSlide, OpenSlideSlide]

JPEG_ROUNDING = 2  # grey levels, the most that any pixel may differ; with libjpeg-turbo on both sides it is 0
SIDE = 500  # no multiple of the 64 px tiles


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching_slide(tmp_path_factory.mktemp("drawn") / "drawn.tiff", 2048, seed=5).path


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """One slide by both readers."""
    name = request.param
    path = request.getfixturevalue("shared_data") / name if "/" in name else request.getfixturevalue(name)
    with open_slide(path) as tiled, OpenSlideSlide(path) as reference:
        assert isinstance(tiled, TiledTiffSlide if path.suffix == ".svs" else TiffSlide)
        yield tiled, reference


def _write(path: Path, pixels: np.ndarray, levels: int = 1, **options: object) -> Path:
    """Write a pyramid, each level by leaving out every other pixel of the one before."""
    settings = {"compression": "jpeg", "photometric": "rgb", "tile": (64, 64), "metadata": None} | options
    with tifffile.TiffWriter(path) as tif:
        for level in range(levels):
            tif.write(pixels[:: 1 << level, :: 1 << level], subfiletype=1 if level else 0, **settings)
    return path


def _tissue(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return immunohistochemistry()[:height, :width]


def _places(width: int, height: int, tile: int) -> list[tuple[int, int, int, int]]:
    """Rectangles of a level: inside at odd places, over every edge, over the whole of it, and beside it."""
    return [
        (0, 0, width, height),
        (min(7, width // 2), min(3, height // 2), max(1, width // 2), max(1, height // 3)),
        (tile - 1, tile + 1, 2, 1),
        (-13, -5, tile + 20, 40),
        (width - 31, height // 2, 64, 2 * tile),
        (width // 3, height - 9, tile, 30),
        (-3, -3, width + 6, height + 6),
        (width + 5, 2, 10, 10),
        (-20, -20, 20, 20),
    ]


@pytest.mark.parametrize("pair", ["slides/CMU-1-Small-Region.svs", "slides/😐.svs", "mosaic", "drawn"], indirect=True)
def test_pixels_are_openslides_at_every_level_and_place(
    pair: Pair,
) -> None:
    tiled, reference = pair
    for index, level in enumerate(reference.levels):
        assert tiled.jpeg_tiles[index] is not None
        assert level.downsample == int(level.downsample)  # elsewhere OpenSlide interpolates
        for x, y, width, height in _places(level.width, level.height, level.tile[0]):
            region = (x * int(level.downsample), y * int(level.downsample), width, height, index)
            ours = tiled.read(*region)
            assert ours.shape == (height, width, 3)
            assert ours.dtype == np.uint8
            assert np.abs(ours.astype(int) - reference.read(*region)).max() <= JPEG_ROUNDING


@pytest.mark.parametrize("pair", ["slides/CMU-1-Small-Region.svs", "slides/boxes.tiff", "mosaic"], indirect=True)
def test_what_is_said_of_the_slide_is_openslides(pair: Pair) -> None:
    tiled, reference = pair
    assert tiled.facts == reference.facts
    assert tiled.properties == reference.properties
    assert tiled.fingerprint == reference.fingerprint


KINDS = [
    # how it is written, decoded here?
    ({"compressionargs": {"outcolorspace": "rgb"}}, True),
    ({"subsampling": (1, 1)}, True),
    ({"subsampling": (2, 1)}, True),
    ({"subsampling": (2, 2)}, True),
    ({"tile": (48, 80)}, True),
    ({"compression": "deflate"}, False),
    ({"compression": "lzw"}, False),
    ({"planarconfig": "separate"}, False),
    ({"photometric": "minisblack"}, False),
]


@pytest.mark.parametrize(("options", "decoded"), KINDS)
def test_jpeg_of_any_colours_is_decoded_here_and_the_rest_elsewhere(
    tmp_path: Path, options: dict[str, object], decoded: bool
) -> None:
    pixels = _tissue()
    if options.get("planarconfig"):
        pixels = np.moveaxis(pixels, -1, 0)
    elif options.get("photometric"):
        pixels = pixels[..., 1]
    path = _write(tmp_path / "kind.tif", pixels, **options)
    with open_slide(path) as slide:
        tiles = getattr(slide, "jpeg_tiles", (None,))
        assert (tiles[0] is not None) == decoded
        expected = tifffile.imread(path)
        if expected.shape[-1] != 3:
            expected = np.repeat(expected[..., None], 3, -1) if expected.ndim == 2 else np.moveaxis(expected, 0, -1)
        found = slide.read(30, 50, 300, 200).astype(int)
        assert np.abs(found - expected[50:250, 30:330]).max() <= JPEG_ROUNDING


def test_a_level_that_is_no_whole_number_coarser_is_read_pixel_by_pixel(tmp_path: Path) -> None:
    path = _write(tmp_path / "odd.tif", _tissue(491, 503), levels=3, resolution=(40000, 40000), resolutionunit=3)
    with open_slide(path) as slide:
        for index in (2, 1):
            down = slide.levels[index].downsample
            assert down != int(down)
            level = tifffile.imread(path, key=index)
            for left, top in ((1, 3), (41, 38), (77, 90)):
                x, y = round(left * down), round(top * down)
                assert slide.corner(x, y, index) == (left, top)
                assert (slide.read(x, y, 30, 20, index) == level[top : top + 20, left : left + 30]).all()
        grid = TileGrid((503, 491), 64, (down, down), 2)  # level 1's own pixels: nothing to resample
        assert (read_tiles(slide, grid, 1, 2, 1, 1) == level[64:128, 128:192]).all()


def _forget_tile(path: Path, page: int, index: int) -> None:
    """Say that a tile has no bytes, as a scanner does that left it out."""
    with tifffile.TiffFile(path, mode="r+b") as tif:
        counts = list(tif.pages[page].databytecounts)
        counts[index] = 0
        tif.pages[page].tags["TileByteCounts"].overwrite(counts)


def test_a_tile_that_is_not_stored_is_background(tmp_path: Path) -> None:
    path = _write(tmp_path / "sparse.tif", _tissue(), levels=2)
    _forget_tile(path, 0, 9)
    with open_slide(path) as slide, OpenSlideSlide(path) as reference:
        assert slide.jpeg_tiles[0] is not None
        assert slide.jpeg_tiles[0].compressed(1, 1) == b""
        found = slide.read(0, 0, SIDE, SIDE)
        assert (found[64:128, 64:128] == slide.facts.background).all()
        assert np.abs(found.astype(int) - reference.read(0, 0, SIDE, SIDE)).max() <= JPEG_ROUNDING


def test_openslide_draws_what_an_svs_lacks(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "sparse.svs"
    shutil.copy(shared_data / "slides/CMU-1-Small-Region.svs", path)
    _forget_tile(path, 0, 9)
    with open_slide(path) as slide, OpenSlideSlide(path) as reference:
        assert slide.jpeg_tiles == (None,)
        assert (slide.read(0, 0, 400, 400) == reference.read(0, 0, 400, 400)).all()


def test_two_pages_of_one_size_are_a_stack_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "planes.tif"
    with tifffile.TiffWriter(path) as tif:
        for _ in range(2):
            tif.write(_tissue(), compression="jpeg", photometric="rgb", tile=(64, 64), metadata=None)
    with pytest.raises(SlideError, match="a stack"):
        open_slide(path)


def _missing(*_: object, **__: object) -> np.ndarray:
    raise ValueError("not a kind of JPEG that can be decoded")


def _other_colours(*args: object, **options: object) -> np.ndarray:
    return _decode(*args, **options)[..., ::-1]


_decode = simplejpeg.decode_jpeg


@pytest.mark.parametrize("decode", [_missing, _other_colours])
def test_a_decoder_that_fails_or_disagrees_leaves_the_tiles_to_tifffile(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, decode: object
) -> None:
    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)
    with open_slide(drawn) as slide, OpenSlideSlide(drawn) as reference:
        assert slide.jpeg_tiles == (None,) * len(slide.levels)
        assert (slide.read(500, 400, 90, 80, 1) == reference.read(500, 400, 90, 80, 1)).all()


@pytest.mark.parametrize("intact", [0.0, 0.4, 0.9])  # part of the tile's bytes; the rest is zeros
def test_a_damaged_tile_is_named_and_the_others_are_read(tmp_path: Path, intact: float) -> None:
    path = _write(tmp_path / "damaged.tif", _tissue(512, 512), tile=(256, 256))
    with open_slide(path) as slide:
        expected = slide.read(0, 256, 500, 200)
        tiles = slide.jpeg_tiles[0]
        assert tiles is not None
    damaged = int(np.argmin(tiles.counts[0]))  # not the tile by which the readers are compared
    with path.open("rb+") as file:
        file.seek(tiles.offsets[0, damaged] + int(intact * tiles.counts[0, damaged]))
        file.write(bytes(tiles.counts[0, damaged] - int(intact * tiles.counts[0, damaged])))
    with open_slide(path) as slide:
        assert slide.jpeg_tiles[0] is not None
        with pytest.raises(ValueError, match="JPEG"):  # libjpeg itself would go on in grey
            slide.jpeg_tiles[0].decode(0, damaged)
        with pytest.raises(SlideError, match=r"damaged\.tif: pixels at \(206, 50\) of level 0 cannot be decoded"):
            slide.read(206, 50, 100, 20)
        assert (slide.read(0, 256, 500, 200) == expected).all()
        with ThreadPoolExecutor(4) as pool:  # of several readers
            rows = list(pool.map(lambda y: slide.read(0, y, 500, 10), range(256, 456, 10)))
        assert (np.concatenate(rows) == expected).all()


@pytest.mark.parametrize("pair", ["slides/CMU-1-Small-Region.svs", "mosaic"], indirect=True)
def test_the_bytes_of_a_tile_can_be_had(pair: Pair) -> None:
    tiles = pair[0].jpeg_tiles[0]
    assert tiles is not None
    (wide, high), data = tiles.tile, tiles.compressed(2, 3)
    with Image.open(io.BytesIO(data)) as picture:  # the tables and the colours are in it
        pixels = np.asarray(picture)
    assert np.abs(pixels.astype(int) - pair[1].read(3 * wide, 2 * high, wide, high)).max() <= JPEG_ROUNDING


def test_a_tile_that_two_rectangles_share_is_decoded_once(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TiffSlide(drawn) as slide:
        wide, high = slide.levels[0].tile
        decode, decoded = simplejpeg.decode_jpeg, []
        monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: decoded.append(1) or decode(*a, **k))
        left = slide.read(0, 0, wide + 9, high)
        assert 1 <= len(decoded) <= 2  # one may be known since opening
        before = len(decoded)
        right = slide.read(wide, 0, wide, high)
        assert len(decoded) == before
        assert (left[:, wide:] == right[:, :9]).all()
        right[:] = 0  # what a caller does with its pixels is nobody else's
        assert (slide.read(wide, 0, 9, high) == left[:, wide:]).all()


def test_a_closed_slide_holds_no_file(drawn: Path) -> None:
    slide = open_slide(drawn)
    slide.close()
    assert slide.jpeg_tiles[0] is not None
    with pytest.raises(ValueError, match="closed"):
        slide.jpeg_tiles[0].compressed(0, 0)


def test_a_slide_that_is_gone_keeps_no_pixels(drawn_slide: Path) -> None:
    """Decoded tiles are up to 48 MB a level; until Python looks for cycles several slides' would pile up."""
    gc.collect()
    gc.disable()
    try:
        slide = open_slide(drawn_slide)
        slide.read(0, 0, 64, 64)
        (tiles,) = (weakref.ref(one) for one in gc.get_objects() if type(one) is JpegTiles and one.size[0] == 1120)
        slide.close()
        del slide
        assert tiles() is None
    finally:
        gc.enable()
