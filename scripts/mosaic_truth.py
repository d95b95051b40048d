"""Which photograph lies in which cell of a mosaic, and what of it a figure may be measured on.

A mosaic is a slide that repeats real photographs at random: beside its true class map a cell has a photograph and a
patient. They are found again by the random numbers of the tool that made it, and checked against the truth map. Tool
and photographs lie beside the project, in `../shared`: nothing of them may be in the repository.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from skimage.io import imread

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.labels import tiles_of
from napari_dala.datasets.folders import load_dataset
from napari_dala.errors import DatasetError
from napari_dala.metrics.anonymous import patient_key
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_dala.slide.tiles import TileGrid

SHARED = Path(__file__).resolve().parents[2] / "shared"
CLASSES = ("benign", "malignant")  # 1 and 2 of the truth map
MARGIN = 0.04  # of a cell, between a drawn region's edge and that of its cells
SHAPES = (
    ((0, 0),),
    ((0, 0), (0, 1)),
    ((0, 0), (1, 0)),
    ((0, 0), (0, 1), (1, 0)),
    ((0, 0), (0, 1), (1, 0), (1, 1)),
)  # cells (row, column) of a region


@dataclass(frozen=True, eq=False)
class Mosaic:
    """What a mosaic is made of.

    Attributes
    ----------
    labels
        (n, n) of each cell: 0 background, 1 benign, 2 malignant.
    photograph
        (n, n) index into `names`, -1 in the background.
    names, patients
        Of each photograph.
    cell_px
        Side of a cell, level-0 px.
    """

    labels: NDArray[np.uint8]
    photograph: NDArray[np.intp]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    cell_px: int

    @property
    def tissue(self) -> NDArray[np.bool_]:
        """True where a photograph lies, (n, n)."""
        return self.photograph >= 0

    @property
    def patient(self) -> NDArray[np.str_]:
        """Whose tissue each cell is, (n, n); empty in the background."""
        return np.where(self.tissue, np.array(self.patients)[self.photograph], "")

    def touched_by(self, grid: TileGrid, rows: Sequence[int], columns: Sequence[int]) -> NDArray[np.bool_]:
        """Return which cells lie under some tiles, in however small a part, (n, n)."""
        touched = np.zeros(self.labels.shape, np.bool_)
        left, top = grid.origins()
        for row, column in zip(rows, columns, strict=True):
            box = [
                slice(int((at + 1) // self.cell_px), int((at + side - 1) // self.cell_px) + 1)  # a shared edge is none
                for at, side in ((top[row], grid.tile_size[1]), (left[column], grid.tile_size[0]))
            ]
            touched[tuple(box)] = True
        return touched

    def new_photographs(self, seen: NDArray[np.bool_], trained: Collection[str] = ()) -> NDArray[np.bool_]:
        """Return the cells whose photograph is in no cell that was seen, nor one of a patient trained on, (n, n).

        Parameters
        ----------
        seen
            (n, n) cells that were learnt from.
        trained
            Keys (`patient_key`) of the patients that the parent was trained on.
        """
        known = np.isin(self.photograph, self.photograph[seen & self.tissue])
        return self.tissue & ~known & ~self._of(trained)

    def new_patients(self, seen: NDArray[np.bool_], trained: Collection[str] = ()) -> NDArray[np.bool_]:
        """Return the cells of patients of whom no cell was seen and whom the parent was not trained on, (n, n)."""
        known = np.isin(self.patient, self.patient[seen & self.tissue])
        return self.tissue & ~known & ~self._of(trained)

    def _of(self, trained: Collection[str]) -> NDArray[np.bool_]:
        keys = np.array([patient_key(patient) in trained for patient in self.patients])
        return np.asarray(self.tissue & keys[self.photograph])


def read_mosaic(slide: Path, seed: int = 0, data: Path | None = None, only: Sequence[str] = ()) -> Mosaic:
    """Find out what a mosaic is made of.

    Parameters
    ----------
    slide
        The mosaic; its truth map lies beside it.
    seed, data, only
        As it was made with.

    Raises
    ------
    DatasetError
        If its truth map is not there, or another one comes out: it was made with other arguments.
    """
    path = slide.with_suffix(".truth.png")
    if not path.exists():
        raise DatasetError(f"{path}: is not there; a mosaic's truth map lies beside it")
    truth = imread(path)
    tool = _tool()
    with open_slide(slide) as opened:
        cell_px = opened.dimensions[0] // len(truth)
    data = data or SHARED / "data" / "breakhis-100x"
    every = load_dataset("breakhis", data, magnification=100).images
    images = sorted((each for each in every if _chosen(each.path.name, only)), key=lambda each: each.path)
    rng = np.random.default_rng(seed)
    rng.normal(243, 1.5, (4, cell_px, cell_px, 3))  # the tool draws its background first
    labels = tool.class_map(len(truth), rng)
    if not np.array_equal(labels, truth):
        raise DatasetError(f"{slide.name}: made with another seed than {seed}; give --mosaic-seed")
    choice = rng.integers(0, 1 << 30, labels.shape)
    photograph = np.full(labels.shape, -1)
    for label in (1, 2):
        pool = np.array([index for index, each in enumerate(images) if each.label + 1 == label])
        here = labels == label
        photograph[here] = pool[choice[here] % len(pool)]
    names, patients = zip(*((each.path.name, each.patient) for each in images), strict=True)
    return Mosaic(labels, photograph, names, patients, cell_px)


def draw_regions(
    mosaic: Mosaic, grid: TileGrid, fingerprint: str, *, each: int = 10, spared: Collection[str] = (), seed: int = 0
) -> tuple[AnnotationDocument, NDArray[np.bool_]]:
    """Draw regions of 1 to 4 cells inside the true regions of each class, as a user would.

    Parameters
    ----------
    mosaic, grid, fingerprint
        Of the slide; the grid is the model's.
    each
        Regions of a class.
    spared
        Patients of whom no tile that a region labels shows a pixel.
    seed
        Chooses places and shapes.

    Returns
    -------
    document : AnnotationDocument
    seen : (n, n) bool
        The cells that lie under a tile that is labelled.

    Raises
    ------
    DatasetError
        If so many regions find no place.
    """
    rng = np.random.default_rng(seed)
    seen, taken = np.zeros(mosaic.labels.shape, np.bool_), np.zeros(mosaic.labels.shape, np.bool_)
    avoided = np.isin(mosaic.patient, list(spared)) & mosaic.tissue
    classes = (AnnotationClass("benign", (0, 114, 178)), AnnotationClass("malignant", (213, 94, 0)))
    document = AnnotationDocument(fingerprint, classes)
    for label, name in enumerate(CLASSES, 1):
        drawn = 0
        for cells in _places(mosaic.labels == label, rng):
            if taken[cells].any():
                continue
            region = Annotation.drawn(_outline(cells, mosaic.cell_px), name)
            further = replace(document, annotations=(*document.annotations, region))
            tiles = tiles_of(further, grid, CLASSES)  # of all: neighbours may label a tile together
            under = mosaic.touched_by(grid, tiles.row.tolist(), tiles.column.tolist())
            if (under & avoided).any() or region.id not in tiles.region:
                continue
            document, seen = further, under
            taken[cells] = True
            drawn += 1
            if drawn == each:
                break
        if drawn < each:
            raise DatasetError(f"only {drawn} regions of {name} find a place; ask for fewer, or for a larger mosaic")
    return document, seen


def _places(inside: NDArray[np.bool_], rng: np.random.Generator) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Give (rows, columns) of the cells of a shape that lies in one class, at random places, each place once."""
    corners = np.argwhere(inside)
    for row, column in corners[rng.permutation(len(corners))]:
        steps = np.array(SHAPES[rng.integers(len(SHAPES))])
        rows, columns = steps[:, 0] + row, steps[:, 1] + column
        if max(rows.max(), columns.max()) < len(inside) and inside[rows, columns].all():
            yield rows, columns


