"""The truth that a mosaic is measured by: photographs found again, and figures of cells that were not learnt from."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings, strategies as st
from PIL import Image

from napari_dala.annotations.labels import tiles_of
from napari_dala.errors import DatasetError
from napari_dala.metrics.anonymous import patient_key
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = ("14-29315", "14-11031", "14-12204")
CELL = 384  # px, at the photographs' own 0.65 um/px
ALIGNED = CELL * 0.65 / 224  # um/px at which a tile of 224 px is a cell


def script(name: str) -> Any:
    path = Path(__file__).resolve().parents[2] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


truth = script("mosaic_truth")


@pytest.fixture(scope="module")
def mosaic(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 12 x 12 cells of real tissue at its true scale, 4608 px square, 0.65 um/px."""
    path = tmp_path_factory.mktemp("mosaic") / "mosaic.tiff"
    tool = shared_data.parent / "tools" / "make_mosaic_slide.py"
    made = ["--mpp", "0.65", "--cells", "12", "--only", *FEW]
    subprocess.run([sys.executable, str(tool), str(path), *made], check=True, capture_output=True)
    return path


def photograph(path: Path, side: int) -> NDArray[np.float64]:
    """Its centre square, as the tool takes it."""
    with Image.open(path) as image:
        half = CELL / 2
        x, y = image.width / 2, image.height / 2
        square = image.convert("RGB").resize(
            (side, side), Image.Resampling.BOX, (x - half, y - half, x + half, y + half)
        )
    return np.asarray(square, float)


def test_every_photograph_is_found_again(mosaic: Path, shared_data: Path) -> None:
    found = truth.read_mosaic(mosaic, only=FEW)
    paths = {path.name: path for path in (shared_data / "breakhis-100x").rglob("SOB_*")}
    with open_slide(mosaic) as slide:
        side = found.cell_px // 8
        small = np.asarray(Image.fromarray(slide.thumbnail(12 * side)).resize((12 * side, 12 * side)), float)
    there = sorted(set(found.photograph[found.tissue].tolist()))
    small_cells = small.reshape(12, side, 12, side, 3).swapaxes(1, 2)
    error = [np.abs(small_cells - photograph(paths[found.names[one]], side)).mean((2, 3, 4)) for one in there]
    nearest = np.array(there)[np.argmin(error, axis=0)]
    np.testing.assert_array_equal(nearest[found.tissue], found.photograph[found.tissue])
    benign = np.array(["_B_" in name for name in found.names])
    np.testing.assert_array_equal(benign[found.photograph[found.tissue]], found.labels[found.tissue] == 1)
    assert set(found.patient[found.tissue]) == {"29315", "11031", "12204"}


def test_made_with_other_arguments(mosaic: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="another seed than 3; give --mosaic-seed"):
        truth.read_mosaic(mosaic, seed=3, only=FEW)
    with pytest.raises(DatasetError, match="truth map lies beside it"):
        truth.read_mosaic(tmp_path / "m.tiff")


def random_mosaic(rng: np.random.Generator) -> Any:
    """Cells of any class, photographs repeated at random, patients with several photographs."""
    n, photographs = int(rng.integers(2, 30)), int(rng.integers(2, 40))
    patients = tuple(f"p{number}" for number in rng.integers(1, 9, photographs))
    chosen = rng.integers(-1, photographs, (n, n))
    labels = np.where(chosen < 0, 0, 1 + chosen % 2).astype(np.uint8)
    return truth.Mosaic(labels, chosen, tuple(f"{number}.png" for number in range(photographs)), patients, CELL)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.3))
