"""Dynamic threshold (DT) of a Grad-CAM map: which cells stand out, by the map's own histogram.

Numpy and scikit-image only: the napari process runs this at every move of a slider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float32]

Method = Literal["otsu", "mean_std", "percentile", "max_fraction"]
Scope = Literal["slide", "tile"]

_DEFAULT_PARAMETER: dict[Method, float] = {"otsu": math.nan, "mean_std": 1.0, "percentile": 80.0, "max_fraction": 0.5}
_ROBUST_PERCENTILE = 99.9
MOST_STRENGTH = 10
"""No slider needs more."""
_FLAT = 1e-3  # a spread under this share of the maximum is float16 rounding: nothing stands out
FAINTEST = 0.1  # what a cell just over the threshold shows as; 0 is what was not kept
_BINS = 256
_BAND_TILES = 2048  # thresholded by the tile at a time: what is computed of them stays in the processor's cache


@dataclass(frozen=True, eq=False)
class ThresholdedMap:
    """A Grad-CAM map and what stands out of it; all arrays are of the map's (H, W).

    Attributes
    ----------
    raw : float16 or float32 array
        The map as it came, in logit contribution.
    scaled : float32 array
        M, the map over its maximum (the slide's robust one, or each tile's), 0 to 1; 0 where not valid.
    threshold : float, or (rows, cols) float32 array
        T, before `strength`: of the slide, or of each tile. NaN where the map is flat or nothing is valid.
    kept_fraction : float
        Kept cells over valid cells, 0 to 1; 0 when no cell is valid.
    mask : bool array
        The kept cells.
    map : float32 array
        M rescaled over the kept cells from 0.1 (at the threshold) to 1; 0 elsewhere.
    """

    raw: NDArray[Any]
    scaled: Floats
    threshold: float | Floats
    kept_fraction: float
    mask: Bools
    map: Floats

    def contours(self) -> list[NDArray[np.float64]]:
        """Return the outlines of the kept islands and of their holes.

        Returns
        -------
        list of (n, 2) float64 arrays
            Row and column in cells, cell (r, c) being centred on (r, c); closed, the first point
            again at the end. They run half a cell outside the kept cells' centres. Cells that
            touch by a corner share an outline, as they share an island.
        """
        return outlines(self.mask)


def outlines(mask: Bools) -> list[NDArray[np.float64]]:
    """Return the outlines of a mask's islands and holes, as `ThresholdedMap.contours` says."""
    padded = np.pad(mask, 1).astype(np.float32)
    return [line - 1.0 for line in find_contours(padded, 0.5, fully_connected="high")]


@dataclass(frozen=True, eq=False)
class MapLevel:
    """What the values of a map are held against; it does not depend on `strength` and `min_area_um2`.

    Attributes
    ----------
    top : float, or (rows, cols) float32 array
        The maximum that M is over, of the map or of each tile; above 0.
    threshold : float, or (rows, cols) float32 array
        T, as in `ThresholdedMap`.
    """

    top: float | Floats
    threshold: float | Floats

    def of_tiles(self, rows: slice, columns: slice) -> MapLevel:
        """Return the level of a part of the map, in whole tiles."""
        if isinstance(self.top, float) or isinstance(self.threshold, float):
            return self
        return MapLevel(self.top[rows, columns], self.threshold[rows, columns])


