"""Which tiles an analysis does: tissue, neither ink nor glass nor blur, and what could not be looked at."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
import tifffile
from skimage.data import immunohistochemistry

from napari_dala.analysis.plan import artefact_tiles, tissue_tiles
from napari_dala.annotations.artefacts import BLUR, INK, artefact_regions
from napari_dala.annotations.document import Annotation
from napari_dala.annotations.files import write_annotations
from napari_dala.results.report.export import write_tiles
from napari_dala.results.request import AnalysisRequest
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.slide import Slide
    from tests.conftest import PaintAnalysis


def written(path: Path, ink: tuple[int, int, int] | None = None) -> Path:
    """Write a slide of one level, 2048 px square at 2 um/px, tissue in the middle and a stroke of pen across it."""
    picture = np.full((2048, 2048, 3), 244, np.uint8)
    picture[512:1536, 512:1536] = np.tile(immunohistochemistry(), (2, 2, 1))
    if ink:
        picture[896:1152, 128:1920] = ink
    per_cm = (5000, 5000)
    tifffile.imwrite(path, picture, tile=(256, 256), photometric="rgb", compression="jpeg", resolution=per_cm,
                     resolutionunit="CENTIMETER")  # fmt: skip
    return path


def grid_of(slide: Slide) -> TileGrid:
    return TileGrid.over(slide, 128, 2.0)


def test_without_artefacts_none_is_left_out(tmp_path: Path) -> None:
    with open_slide(written(tmp_path / "clean.tiff")) as slide:
        assert not artefact_tiles(slide, grid_of(slide)).any()
        assert not artefact_regions(slide).annotations
        assert tissue_tiles(slide, grid_of(slide))[4:12, 4:12].all()


def test_what_is_outlined_by_hand_counts_instead_of_what_is_found(tmp_path: Path) -> None:
    with open_slide(written(tmp_path / "pen.tiff", (60, 80, 200))) as slide:
        grid, path = grid_of(slide), tmp_path / "drawn.geojson"
        assert (artefact_tiles(slide, grid, path) == artefact_tiles(slide, grid)).all(), "nothing is drawn"
        found = artefact_regions(slide)
        smaller = replace(
            found,
            classes=(INK, BLUR),
            annotations=(
                Annotation.drawn(shapely.box(128, 896, 1024, 1152), INK.name),
                Annotation.drawn(shapely.box(0, 0, 256, 256), BLUR.name),
            ),
        )
        write_annotations(smaller, path)
        drawn = artefact_tiles(slide, grid, path)
        assert (drawn[7:9, 1:8] == TileStatus.INK).all()
        assert not drawn[7:9, 9:].any(), "the user has cut that off"
        assert (drawn[:2, :2] == TileStatus.BLUR).all()
        write_annotations(replace(smaller, annotations=()), path)
        assert not artefact_tiles(slide, grid, path).any(), "all were removed"
        path.write_text("{")
        assert (artefact_tiles(slide, grid, path) == artefact_tiles(slide, grid)).all(), "damaged: as without"


@pytest.mark.parametrize("ink", [(60, 80, 200), (40, 50, 140), (240, 140, 30)])
def test_tiles_of_ink_are_left_out_and_can_be_drawn(tmp_path: Path, ink: tuple[int, int, int]) -> None:
    with open_slide(written(tmp_path / "pen.tiff", ink)) as slide:
        found = artefact_tiles(slide, grid_of(slide))
        assert (found[7:9, 1:15] == TileStatus.INK).all()
        assert not found[[4, 5, 10, 11]].any()
        drawn = artefact_regions(slide)
    assert [item.class_name for item in drawn.annotations] == ["Ink*"]
    assert all(item.ignore for item in drawn.classes)
    left, top, right, bottom = drawn.annotations[0].area.bounds
    assert np.abs(np.subtract((left, top, right, bottom), (128, 896, 1920, 1152))).max() < 40


def test_tissue_that_the_thumbnail_could_not_decode_is_no_glass(tmp_path: Path) -> None:
    path = written(tmp_path / "damaged.tiff")
    with open_slide(path) as slide:
        before = tissue_tiles(slide, grid_of(slide))
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        lost = [(3, 3), (4, 4), (0, 0)]  # of 256 px; two of them tissue
        places = [(page.dataoffsets[row * 8 + column], page.databytecounts[row * 8 + column]) for row, column in lost]
    with path.open("rb+") as file:
        for offset, count in places:
            file.seek(offset)
            file.write(bytes(count))
    with open_slide(path) as slide:
        after = tissue_tiles(slide, grid_of(slide))
    assert after[6:10, 6:10].all()
    assert after[:2, :2].all(), "nobody knows what was there"
    assert (before <= after).all()


def test_a_coarse_tile_that_is_lost_is_looked_up_in_the_finer_level(
    broken_mosaic: tuple[Path, tuple[int, int]], mosaic: Path
) -> None:
    pictures = []
    for path in (mosaic, broken_mosaic[0]):
        with open_slide(path) as slide:
            pictures.append(slide.thumbnail(2560).astype(int))
            assert not slide.undecoded(2560).any()
    assert np.abs(pictures[0] - pictures[1]).mean() < 1


def test_the_table_and_training_know_of_them(tmp_path: Path, paint_analysis: PaintAnalysis) -> None:
    with open_slide(np.zeros((900, 900, 3), np.uint8), mpp=0.5) as slide:
        analysis = paint_analysis(slide, 0.9, ink=((0, 0), (1, 1)))
    write_tiles(analysis, tmp_path / "tiles.csv")
    with (tmp_path / "tiles.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prob_malignant"] for row in rows if row["status"] == "left out"] == ["", ""]
    assert AnalysisRequest().keep_artefacts is False
