"""JPEG tiles decoded at half size: as the whole ones shrunk, at the same places, wherever it is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.data import immunohistochemistry

from napari_dala.inference.sampler import Sampler
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def one_level(path: Path, side: tuple[int, int] = (1501, 1283)) -> Path:
    """Write tissue as a tiled JPEG TIFF of one level at 0.25 um/px, odd in width and height."""
    tissue = np.asarray(Image.fromarray(immunohistochemistry()).resize((1536, 1536)))[: side[0], : side[1]]
    tifffile.imwrite(
        path,
        tissue,
        photometric="rgb",
        tile=(256, 256),
        compression="jpeg",
        compressionargs={"level": 90},
        resolution=(40000, 40000),
        resolutionunit="CENTIMETER",
    )
    return path


@pytest.mark.parametrize("kind", ["generic", "svs"])
def test_a_half_is_the_whole_shrunk(kind: str, tmp_path: Path, shared_data: Path) -> None:
    path = one_level(tmp_path / "a.tiff")
    if kind == "svs":
        path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    with open_slide(path, mpp=0.25) as slide:
        halves = slide.with_halves()
        assert slide.levels == halves.levels[: len(slide.levels)]
        half = len(slide.levels)
        level = halves.levels[half]
        assert (level.width, level.height) == (slide.levels[0].width // 2, slide.levels[0].height // 2)
        assert level.downsample == 2
        for x, y in ((0, 0), (510, 300), (slide.dimensions[0] - 500, slide.dimensions[1] - 400)):
            x, y = x // 2 * 2, y // 2 * 2
            whole = Image.fromarray(slide.read(x, y, 480, 380)).reduce(2)
            ours = halves.read(x, y, 240, 190, half)
            assert np.abs(np.asarray(whole, int) - ours).mean() < 2.5
            moved = np.abs(np.asarray(whole, int)[:, 1:] - ours[:, :-1]).mean()
            assert moved > 2 * np.abs(np.asarray(whole, int) - ours).mean(), "they lie at the same place"


@pytest.mark.parametrize(("mpp", "halved"), [(0.25, False), (0.5, False), (0.6, False), (0.65, True), (1.0, True)])
def test_tiles_are_read_at_half_size_where_the_model_is_far_coarser(tmp_path: Path, mpp: float, halved: bool) -> None:
    with open_slide(one_level(tmp_path / "a.tiff")) as slide:
        grid = TileGrid.over(slide, 64, mpp)
        sampler = Sampler(slide, grid, CPU)
        assert (sampler._level == 1) == halved
        for row, column in ((0, 0), (grid.shape[0] - 2, grid.shape[1] - 2)):
            ours = sampler.picture(row, column, 2, 2).numpy().astype(int)
            known = read_tiles(slide, grid, row, column, 2, 2)
            assert np.abs(ours - known).mean() < 3
        assert Sampler(slide, grid, CPU, decode_on_device=True)._level == 0


def test_a_level_that_is_there_goes_first(mosaic: Path) -> None:
    with open_slide(mosaic) as slide:
        for mpp, level in ((0.4, 0), (0.65, 1), (1.0, 2), (1.4, 2)):
            assert Sampler(slide, TileGrid.over(slide, 224, mpp), CPU)._level == level


def test_damage_is_seen_at_half_size_too(tmp_path: Path) -> None:
    path = one_level(tmp_path / "a.tiff")
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    with path.open("r+b") as file:
        file.seek(offset + count // 2)
        file.write(b"\0" * (count // 4))
    with open_slide(path) as slide:
        grid = TileGrid.over(slide, 64, 0.65)
        with pytest.raises(Exception, match=r"a\.tiff: pixels at .* cannot be decoded"):
            Sampler(slide, grid, CPU).picture(0, 0, 1, 1)


def test_what_holds_no_jpeg_has_no_halves(tmp_path: Path) -> None:
    slide = open_slide(immunohistochemistry(), mpp=0.25)
    assert slide.with_halves().levels == slide.levels


def test_a_level_that_is_a_hair_finer_than_a_half_goes_first(tmp_path: Path) -> None:
    tissue = np.asarray(Image.fromarray(immunohistochemistry()).resize((1283, 1027)))
    with tifffile.TiffWriter(tmp_path / "a.tiff") as tiff:
        for level, part in enumerate((tissue, tissue[::2, ::2])):
            tiff.write(
                part,
                photometric="rgb",
                tile=(256, 256),
                compression="jpeg",
                subfiletype=level and 1,
                resolution=(40000, 40000),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    with open_slide(tmp_path / "a.tiff") as slide:
        assert len(slide.levels) == 2
        assert 1.9 < slide.levels[1].downsample < 2
        assert Sampler(slide, TileGrid.over(slide, 64, 0.65), CPU)._level == 1
