"""H&E-like tissue that the project draws itself, one rectangle at a time.

The drawing is a function of position alone. Smooth fields say where there is tissue, malignancy, fat and lobules;
cells are scattered by a generator seeded for each plot of ground. So any rectangle can be drawn on its own, in any
order, and meets its neighbours without a seam. Colour arises as it does on glass: every pixel holds an amount of
haematoxylin and one of eosin, and both absorb light by the Beer-Lambert law.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from napari_dala.slide.teaching.stamps import (
    Area,
    Canvas,
    FloatArray,
    fibre_texture,
    gland,
    grain_texture,
    malignant_nucleus,
    nucleus,
    poses,
    stamp,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLIDE_WHITE = 243
SMALLEST_SIDE = 512

_BLOCK = 512  # columns drawn at once
_PLOT = 512  # level-0 px; the ground that one seeded generator covers
_NODE = 32  # level-0 px between the nodes of the fields
_NODE_MARGIN = 8  # nodes before the slide's edge
_HAEMATOXYLIN = (0.993, 1.399, 0.626)  # optical density of one unit (red, green, blue): a nucleus of (90, 60, 130)
_EOSIN = (0.075, 0.400, 0.235)
_MOST_STAIN = (1.9, 3.2)  # haematoxylin, eosin: the ends of the colour table


class DrawnTissue:
    """A square of H&E-like tissue, `side_px` wide, that can be drawn one rectangle at a time.

    Parameters
    ----------
    side_px
        Width and height in level-0 px of 0.5 um, at least 512.
    seed
        Which tissue to draw.
    """

    def __init__(self, side_px: int, seed: int = 0) -> None:
        if side_px < SMALLEST_SIDE:
            raise ValueError(f"side_px is {side_px}: a teaching slide needs at least {SMALLEST_SIDE} px")
        self.side_px, self.seed = side_px, seed
        self._fields = _fields(side_px, np.random.default_rng((seed, 0)))
        rng = np.random.default_rng((seed, 1))
        angle = rng.uniform(0, np.pi)
        self._grain_axis = np.cos(angle), np.sin(angle)
        self._fibres, self._grain = fibre_texture(rng), grain_texture(rng)
        turns = np.repeat(np.arange(16), 3) * np.pi / 16
        self._spindles = [nucleus(rng, 15, 3.6, turn, depth=rng.uniform(0.8, 1.1)) for turn in turns]
        self._lymphocytes = [nucleus(rng, 6.6, 6.2, turn=0, depth=1.3) for _ in range(8)]
        self._malignant = [malignant_nucleus(rng) for _ in range(160)]
        self._ducts = [turned for _ in range(6) for turned in poses(gland(rng, rng.uniform(95, 140), 30), rng)]
        self._acini = [turned for _ in range(10) for turned in poses(gland(rng, rng.uniform(52, 63), 23), rng)]

    def classes(self, xs: FloatArray, ys: FloatArray) -> NDArray[np.uint8]:
        """Give the class at every crossing of the columns `xs` and the rows `ys` (level-0 px).

        Returns
        -------
        (len(ys), len(xs)) uint8 of indices into `teaching.CLASSES`
        """
        labels = 1 + (self.field("malignant", xs, ys) > 0).astype(np.uint8)
        return np.where(self.field("tissue", xs, ys) > 0, labels, 0).astype(np.uint8)

    def field(self, name: str, xs: FloatArray, ys: FloatArray) -> FloatArray:
        """Interpolate a field at every crossing of the columns `xs` and the rows `ys` (level-0 px).

        Parameters
        ----------
        name
            "tissue" and "malignant" are about distances inside an outline (px); `_fields` tells of the others.
        xs, ys
            Sorted positions.

        Returns
        -------
        (len(ys), len(xs)) float32
        """
        first_x, across = _spline_matrix(xs / _NODE + _NODE_MARGIN)
        first_y, down = _spline_matrix(ys / _NODE + _NODE_MARGIN)
        nodes = self._fields[name][first_y : first_y + down.shape[1], first_x : first_x + across.shape[1]]
        return np.asarray((down @ nodes) @ across.T)

    def draw(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Draw a rectangle whose top left corner is at level-0 pixel (x, y).

        Returns
        -------
        (height, width, 3) uint8, RGB
        """
        xs, ys = np.arange(x, x + width) + 0.5, np.arange(y, y + height) + 0.5
        tissue = self.field("tissue", xs, ys)
        if tissue.max() < -20:
            return np.full((height, width, 3), SLIDE_WHITE, np.uint8)
        fibres = self._fibres_at(xs, ys)
        grain = self._grain[np.ix_(np.arange(y, y + height) % 512, np.arange(x, x + width) % 512)]
        stain = np.empty((2, height, width), np.float32)
        stain[0] = 0.045 + 0.025 * fibres + 0.015 * grain
        stain[1] = 1.15 + 0.30 * fibres + 0.10 * grain
        stain *= 1 - 0.85 * np.clip(-2.6 * fibres - 4.9, 0, 1)  # clefts between bundles of collagen
        self._draw_nests(stain, grain, xs, ys)
        canvas = Canvas(stain, Area(x, y, width, height))
        self._draw_fat(canvas)
        self._draw_stroma_cells(canvas)
        self._draw_glands(canvas)
        self._draw_malignant_cells(canvas)
        stain *= np.clip(0.4 * (tissue + 3.5 * np.clip(fibres, -2, 2)) + 0.5, 0, 1)  # frays at the edge of the section
        stain[0] *= 1 + 0.09 * self.field("haematoxylin", xs, ys)
        stain[1] *= 1 + 0.14 * self.field("eosin", xs, ys)
        return _colours(stain)

    def rows(self, first: int, count: int) -> NDArray[np.uint8]:
        """Draw `count` rows of the slide from row `first` on: (count, side_px, 3) uint8."""
        return np.concatenate(
            [self.draw(x, first, min(_BLOCK, self.side_px - x), count) for x in range(0, self.side_px, _BLOCK)], axis=1
        )

    def _draw_nests(self, stain: FloatArray, grain: FloatArray, xs: FloatArray, ys: FloatArray) -> None:
        """Lay the amphophilic cytoplasm of the malignant nests over the stroma."""
        malignant = self.field("malignant", xs, ys)
        if malignant.max() > -8:
            cover = np.clip(malignant / 6 + 0.5, 0, 1) * np.clip(5 * self.field("nest", xs, ys) + 7.5, 0, 1)
            stain[0] += cover * (0.22 + 0.05 * grain - stain[0])
            stain[1] += cover * (1.25 + 0.22 * grain - stain[1])

    def _draw_fat(self, canvas: Canvas) -> None:
        """Empty the vacuoles: cells of a rounded Voronoi tessellation, between thin walls."""
        seeds = self._scatter(2, canvas.area.grown(460), pitch=128, jitter=0.7)
        if len(seeds) < 10:
            return
        x, y = seeds[:, 0], seeds[:, 1]
        is_fat = (self._at("fat", x, y) > 0) & (self._at("malignant", x, y) < -90) & (self._at("tissue", x, y) > 60)
        is_fat &= canvas.area.grown(130).holds(x, y)
        if not is_fat.any():
            return
        near = KDTree(seeds[:, :2]).query(seeds[is_fat, :2], k=10)[1]
        reach = np.arange(-128, 129, dtype=np.float32)
        nuclei: list[tuple[float, float, float]] = []
        for (px, py, chance), others in zip(seeds[is_fat, :3], seeds[near[:, 1:], :2], strict=True):
            left, top = int(px), int(py)
            away = others - (px, py)
            length = np.hypot(*away.T)
            normal = away / length[:, None]
            wall = length / 2 + normal @ (px - left, py - top)
            rounding = 9.0
            # exp(-distance/rounding) of a straight wall is a product in x and y: the soft minimum is one matmul
            across = np.exp((normal[:, :1] * reach - wall[:, None]) / rounding)
            down = np.exp(normal[:, 1:] * reach / rounding)
            room = -rounding * np.log((down.T @ across).astype(np.float32))
            cell, vacuole = np.clip(room / 1.6 + 0.5, 0, 1), np.clip((room - 2) / 1.6, 0, 1)
            canvas.paste(stamp(cell, 0.03 * (1 - vacuole), 1.5 * (1 - vacuole)), left, top)
            if chance < 0.4:
                middle = (px, py) + normal[0] * length[0] / 2
                nuclei.append((*middle, np.arctan2(normal[0, 0], -normal[0, 1])))
        for px, py, turn in nuclei:
            canvas.paste(self._spindles[3 * (round(turn / np.pi * 16) % 16)], int(px), int(py))

    def _draw_stroma_cells(self, canvas: Canvas) -> None:
        """Scatter fibroblasts along the collagen, and a few lymphocytes, most of them beside the islands."""
        cells = self._scatter(3, canvas.area.grown(24), pitch=46, jitter=0.9)
        x, y, chance, pick = cells.T
        malignant = self._at("malignant", x, y)
        here = (self._at("tissue", x, y) > 10) & (self._at("fat", x, y) < -60)
        here &= (malignant < -6) | (self._at("nest", x, y) < -1.5)
        cells, malignant = cells[here], malignant[here]
        turns = self._fibre_angle(cells[:, 0], cells[:, 1])
        infiltrate = 0.10 + 0.35 * ((malignant > -70) & (malignant < 0))
        for (px, py, chance, pick), turn, lymphoid in zip(cells, turns, infiltrate, strict=True):
            if chance < lymphoid:
                cell = self._lymphocytes[int(pick * 8)]
            elif chance < 0.62:
                cell = self._spindles[3 * (round(turn / np.pi * 16) % 16) + int(pick * 3)]
            else:
                continue
            canvas.paste(cell, int(px), int(py))

    def _draw_glands(self, canvas: Canvas) -> None:
        """Stamp ducts, and the small acini of lobules, where benign tissue has room for them whole."""
        for kind, stamps, pitch, jitter, radius in ((4, self._ducts, 512, 0.3, 165), (5, self._acini, 128, 0.16, 76)):
            cells = self._scatter(kind, canvas.area.grown(radius + 20), pitch, jitter)
            around = np.linspace(0, 2 * np.pi, 9)[:, None]
            x = np.vstack([cells[:, 0] + radius * np.cos(around[:-1]), cells[:, 0]])
            y = np.vstack([cells[:, 1] + radius * np.sin(around[:-1]), cells[:, 1]])
            benign = np.maximum(self._at("malignant", x, y), -self._at("tissue", x, y)).max(0) < -12
            room = benign & (self._at("fat", x, y).max(0) < -40)
            lobule = self._at("lobule", x, y)
            room &= (lobule.max(0) < 0.5) & (cells[:, 2] < 0.9) if kind == 4 else lobule[-1] > 0.5
            for px, py, _, pick in cells[room]:
                canvas.paste(stamps[int(pick * len(stamps))], int(px), int(py))

    def _draw_malignant_cells(self, canvas: Canvas) -> None:
        """Crowd pleomorphic nuclei into the nests."""
        cells = self._scatter(6, canvas.area.grown(32), pitch=21, jitter=0.8)
        x, y, chance, _ = cells.T
        here = (self._at("malignant", x, y) > 0) & (self._at("tissue", x, y) > 6)
        here &= (self._at("nest", x, y) > -1.35) & (chance < 0.94)
        for px, py, _, pick in cells[here]:
            canvas.paste(self._malignant[int(pick * len(self._malignant))], int(px), int(py))

    def _fibres_at(self, xs: FloatArray, ys: FloatArray) -> FloatArray:
        """Look the collagen up along streamlines: a texture combed one way, sheared by a smooth field."""
        cos, sin = self._grain_axis
        along = np.add.outer(sin * ys, cos * xs).astype(np.int32)
        across = np.add.outer(cos * ys, -sin * xs).astype(np.float32)
        across += self.field("shear", xs, ys)
        side = len(self._fibres)
        place = (across.astype(np.int32) & (side - 1)) * side + (along & (side - 1))
        return np.asarray(self._fibres.ravel()[place])

    def _fibre_angle(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Give the direction of the collagen (radians) at points."""
        cos, sin = self._grain_axis
        slope_x = (self._at("shear", x + 4, y) - self._at("shear", x - 4, y)) / 8 - sin
        slope_y = (self._at("shear", x, y + 4) - self._at("shear", x, y - 4)) / 8 + cos
        return np.asarray(np.arctan2(-slope_x, slope_y))

    def _at(self, name: str, x: FloatArray, y: FloatArray) -> FloatArray:
        """Interpolate a field at points."""
        nodes = self._fields[name]
        column, across = _spline_taps(np.clip(x / _NODE + _NODE_MARGIN, 1, len(nodes) - 3))
        row, down = _spline_taps(np.clip(y / _NODE + _NODE_MARGIN, 1, len(nodes) - 3))
        taps = nodes[(row[..., None] + np.arange(4))[..., :, None], (column[..., None] + np.arange(4))[..., None, :]]
        return np.asarray(np.einsum("...ij,...i,...j->...", taps, down, across))

    def _scatter(self, kind: int, area: Area, pitch: float, jitter: float) -> FloatArray:
        """Give the cells of one kind within an area: (n, 4) of x, y and two random numbers in [0, 1).

        They sit on a staggered lattice, each moved by up to `jitter` / 2 pitches; each plot of ground has its own
        generator.
        """
        count = round(_PLOT / pitch)
        down, right = np.divmod(np.arange(count * count), count)
        middle = (np.stack([right + np.where(down % 2, 0.25, -0.25), down], 1) + 0.5) * _PLOT / count
        found = []
        for row in self._plots(area.y, area.height):
            for column in self._plots(area.x, area.width):
                cells = np.random.default_rng((self.seed, kind, row, column)).random((count * count, 4))
                cells[:, :2] = middle + (cells[:, :2] - 0.5) * jitter * pitch + (column * _PLOT, row * _PLOT)
                found.append(cells)
        cells = np.concatenate(found) if found else np.empty((0, 4))
        return cells[area.holds(cells[:, 0], cells[:, 1])]

    def _plots(self, start: int, length: int) -> range:
        """Give the plots whose cells, moved by up to a quarter of a plot, may lie in a stretch of rows or columns."""
        last = (self.side_px - 1) // _PLOT
        return range(max((start - _PLOT // 4) // _PLOT, 0), min((start + length + _PLOT // 4) // _PLOT, last) + 1)


def _fields(side_px: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draw the smooth fields that decide what grows where, at nodes `_NODE` level-0 px apart.

    "tissue" and "malignant" are about distances inside the outline and "fat" too (level-0 px), "shear" is a shift (px);
    the others have deviation 1.
    """
    place = ((np.arange(side_px // _NODE + 4 * _NODE_MARGIN) - _NODE_MARGIN) * _NODE).astype(np.float32)
    x, y = place[None, :] - side_px / 2, place[:, None] - side_px / 2

    def noise(wavelength: float) -> FloatArray:
        _, spread = _spline_matrix((place - place[0]) * 2 / wavelength + 2)
        knots = rng.standard_normal((spread.shape[1],) * 2).astype(np.float32)
        smooth = spread @ knots @ spread.T
        return np.asarray(smooth / smooth.std())

    tissue = 0.43 * side_px - (abs(x) ** 2.4 + abs(1.06 * y) ** 2.4) ** (1 / 2.4)
    tissue += 0.045 * side_px * np.tanh(noise(side_px / 2.2)) + 0.018 * side_px * noise(side_px / 7) + 9 * noise(130)
    tissue = np.minimum(tissue, side_px / 2 - 24 - np.maximum(abs(x), abs(y)))

    pitch = min(1300.0, 0.42 * side_px)  # between the islands
    count = round(side_px / pitch)
    middles = (np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2) + 0.5) * side_px / count
    middles += rng.uniform(-0.25, 0.25, middles.shape) * pitch
    nodes = np.rint((middles - place[0]) / _NODE).astype(int)
    grows = (rng.random(len(middles)) < 0.55) & (tissue[nodes[:, 1], nodes[:, 0]] > 0.15 * pitch)
    grows[np.hypot(*(middles - side_px / 2).T).argmin()] = True
    malignant = np.full(tissue.shape, -0.5 * pitch, np.float32)
    for middle, radius in zip(middles[grows], rng.uniform(0.20, 0.42, grows.sum()) * pitch, strict=True):
        (x0, y0), (x1, y1) = np.searchsorted(place, middle - pitch), np.searchsorted(place, middle + pitch)
        distance = np.hypot(place[None, x0:x1] - middle[0], place[y0:y1, None] - middle[1])
        np.maximum(malignant[y0:y1, x0:x1], radius - distance, out=malignant[y0:y1, x0:x1])
    malignant += 0.07 * pitch * noise(0.7 * pitch) + 7 * noise(150)
    return {
        "tissue": tissue.astype(np.float32),
        "malignant": malignant,
        "nest": noise(170),
        "fat": 130 * (noise(min(1500, 0.4 * side_px)) - 0.8),
        "lobule": noise(min(1300, 0.4 * side_px)),
        "shear": 130 * noise(950) + 9 * noise(200),
        "haematoxylin": noise(min(4000, 0.4 * side_px)),
        "eosin": noise(min(3000, 0.4 * side_px)),
    }


def _spline_taps(t: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Give the first of four nodes and their weights (..., 4) in a uniform cubic B-spline, at positions in nodes."""
    first = np.floor(t).astype(np.intp)
    f = (t - first)[..., None].astype(np.float32)
    cubics = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
    return first - 1, np.concatenate(cubics, -1) / np.float32(6)


def _spline_matrix(t: FloatArray) -> tuple[int, FloatArray]:
    """Give the first node that sorted positions need and the matrix from nodes to values there."""
    first, weights = _spline_taps(t)
    matrix = np.zeros((len(t), first[-1] - first[0] + 4), np.float32)
    np.put_along_axis(matrix, first[:, None] - first[0] + np.arange(4), weights, axis=1)
    return int(first[0]), matrix


def _colours(stain: FloatArray) -> NDArray[np.uint8]:
    """Turn amounts of haematoxylin and eosin (2, h, w) into the light that passes: (h, w, 3) uint8."""
    most = np.array(_MOST_STAIN, np.float32).reshape(2, 1, 1)
    haematoxylin, eosin = np.mgrid[:256, :256].reshape(2, -1, 1) / 255 * most
    table = SLIDE_WHITE * np.exp(-haematoxylin * _HAEMATOXYLIN - eosin * _EOSIN) + 0.5
    steps = np.clip(stain * (255 / most) + 0.5, 0, 255).astype(np.uint16)
    return np.asarray(table.astype(np.uint8)[steps[0] * 256 + steps[1]])
