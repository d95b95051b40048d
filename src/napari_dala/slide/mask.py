"""A mask of a whole slide, and how much of a rectangle it covers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class SlideMask:
    """Where something is on a slide, tissue or ink.

    Attributes
    ----------
    mask : (h, w) bool array
        True where it is.
    scale : (float, float)
        Level-0 px per mask px, in x and y.
    """

    mask: NDArray[np.bool_]
    scale: tuple[float, float]

    def fraction(self, x: ArrayLike, y: ArrayLike, width: ArrayLike, height: ArrayLike) -> NDArray[np.float64]:
        """Return the fraction of each rectangle that is set.

        Exact for any rectangle: the integral image of a mask of constant pixels is bilinear between
        its nodes, so interpolating it there counts pixels that are cut by a border in proportion.

        Parameters
        ----------
        x, y : array_like
            Top left corners, level-0 px; broadcast with each other and with the sizes.
        width, height : array_like
            Sizes, level-0 px, above 0. What lies off the slide counts as not set.

        Returns
        -------
        float64 array, 0 to 1, of the broadcast shape

        Raises
        ------
        ValueError
            If a width or a height is not above 0.
        """
        x, y, width, height = (np.asarray(value, np.float64) for value in (x, y, width, height))
        if not (np.all(width > 0) and np.all(height > 0)):
            raise ValueError("rectangles need a width and a height above 0")
        left, right = x / self.scale[0], (x + width) / self.scale[0]
        top, bottom = y / self.scale[1], (y + height) / self.scale[1]
        inside = (
            self._set_above_left(bottom, right)
            - self._set_above_left(top, right)
            - self._set_above_left(bottom, left)
            + self._set_above_left(top, left)
        )
        return np.clip(inside / ((right - left) * (bottom - top)), 0.0, 1.0)

    @cached_property
    def _integral(self) -> NDArray[np.int64]:
        return np.pad(self.mask.cumsum(0, np.int64).cumsum(1), ((1, 0), (1, 0)))

    def _set_above_left(self, row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is set, in mask px, above `row` and left of `col` (mask px, fractions allowed)."""
        height, width = self.mask.shape
        row, col = np.clip(row, 0, height), np.clip(col, 0, width)
        top, left = (np.minimum(row, height - 1).astype(np.intp), np.minimum(col, width - 1).astype(np.intp))
        down, across = row - top, col - left
        table = self._integral
        upper = table[top, left] * (1 - across) + table[top, left + 1] * across
        lower = table[top + 1, left] * (1 - across) + table[top + 1, left + 1] * across
        result: NDArray[np.float64] = upper * (1 - down) + lower * down
        return result
