"""Measure what reading a slide costs: processor time per model tile with each reader that can read it.

    python -m benchmarks.reading SLIDE... [--mpp 0.5 1.0] [--blocks N] [--rounds 3] [--icc PROFILE...]

Blocks of 4 x 4 tiles of 224 px are read in the order of an analysis, in one thread: decoding, putting together and
resampling. The readers take turns; figures are medians over the rounds. Their pixels are compared. With `--icc` the
JPEG tiles are read once more for each ICC profile, as if it lay in the file.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.plan import tissue_tiles
from napari_dala.analysis.reading import read_block
from napari_dala.analysis.schedule import Schedule
from napari_dala.inference.sampler import Sampler
from napari_dala.slide import open_slide
from napari_dala.slide.backends.openslide import OpenSlideSlide
from napari_dala.slide.backends.tifffile import TiffSlide
from napari_dala.slide.backends.tiled_tiff import TiledTiffSlide
from napari_dala.slide.profile import ColourProfile
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_dala.slide import Slide

READERS: Mapping[str, Callable[[Path], Slide]] = {
    "OpenSlide": OpenSlideSlide,
    "tifffile": TiffSlide,
    "JPEG tiles": TiledTiffSlide,
}
CPU = torch.device("cpu")


def main() -> None:
    """Print one line a slide and resolution."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path, nargs="+")
    parser.add_argument("--mpp", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--blocks", type=int, help="read only so many; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--list-tiles", type=int, metavar="LEVEL", help="print where the level's JPEG tiles lie instead"
    )
    parser.add_argument("--icc", type=Path, nargs="+", default=[], help="ICC profiles of RGB")
    args = parser.parse_args()
    if args.list_tiles is not None:
        return list_tiles(args.slides[0], args.list_tiles)
    torch.set_num_threads(1)
    readers = {**READERS} | {icc.name: partial(_read_by, ColourProfile(icc.read_bytes())) for icc in args.icc}
    for path in args.slides:
        for mpp in args.mpp:
            compare(path, mpp, readers, args.blocks, args.rounds)


def list_tiles(path: Path, level: int) -> None:
    """Print offset and number of bytes of each JPEG tile of a level, for `benchmarks/decode_limit.c`."""
    with open_slide(path) as slide:
        tiles = slide.jpeg_tiles[level]
        for offset, count in zip(tiles.offsets.ravel(), tiles.counts.ravel(), strict=True):
            print(offset, count)


def _read_by(profile: ColourProfile, path: Path) -> Slide:
    slide = READERS["JPEG tiles"](path)
    slide.profile = profile
    return slide


def compare(
    path: Path, mpp: float, readers: Mapping[str, Callable[[Path], Slide]], blocks: int | None, rounds: int
) -> None:
    """Read a slide's blocks with each reader in turn and print what a tile costs."""
    with OpenSlideSlide(path) as slide:
        grid = TileGrid.over(slide, 224, mpp)
        tissue = tissue_tiles(slide, grid)
    schedule = Schedule(grid, tissue, RunControl())
    tasks = list(islice(iter(schedule.take, None), blocks))
    tiles = sum(len(task[1]) for task in tasks)
    spent: dict[str, list[float]] = {name: [] for name in readers}
    sums: dict[str, list[int]] = {}
    for _ in range(rounds):
        for name, reader in readers.items():
            with reader(path) as slide:
                seconds, sums[name] = read_all(Sampler(slide, grid, CPU), tissue, tasks)
            spent[name].append(seconds)
    print(f"{path.name}, {mpp} um/px: {tiles} tiles, level {slide.level_for(min(grid.scale))}", end="")
    for name, times in spent.items():
        same = "same pixels" if sums[name] == sums["OpenSlide"] else "other pixels"
        print(f"; {name} {median(times) / tiles * 1e3:.2f} ms ({same})", end="")
    print(flush=True)


def read_all(
    sampler: Sampler, tissue: NDArray[np.bool_], tasks: list[tuple[tuple[int, int], list[tuple[int, int]]]]
) -> tuple[float, list[int]]:
    """Read the blocks; return processor seconds, and of each block a number that hardly two pictures share."""
    seconds, sums = 0.0, []
    for task in tasks:
        start = time.process_time()
        block = read_block(sampler, tissue, *task)
        seconds += time.process_time() - start
        sums.append(hash(block.pixels.numpy().tobytes()))
    return seconds, sums


if __name__ == "__main__":
    main()