@dataclass(frozen=True)
class DynamicThreshold:
    """Keep the cells of a Grad-CAM map that stand out, by a threshold T from the map's own histogram.

    Kept is M >= strength * T and M > 0, less islands (8-connected) under `min_area_um2`. A zero or
    constant map keeps nothing.

    Parameters
    ----------
    method : {"otsu", "mean_std", "percentile", "max_fraction"}
        T is where the two classes of values differ most (Otsu 1979), the mean + k standard
        deviations, a percentile, or a fraction of the maximum.
    scope : {"slide", "tile"}
        "slide": one maximum and one T for the whole map, so that a benign tile does not look hot; the
        maximum is the 99.9th percentile, so that single cells do not dim the rest (the true maximum
        where that percentile is next to nothing). "tile": each tile has its own maximum and its own
        T, as published maps have.
    strength : float
        Factor on T, 0 or more; more keeps less.
    min_area_um2 : float
        Smallest island kept, um2. By default 400: one CAM cell alone is less than the map resolves and
        is dropped. At 0.5 um/px (256 um2 a cell) two side by side are kept, at 0.4 (164 um2) three.
    parameter : float, optional
        k of "mean_std" (default 1), percentile (default 80), fraction of "max_fraction" (default
        0.5); "otsu" has none.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Otsu, N. (1979). A threshold selection method from gray-level histograms. IEEE Transactions on
    Systems, Man, and Cybernetics 9(1), 62-66.

    Examples
    --------
    >>> import numpy as np
    >>> cam = np.zeros((14, 14), np.float32)
    >>> cam[2:5, 2:5] = 3.0
    >>> result = DynamicThreshold()(cam, cell_um=16.0, tile_cells=7)
    >>> int(result.mask.sum())
    9
    """

    method: Method = "otsu"
    scope: Scope = "slide"
    strength: float = 1.0
    min_area_um2: float = 400.0
    parameter: float | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method is one of {', '.join(get_args(Method))}, not {self.method!r}")
        if self.scope not in get_args(Scope):
            raise ValueError(f"scope is one of {', '.join(get_args(Scope))}, not {self.scope!r}")
        for name in ("strength", "min_area_um2"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is a finite number of 0 or more, not {getattr(self, name)}")
        if self.parameter is None:
            return
        lowest, highest = {"otsu": (1, 0), "percentile": (0, 100), "max_fraction": (0, 1)}.get(
            self.method, (-math.inf, math.inf)
        )
        if lowest > highest:
            raise ValueError("otsu takes no parameter")
        if not (math.isfinite(self.parameter) and lowest <= self.parameter <= highest):
            raise ValueError(f"the parameter of {self.method} is from {lowest} to {highest}, not {self.parameter}")

    def __call__(
        self,
        cam: NDArray[Any],
        *,
        cell_um: float | None,
        tile_cells: int,
        valid: Bools | None = None,
    ) -> ThresholdedMap:
        """Threshold one class' map.

        Parameters
        ----------
        cam : (H, W) float16 or float32 array
            Raw Grad-CAM, one value per cell. Negative values count as 0, NaN and infinity as not valid.
        cell_um : float or None
            Side of a cell, um; None or NaN where unknown: no island is dropped then.
        tile_cells : int
            Cells per side of a tile. Tiles at the far borders may be partial.
        valid : (H, W) bool array, optional
            The analysed cells; the others are never kept and count in no statistic. By default all.

        Returns
        -------
        ThresholdedMap

        Raises
        ------
        ValueError
            If an argument has the wrong shape, type or range.
        """
        return self.keep(cam, self.level(cam, tile_cells, valid), cell_um=cell_um, tile_cells=tile_cells, valid=valid)

    def level(self, cam: NDArray[Any], tile_cells: int, valid: Bools | None = None) -> MapLevel:
        """Find what a whole map is held against; the arguments are as in a call."""
        valid = _checked(cam, None, tile_cells, valid)
        values = _positive(cam, valid)
        return self._per_tile(values, valid, tile_cells) if self.scope == "tile" else self._whole(values, valid)

    def keep(
        self,
        cam: NDArray[Any],
        level: MapLevel,
        *,
        cell_um: float | None,
        tile_cells: int,
        valid: Bools | None = None,
    ) -> ThresholdedMap:
        """Threshold one class' map, or a part of it in whole tiles, at a level; the rest is as in a call."""
        valid = _checked(cam, cell_um, tile_cells, valid)
        if not valid.any():
            nothing = np.zeros(cam.shape, np.float32)
            return ThresholdedMap(cam, nothing, level.threshold, 0.0, nothing > 0, nothing.copy())
        top, cut = (np.asarray(value, np.float32) for value in (level.top, np.float32(self.strength) * level.threshold))
        gain, least = _rescaling(cut)
        if top.ndim:
            top, cut, gain, least = (
                each.repeat(tile_cells, 0).repeat(tile_cells, 1)[: cam.shape[0], : cam.shape[1]]
                for each in (top, cut, gain, least)
            )
        scaled = _positive(cam, valid)
        scaled /= top
        np.minimum(scaled, 1, out=scaled)
        with np.errstate(invalid="ignore"):
            mask = (scaled >= cut) & (scaled > 0)  # a NaN threshold keeps nothing
        if cell_um is not None and math.isfinite(cell_um):
            mask = _without_small(mask, self.min_area_um2 / cell_um**2)
        shown = scaled - cut
        shown *= gain
        shown += least
        return ThresholdedMap(
            raw=cam,
            scaled=scaled,
            threshold=level.threshold,
            kept_fraction=int(mask.sum()) / max(int(valid.sum()), 1),
            mask=mask,
            map=np.where(mask, shown, np.float32(0)),
        )

    def most_strength(self, thresholded: ThresholdedMap, *, cell_um: float | None, tile_cells: int) -> float:
        """Return the largest strength at which this rule keeps an island of a map, in hundredths; 0 where none does.

        `MOST_STRENGTH` at most, which a threshold of 0 asks for.

        Parameters
        ----------
        thresholded : ThresholdedMap
            The map by this rule, at whatever strength.
        cell_um, tile_cells
            As in a call.
        """
        cut = np.asarray(thresholded.threshold, np.float32)
        if cut.ndim:
            height, width = thresholded.scaled.shape
            cut = cut.repeat(tile_cells, 0).repeat(tile_cells, 1)[:height, :width]
        known = cell_um is not None and math.isfinite(cell_um)
        cells = self.min_area_um2 / cell_um**2 if known and cell_um is not None else 0.0
        scaled = thresholded.scaled
        kept, lost = 0, 100 * MOST_STRENGTH + 1  # in hundredths
        while lost - kept > 1:
            middle = (kept + lost) // 2
            with np.errstate(invalid="ignore"):
                mask = (scaled >= np.float32(middle / 100) * cut) & (scaled > 0)
            if _without_small(mask, cells).any():
                kept = middle
            else:
                lost = middle
        return kept / 100

    @property
    def _value(self) -> float:
        return _DEFAULT_PARAMETER[self.method] if self.parameter is None else self.parameter

    def _whole(self, values: Floats, valid: Bools) -> MapLevel:
        """Return the level of the map as one; `values` are 0 where not valid."""
        known = values.ravel() if valid.all() else values[valid]
        top = float(known.max(initial=0))
        if known.size == 0 or top - float(known.min()) <= _FLAT * top:
            return MapLevel(top or 1.0, math.nan)
        in_place = self.method == "percentile"  # the others' sums depend on the order
        robust = float(np.percentile(known, _ROBUST_PERCENTILE, overwrite_input=in_place))
        top = robust if robust > _FLAT * top else top
        known = np.minimum(known / np.float32(top), 1, dtype=np.float32)
        if self.method == "otsu":
            return MapLevel(top, _otsu_of_histogram(known))
        if self.method == "mean_std":
            threshold = float(known.mean(dtype=np.float64) + self._value * known.std(dtype=np.float64))
        elif self.method == "percentile":
            threshold = float(np.percentile(known, self._value, overwrite_input=True))
        else:
            threshold = self._value
        return MapLevel(top, min(max(threshold, 0.0), 1.0))

    def _per_tile(self, values: Floats, valid: Bools, side: int) -> MapLevel:
        """Return each tile's level."""
        step = side * max(1, _BAND_TILES * side // max(1, values.shape[1]))
        bands = [
            self._band(values[top : top + step], valid[top : top + step], side)
            for top in range(0, max(1, len(values)), step)
        ]
        top, threshold = (np.concatenate([getattr(band, name) for band in bands]) for name in ("top", "threshold"))
        return MapLevel(top, threshold)

    def _band(self, values: Floats, valid: Bools, side: int) -> MapLevel:
        """Return the level of each tile of a few rows, all at once."""
        cells = _tiled(np.where(valid, values, np.float32(np.inf)), side)
        rows, cols = cells.shape[:2]
        cells = np.sort(cells.reshape(rows * cols, side * side), axis=1)  # not valid ones last
        count = np.count_nonzero(np.isfinite(cells), axis=1)
        top = np.take_along_axis(cells, np.maximum(count - 1, 0)[:, None], 1)[:, 0]
        top[count == 0] = 0
        divisor = np.where(top > 0, top, 1).astype(np.float32)
        varied = (count > 0) & (top - cells[:, 0] > _FLAT * top)

        threshold = np.full(rows * cols, np.nan, np.float32)
        if not varied.any():
            return MapLevel(divisor.reshape(rows, cols), threshold.reshape(rows, cols))
        cells, count = cells[varied] / divisor[varied, None], count[varied]
        if self.method == "otsu":
            threshold[varied] = _otsu_of_rows(cells, count)
        elif self.method == "mean_std":
            known = np.isfinite(cells)
            mean = np.sum(cells, axis=1, where=known, dtype=np.float64) / count
            spread = np.sum(np.square(cells - mean[:, None]), axis=1, where=known, dtype=np.float64) / count
            threshold[varied] = np.clip(mean + self._value * np.sqrt(spread), 0, 1)
        elif self.method == "percentile":
            threshold[varied] = _percentile_of_rows(cells, count, self._value)
        else:
            threshold[varied] = self._value
        return MapLevel(divisor.reshape(rows, cols), threshold.reshape(rows, cols))


def _positive(cam: NDArray[Any], valid: Bools) -> Floats:
    """Return a copy of the map, 0 where it is negative or not valid."""
    values = np.where(valid, cam, 0).astype(np.float32, copy=False)
    return np.maximum(values, 0, out=values)


def _checked(cam: NDArray[Any], cell_um: float | None, tile_cells: int, valid: Bools | None) -> Bools:
    """Return which cells count, or raise ValueError."""
    if cam.ndim != 2 or cam.dtype.kind != "f":
        raise ValueError(f"cam is an (H, W) array of floats, not {cam.shape} {cam.dtype}")
    if cell_um is not None and cell_um <= 0:
        raise ValueError(f"cell_um is above 0, or None where unknown, not {cell_um}")
    if tile_cells < 1:
        raise ValueError(f"tile_cells is 1 or more, not {tile_cells}")
    finite: Bools = np.isfinite(cam)
    if valid is None:
        return finite
    if valid.shape != cam.shape or valid.dtype != np.bool_:
        raise ValueError(f"valid is a {cam.shape} array of bool, not {valid.shape} {valid.dtype}")
    finite &= valid
    return finite


def _otsu_of_histogram(values: Floats) -> float:
    """Return Otsu's threshold of values in 0 to 1, from 256 bins: the middle of the gap between the classes."""
    bins = np.minimum(values * np.float32(_BINS), _BINS - 1).astype(np.uint8)
    counts = np.bincount(bins, minlength=_BINS).astype(np.float64)
    below = np.cumsum(counts)
    moment = np.cumsum(counts * np.arange(_BINS))
    between = _between_classes(below[:-1], below[-1], moment[:-1], moment[-1])
    if not between.max() > 0:  # all in one bin
        return math.nan
    last = int(np.argmax(between))
    first_above = last + 1 + int(np.argmax(counts[last + 1 :] > 0))
    return (last + 1 + first_above) / (2 * _BINS)


def _otsu_of_rows(cells: Floats, count: NDArray[np.intp]) -> Floats:
    """Return Otsu's threshold of each row: of its first `count` values, sorted; exact, without bins."""
    known = np.where(np.isfinite(cells), cells, 0)
    moment = np.cumsum(known, axis=1, dtype=np.float64)
    below = np.arange(1, cells.shape[1])
    between = _between_classes(below, count[:, None], moment[:, :-1], moment[:, -1:])
    between[(cells[:, 1:] <= cells[:, :-1]) | (below >= count[:, None])] = -1  # no split between equals
    last = np.argmax(between, axis=1)[:, None]
    middle = (np.take_along_axis(cells, last, 1) + np.take_along_axis(cells, last + 1, 1)) / 2
    return np.asarray(middle[:, 0], np.float32)


def _between_classes(below: Any, total: Any, moment: Any, whole_moment: Any) -> NDArray[np.float64]:
    """Return the variance between the classes, up to a factor (Otsu 1979, equation 18); 0 for an empty class."""
    weight = np.asarray(below * (total - below), np.float64)
    difference = np.square(whole_moment * below - moment * total)
    return np.asarray(np.divide(difference, weight, out=np.zeros_like(difference), where=weight > 0))


def _percentile_of_rows(cells: Floats, count: NDArray[np.intp], percent: float) -> Floats:
    """Return a percentile of each row's first `count` values, sorted; linear between ranks, as numpy's."""
    rank = (count - 1) * (percent / 100)
    lower = np.floor(rank).astype(np.intp)
    upper = np.minimum(lower + 1, count - 1)
    low, high = (np.take_along_axis(cells, index[:, None], 1)[:, 0] for index in (lower, upper))
    return np.asarray(low + (rank - lower) * (high - low), np.float32)


def _tiled(values: Floats, side: int) -> Floats:
    """Return (rows, cols, side * side) cells by tile; what lies beyond the map is infinite."""
    values = np.pad(values, [(0, -length % side) for length in values.shape], constant_values=np.inf)
    rows, cols = values.shape[0] // side, values.shape[1] // side
    return values.reshape(rows, side, cols, side).swapaxes(1, 2).reshape(rows, cols, side * side)


def _without_small(mask: Bools, cells: float) -> Bools:
    """Return `mask` without its 8-connected islands of fewer than `cells` cells."""
    if cells <= 1 or not mask.any():
        return mask
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    keep = np.bincount(labels[mask], minlength=1) >= cells * (1 - 1e-9)  # 0 is no island and has no cell here
    return np.asarray(keep[labels])


def _rescaling(cut: Floats) -> tuple[Floats, Floats]:
    """Return gain and least value of M over the kept cells: from `FAINTEST` at the cut to 1 at the maximum."""
    with np.errstate(divide="ignore"):
        gain = np.where(cut < 1, (1 - FAINTEST) / (1 - cut), 0).astype(np.float32)  # a NaN cut keeps nothing
    return gain, np.where(cut < 1, np.float32(FAINTEST), np.float32(1))
