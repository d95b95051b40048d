"""What an analysis found: probabilities, maps, areas and the strongest spots. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.errors import DalaError
from napari_dala.model.card import ModelCard
from napari_dala.results.opening import open_store, store_in
from napari_dala.results.thresholds import KeptThreshold, stored_point
from napari_dala.results.tile_results import LEFT_OUT, TileArrays, TileStatus
from napari_dala.slide.base import PROFILE_IGNORED
from napari_dala.validation import conforming
from napari_dala.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.results.store import AnalysisStore
    from napari_dala.slide.tiles import TileGrid


MOSTLY = 0.5  # of the analysed tiles: with more of them unfamiliar the slide as a whole is


@dataclass(frozen=True)
class Spot:
    """A tile that stands out: its grid position, its centre (level-0 px) and its probability."""

    row: int
    column: int
    x: float
    y: float
    probability: float


@dataclass(frozen=True)
class Summary:
    """Counts and areas at one operating threshold.

    Attributes
    ----------
    threshold, doubt
        As in `Analysis`.
    tiles
        Judged tiles by class name: those done that are neither unlike what the model was trained on nor in doubt.
    area_mm2, share
        Their area, and its part of that of all judged tiles, by class name.
    analysed, unreadable, todo
        Tissue tiles done, not decodable, and still to do by this model.
    unfamiliar
        How many of those done are unlike what the model was trained on.
    in_doubt
        How many of the others lie in the band of doubt.
    not_judged_mm2
        Area of the tiles that are left out: unfamiliar, in doubt or unreadable.
    """

    threshold: float
    doubt: float
    tiles: dict[str, int]
    area_mm2: dict[str, float]
    share: dict[str, float]
    analysed: int
    unreadable: int
    todo: int
    unfamiliar: int
    in_doubt: int
    not_judged_mm2: float

    @property
    def judged(self) -> int:
        """Tiles that areas, shares and spots are of."""
        return self.analysed - self.unfamiliar - self.in_doubt

    @property
    def not_judged(self) -> int:
        """Tiles that are left out of areas, shares and spots: unfamiliar, in doubt or unreadable."""
        return self.unfamiliar + self.in_doubt + self.unreadable

    @property
    def judged_mm2(self) -> float:
        """Area that was judged."""
        return sum(self.area_mm2.values())

    @property
    def why_not_judged(self) -> str:
        """The reasons with their numbers, such as "3 unfamiliar, 1 unreadable"; empty where there is none."""
        reasons = (("unfamiliar", self.unfamiliar), ("in doubt", self.in_doubt), ("unreadable", self.unreadable))
        return ", ".join(f"{number} {reason}" for reason, number in reasons if number)

    @property
    def done_share(self) -> float:
        """The part of the tissue's tiles that the model has looked at, or tried to; 1 where there is no tissue."""
        tried = self.analysed + self.unreadable
        return tried / (tried + self.todo) if self.todo else 1.0