def _outline(cells: tuple[NDArray[np.intp], NDArray[np.intp]], side: int) -> shapely.Polygon:
    boxes = [
        shapely.box(c * side, r * side, (c + 1) * side, (r + 1) * side)
        for r, c in zip(*(part.tolist() for part in cells), strict=True)
    ]
    return shapely.union_all(boxes).buffer(-MARGIN * side, join_style="round")


def per_cell(cells: int, cell_px: float, grid: TileGrid, probability: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the mean probability over the tiles on a cell, by the area they share, (classes, n, n); NaN without any.

    Parameters
    ----------
    cells, cell_px
        How many cells of the truth there are along an axis, and their side in level-0 px.
    grid
        Of the tiles.
    probability
        (classes, rows, columns), NaN where a tile was not analysed.
    """
    edges = np.arange(cells + 1) * cell_px
    across, down = (
        np.clip(
            np.minimum(edges[1:, None], start + side) - np.maximum(edges[:-1, None], start), 0, None
        )  # (cells, tiles)
        for start, side in zip(grid.origins(), grid.tile_size, strict=True)
    )
    there = np.isfinite(probability[0])
    weight = down @ there @ across.T
    total = np.stack([down @ np.where(there, one, 0) @ across.T for one in probability])
    with np.errstate(invalid="ignore"):
        return np.where(weight > 0, total / weight, np.nan)


def _chosen(name: str, only: Sequence[str]) -> bool:
    return not only or any(part in name for part in only)


def _tool() -> Any:
    path = SHARED / "tools" / "make_mosaic_slide.py"
    spec = importlib.util.spec_from_file_location("make_mosaic_slide", path)
    if spec is None or spec.loader is None or not path.exists():
        raise DatasetError(f"{path}: the tool that makes mosaics is not there")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool
