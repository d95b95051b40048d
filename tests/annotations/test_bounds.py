"""Slides that know of more glass than was scanned: regions agree with QuPath's, which crops to the scan as well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
import shapely.geometry
from skimage.data import immunohistochemistry

from napari_dala.annotations.files import read_annotations
from napari_dala.annotations.labels import drawn_tiles
from napari_dala.annotations.regions import read_regions, tiles_in
from napari_dala.results.report.export import write_regions
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid, read_tiles
from tests.drawn_slides import write_mrxs, write_scn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PaintAnalysis

AT = (700, 900)
DARK = shapely.box(192, 96, 384, 288)  # in QuPath's pixels: from the corner of the scan


@pytest.fixture(params=[write_scn, write_mrxs], ids=["scn", "mrxs"])
def glass(request: Any, tmp_path: Path) -> Path:
    """A slide with dark tissue at `DARK`, light elsewhere."""
    tissue = np.ascontiguousarray(immunohistochemistry()[:300, :400])
    tissue[:] = 230
    tissue[96:288, 192:384] = (120, 40, 100)
    path: Path = request.param(tmp_path / "glass", tissue, AT)
    return path


def test_a_region_of_qupath_labels_the_tissue_that_it_was_drawn_around(glass: Path, tmp_path: Path) -> None:
    drawn = {"type": "Feature", "geometry": shapely.geometry.mapping(DARK)}
    drawn["properties"] = {"objectType": "annotation", "classification": {"name": "tumor"}}
    (tmp_path / "drawn.geojson").write_text(json.dumps(drawn))
    with open_slide(glass) as slide:
        grid = TileGrid.over(slide, 32, 0.4)
        tiles = [read_tiles(slide, grid, row, column, 1, 1) for row, column in np.ndindex(grid.shape)]
    centre_is_dark = np.reshape([tile[16, 16].mean() < 150 for tile in tiles], grid.shape)
    is_dark = np.reshape([tile.mean() < 150 for tile in tiles], grid.shape)
    assert is_dark.sum() > 20
    np.testing.assert_array_equal(tiles_in(read_regions(tmp_path / "drawn.geojson"), grid), centre_is_dark)
    labelled = drawn_tiles(read_annotations(tmp_path / "drawn.geojson"), grid)
    assert labelled[is_dark].all()
    assert not labelled[np.reshape([tile.min() > 200 for tile in tiles], grid.shape)].any()


def test_what_is_found_lies_in_qupath_where_the_tissue_is(
    glass: Path, tmp_path: Path, paint_analysis: PaintAnalysis
) -> None:
    with open_slide(glass, mpp=0.25) as slide:

        def malignant(grid: TileGrid) -> Any:
            dark = [read_tiles(slide, grid, row, column, 1, 1).mean() < 150 for row, column in np.ndindex(grid.shape)]
            return np.where(np.reshape(dark, grid.shape), 0.9, 0.1)

        write_regions(paint_analysis(slide, malignant), tmp_path / "regions.geojson")
    document = read_annotations(tmp_path / "regions.geojson")
    found = shapely.union_all([one.area for one in document.annotations if one.class_name == "malignant"])
    assert shapely.intersection(found, DARK).area > 0.5 * DARK.area
    assert shapely.box(0, 0, 400, 300).covers(shapely.union_all([one.area for one in document.annotations]))