class Analysis:
    """One bundle's results on one slide, read from the store.

    Parameters
    ----------
    store
        May still be growing: `refresh` reads it again.

    tiles
        What the store holds, where it was read already.
    doubt
        See below; by default what the user left these results with, else 0.

    Attributes
    ----------
    threshold
        Probability of the target class, 0 to 1, from which a tile counts as that class: what the user left these
        results with, else the bundle's.
    doubt
        Half the width of a band around it, 0 to 0.5: tiles whose probability lies within are not judged.
    probability, status, approximate, unfamiliar
        Read-only; see `TileArrays`.
    """

    probability: NDArray[np.float32]
    status: NDArray[np.uint8]
    approximate: NDArray[np.bool_]
    unfamiliar: NDArray[np.bool_]

    def __init__(self, store: AnalysisStore, tiles: TileArrays | None = None, *, doubt: float | None = None) -> None:
        self.store = store
        self.card = conforming(ModelCard, store.card, f"{store.path}: its model card", DalaError)
        point = stored_point(store) or KeptThreshold(threshold=self.card.operating_threshold)
        self.threshold, self.doubt = point.threshold, point.doubt if doubt is None else doubt
        self.slide: dict[str, Any] = store.slide
        self._take(tiles or store.read_tiles())

    @classmethod
    def open(cls, path: str | Path, bundle_hash: str | None = None) -> Analysis:
        """Open an `analysis.zarr`, or the folder that holds one: what was written last, or a bundle's results.

        Raises
        ------
        DalaError
            When there is none.
        """
        return cls(open_store(store_in(Path(path)), bundle_hash))

    @property
    def grid(self) -> TileGrid:
        """Where the tiles lie."""
        return self.store.grid

    @property
    def mpp(self) -> tuple[float, float]:
        """Micrometres per level-0 pixel (x, y) that the analysis used."""
        return (self.card.mpp / self.grid.scale[0], self.card.mpp / self.grid.scale[1])

    @cached_property
    def cell_um(self) -> float:
        """Side of a CAM cell in um."""
        return self.card.mpp * self.card.tile_px / self.grid.cells

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before believing a number."""
        unfamiliar, analysed = int(self.unfamiliar.sum()), int(self.analysed.sum())
        found = []
        if unfamiliar > MOSTLY * analysed:
            found.append(
                f"Most of this slide ({unfamiliar} of {analysed} tiles) is unlike the tissue that the model learned "
                "from: do not rely on anything it says here."
            )
        if self.card.warning:
            found.append(f"Model “{self.card.name}” is {self.card.warning}.")
        if self.slide.get("mpp_source") == "objective power":
            found.append("The file gives no resolution; it was estimated from the objective's power (10 / power).")
        if self.slide.get("icc_profile") == PROFILE_IGNORED:
            found.append(
                "The slide's colour profile (ICC) is damaged, or not of RGB, and was ignored: its colours are as the "
                "file stores them."
            )
        if self.grid.unseen >= 0.0005:
            found.append(
                f"{self.grid.unseen:.1%} of the slide, at its right and lower edge, was not looked at: an earlier "
                "version analysed it. To have all of it, start the analysis anew (dala analyze --restart)."
            )
        if self.grid.upsampled:
            found.append("The slide is coarser than the model's training pictures: its pixels were enlarged.")
        unreadable = int((self.status == TileStatus.UNREADABLE).sum())
        if unreadable:
            found.append(f"{counted(unreadable, 'tile')} of the slide could not be decoded and left out.")
        if left_out := int(np.isin(self.status, LEFT_OUT).sum()):
            found.append(f"{counted(left_out, 'tile')} left out: ink or out of focus.")
        if damaged := self.store.damaged:
            found.append(
                f"{counted(len(damaged), 'part')} of what is stored damaged ({', '.join(damaged[:3])}): run the "
                "analysis again to compute it anew."
            )
        approximate = int(self.approximate.sum())
        if approximate:
            found.append(
                f"The Grad-CAM of {counted(approximate, 'tile')} is approximate or missing: the probabilities there "
                "were computed from stored features. Run the analysis again to complete it."
            )
        if 0 < unfamiliar <= MOSTLY * analysed:
            found.append(
                f"{unfamiliar} of {counted(analysed, 'tile')} unlike what the model was trained on: not judged, and in "
                "no area, share or spot."
            )
        return found

    def refresh(self) -> None:
        """Read probability, status and marks again."""
        self._take(self.store.read_tiles())

    def _take(self, tiles: TileArrays) -> None:
        for name, values in vars(tiles).items():
            seen = values.view()
            seen.flags.writeable = False
            setattr(self, name, seen)

    @property
    def knows_unfamiliar(self) -> bool:
        """True where the model can tell what is unlike its training tiles."""
        return self.store.knows_unfamiliar

    @property
    def analysed(self) -> NDArray[np.bool_]:
        """(rows, columns), True where there is a probability."""
        there: NDArray[np.bool_] = np.isfinite(self.probability[0])
        return there

    def in_doubt(self, threshold: float | None = None) -> NDArray[np.bool_]:
        """(rows, columns), True where a tile like those that the model was trained on lies in the band of doubt.

        From the upper end on a tile counts as the target class, below the lower end as another.
        """
        middle, probability = self._threshold(threshold), self.probability[self.card.target_class]
        within = (probability >= middle - self.doubt) & (probability < middle + self.doubt)
        found: NDArray[np.bool_] = within & ~self.unfamiliar
        return found

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(rows, columns), True where a tile was analysed and is neither unfamiliar nor in doubt: no others count."""
        return self.class_map() > 0

    def cam(self, class_index: int) -> NDArray[np.float32]:
        """Return the raw Grad-CAM of one class over the whole grid.

        Where tiles overlap, a cell's value is the mean over the tiles that cover it.

        Returns
        -------
        `grid.cam_shape` float32, in logits; NaN where no tile was analysed, or its map is not there yet.
        """
        return joined_cams(self.store.read_cams()[class_index].astype(np.float32), self.grid)

    def class_map(self, threshold: float | None = None) -> NDArray[np.uint8]:
        """Return 0 where a tile was not judged, else 1 + the index of its class, (rows, columns).

        The target class where its probability reaches `threshold` (default: the analysis' own), else the likeliest
        of the others.
        """
        target = self.card.target_class
        others = self.probability.copy()
        others[target] = -1
        others[:, ~self.analysed] = 0
        chosen = others.argmax(axis=0)
        chosen[self.probability[target] >= self._threshold(threshold)] = target
        judged = self.analysed & ~self.unfamiliar & ~self.in_doubt(threshold)
        return np.where(judged, chosen + 1, 0).astype(np.uint8)

    def summary(self, threshold: float | None = None) -> Summary:
        """Count tiles and areas of what was judged.

        A tile's area is that between its `TileGrid.edges`: none counts twice, none lies off the slide.
        """
        classes = self.class_map(threshold)
        tile_mm2 = self.grid.areas() * (self.mpp[0] * self.mpp[1] / 1e6)
        mm2 = np.bincount(classes.ravel(), tile_mm2.ravel(), len(self.card.classes) + 1)[1:]
        areas = dict(zip(self.card.class_names, mm2.tolist(), strict=True))
        counts = {entry.name: int((classes == index + 1).sum()) for index, entry in enumerate(self.card.classes)}
        judged, in_doubt = int((classes > 0).sum()), self.in_doubt(threshold)
        left_out = self.unfamiliar | in_doubt | (self.status == TileStatus.UNREADABLE)
        return Summary(
            threshold=self._threshold(threshold),
            doubt=self.doubt,
            tiles=counts,
            area_mm2=areas,
            share={name: area / sum(areas.values()) if judged else 0.0 for name, area in areas.items()},
            analysed=int(self.analysed.sum()),
            unreadable=int((self.status == TileStatus.UNREADABLE).sum()),
            todo=int((~self.analysed & np.isin(self.status, (TileStatus.TODO, TileStatus.DONE))).sum()),
            unfamiliar=int(self.unfamiliar.sum()),
            in_doubt=int(in_doubt.sum()),
            not_judged_mm2=float(tile_mm2[left_out].sum()),
        )

    def spots(self, threshold: float | None = None, most: int = 50) -> list[Spot]:
        """Return the judged tiles most likely of the target class, strongest first, no two within two tiles."""
        probability = np.where(self.class_map(threshold) > 0, self.probability[self.card.target_class], -1.0)
        spots: list[Spot] = []
        for flat in np.argsort(-probability, axis=None, kind="stable"):
            row, column = (int(index) for index in np.unravel_index(flat, probability.shape))
            if probability[row, column] < self._threshold(threshold) or len(spots) == most:
                break
            if all(max(abs(row - spot.row), abs(column - spot.column)) > self.near for spot in spots):
                spots.append(self.spot(row, column))
        return spots

    @property
    def near(self) -> int:
        """Two tiles' distance, in rows or columns of the grid."""
        return max(1, round(2 * self.grid.cells / self.grid.stride_cells))

    def spot(self, row: int, column: int) -> Spot:
        """Return where an analysed tile lies and how likely it is of the target class."""
        probability = float(self.probability[self.card.target_class, row, column])
        return Spot(row, column, *self.grid.middle(row, column), probability)

    def _threshold(self, threshold: float | None) -> float:
        return self.threshold if threshold is None else threshold