def test_no_photograph_or_patient_is_on_both_sides_of_a_figure(seed: int, part: float) -> None:
    rng = np.random.default_rng(seed)
    made = random_mosaic(rng)
    seen = rng.random(made.labels.shape) < part
    names = sorted(set(made.patients))
    trained = set(rng.choice(names, int(rng.integers(len(names) + 1)), replace=False).tolist())
    keys = {patient_key(name) for name in trained}
    photographs, patients = made.new_photographs(seen, keys), made.new_patients(seen, keys)
    assert not (photographs & seen).any()
    assert not set(made.photograph[photographs]) & set(made.photograph[seen])
    assert not set(made.patient[photographs]) & trained
    assert not set(made.patient[patients]) & (set(made.patient[seen]) | trained)
    assert (patients <= photographs).all()  # stricter
    assert (photographs <= made.tissue).all()
    left_out = made.tissue & ~patients  # and nothing is left out without a reason
    assert set(made.patient[left_out]) <= set(made.patient[seen]) | trained


@pytest.mark.parametrize("mpp", [0.65, 1.0, ALIGNED])
def test_drawn_regions_are_true_and_spare_whom_they_should(mosaic: Path, mpp: float) -> None:
    made = truth.read_mosaic(mosaic, only=FEW)
    with open_slide(mosaic) as slide:
        grid = TileGrid.over(slide, 224, mpp)
    document, seen = truth.draw_regions(made, grid, "f", each=3, seed=1)
    cells = {
        label: shapely.union_all(
            [
                shapely.box(c * CELL, r * CELL, c * CELL + CELL, r * CELL + CELL)
                for r, c in np.argwhere(made.labels == label)
            ]
        )
        for label in (1, 2)
    }
    assert [one.class_name for one in document.annotations] == ["benign"] * 3 + ["malignant"] * 3
    for one in document.annotations:
        assert one.geometry.within(cells[truth.CLASSES.index(one.class_name) + 1])
        assert 0.8 < one.geometry.area / CELL**2 < 4
    pairs = shapely.STRtree([one.geometry for one in document.annotations]).query(
        [one.geometry for one in document.annotations], predicate="overlaps"
    )
    assert not pairs.size
    tiles = tiles_of(document, grid, truth.CLASSES)
    assert set(tiles.region) == {one.id for one in document.annotations}
    (left, top), (width, height) = grid.origins(), grid.tile_size
    for row, column in zip(tiles.row, tiles.column, strict=True):  # every pixel under a labelled tile is seen
        ys, xs = (
            np.unique(np.clip(np.arange(first + 1, first + side - 1, 16) // CELL, 0, 11).astype(int))
            for first, side in ((top[row], height), (left[column], width))
        )
        assert seen[np.ix_(ys, xs)].all()


def test_spared_patients_are_not_seen(mosaic: Path) -> None:
    made = truth.read_mosaic(mosaic, only=FEW)
    with open_slide(mosaic) as slide:
        grid = TileGrid.over(slide, 224, ALIGNED)
    for seed in range(5):
        _, seen = truth.draw_regions(made, grid, "f", each=2, spared=["11031"], seed=seed)
        assert set(made.patient[seen]) - {""} == {"29315", "12204"}


def test_too_many_regions(mosaic: Path) -> None:
    made = truth.read_mosaic(mosaic, only=FEW)
    with open_slide(mosaic) as slide, pytest.raises(DatasetError, match="regions of benign find a place"):
        truth.draw_regions(made, TileGrid.over(slide, 224, 0.65), "f", each=500)


def test_a_cell_has_the_mean_of_its_tiles_by_area() -> None:
    made = truth.Mosaic(np.ones((4, 4), np.uint8), np.zeros((4, 4), int), ("a",), ("p",), 60)
    grid = TileGrid((240, 240), 32, (90 / 32, 90 / 32), 1)  # tiles of 90 px, the last beyond the edge
    rng = np.random.default_rng(0)
    probability = rng.random((2, *grid.shape))
    probability[:, 0, 1] = np.nan
    pixels = probability.repeat(90, 1).repeat(90, 2)[:, :240, :240]
    cells = np.ma.masked_invalid(pixels).reshape(2, 4, 60, 4, 60).mean((2, 4))
    assert cells.mask.sum() == 2 * 1  # the cell that lies in the tile that was not analysed
    np.testing.assert_allclose(truth.per_cell(len(made.labels), made.cell_px, grid, probability), cells.filled(np.nan))