def joined_cams(cams: NDArray[np.float32], grid: TileGrid) -> NDArray[np.float32]:
    """Return a class's map over the grid, `grid.cam_shape`, of its tiles' own maps (rows * cells, columns * cells)."""
    if cams.shape == grid.cam_shape:  # no tile overlaps another
        return cams
    rows, columns = grid.shape
    return overlay_mean(cams.reshape(rows, grid.cells, columns, grid.cells), *grid.starts)


def overlay_mean(tiles: NDArray[np.float32], top: NDArray[np.intp], left: NDArray[np.intp]) -> NDArray[np.float32]:
    """Lay overlapping tiles over one another.

    Parameters
    ----------
    tiles
        (rows, cells, columns, cells), NaN where there is none.
    top, left
        First cells of the rows (rows,) and columns (columns,), ascending.

    Returns
    -------
    (top[-1] + cells, left[-1] + cells), the mean over the tiles that cover a cell.
    """
    cells = tiles.shape[1]
    total = np.zeros((top[-1] + cells, left[-1] + cells), np.float32)
    count = np.zeros(total.shape, np.uint8)
    for y in range(cells):
        for x in range(cells):
            part = tiles[:, y, :, x]
            there = np.ix_(top + y, left + x)
            total[there] += np.nan_to_num(part)
            count[there] += np.isfinite(part)
    mean = np.full(total.shape, np.nan, np.float32)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
