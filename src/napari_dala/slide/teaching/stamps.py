"""What drawn tissue is stamped with: nuclei and glands, and the seamless textures of the ground between them.

Each is drawn once, as the amounts of haematoxylin and eosin it adds and the share of what lies under it that it keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FloatArray = NDArray[Any]  # of float32, or of float64 for positions


class Area(NamedTuple):
    """A rectangle in level-0 px: its top left corner and its size."""

    x: int
    y: int
    width: int
    height: int

    def grown(self, margin: int) -> Area:
        """Give the area with `margin` px more on every side."""
        return Area(self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin)

    def holds(self, x: FloatArray, y: FloatArray) -> NDArray[np.bool_]:
        """Tell which points lie in the area: booleans of the shape of `x` and `y`."""
        inside: NDArray[np.bool_] = (x >= self.x) & (x < self.x + self.width)
        return inside & (y >= self.y) & (y < self.y + self.height)


class Stamp(NamedTuple):
    """Something drawn once and pasted often: stain becomes stain * keep + ink.

    Attributes
    ----------
    ink
        (3, side, side) float32: haematoxylin, eosin, and zeros for the third plane of a canvas.
    keep
        (side, side) float32 in [0, 1].
    """

    ink: FloatArray
    keep: FloatArray


class Canvas(NamedTuple):
    """Stain amounts of an area, drawn on in place.

    Attributes
    ----------
    stain
        (2 or 3, height, width) float32: haematoxylin, eosin and, where there is a third plane, how much shows through.
    area
        Where the planes lie.
    """

    stain: FloatArray
    area: Area

    def paste(self, stamp: Stamp, x: int, y: int) -> None:
        """Paste a stamp with its middle at level-0 pixel (x, y), clipped to the area."""
        height, width = stamp.keep.shape
        left, top = x - width // 2 - self.area.x, y - height // 2 - self.area.y
        x0, x1 = max(left, 0), min(left + width, self.area.width)
        y0, y1 = max(top, 0), min(top + height, self.area.height)
        if x0 < x1 and y0 < y1:
            under = self.stain[:, y0:y1, x0:x1]
            cut = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            under *= stamp.keep[cut]
            under += stamp.ink[: len(under), *cut]


def stamp(cover: FloatArray, haematoxylin: FloatArray | float, eosin: FloatArray | float) -> Stamp:
    """Give the stamp that lays amounts of the two stains over what is there.

    Parameters
    ----------
    cover
        (side, side) in [0, 1]: how far the stamp hides what it is pasted on.
    haematoxylin, eosin
        Amounts where the stamp covers, of the shape of `cover` or one for all.
    """
    ink = np.stack([cover * haematoxylin, cover * eosin, 0 * cover]).astype(np.float32)
    return Stamp(ink, (1 - cover).astype(np.float32))


def poses(stamp: Stamp, rng: np.random.Generator) -> Iterator[Stamp]:
    """Give three of the eight rotations and reflections of a stamp, chosen by `rng`.

    Yields
    ------
    Stamp
    """
    for pose in rng.choice(8, 3, replace=False):
        turned = (np.rot90(planes, pose % 4, (-2, -1))[..., :: 1 if pose < 4 else -1] for planes in stamp)
        yield Stamp(*map(np.ascontiguousarray, turned))


def _waves(rng: np.random.Generator, strength: float) -> Callable[[Any], Any]:
    """Give a smooth periodic function of an angle, about 0: harmonics 2 to 5, weaker as they get finer."""
    order = np.arange(2, 6)
    size, phase = rng.normal(0, strength / order), rng.uniform(0, 2 * np.pi, 4)
    return lambda angle: sum(s * np.cos(k * angle + p) for k, s, p in zip(order, size, phase, strict=True))


def nucleus(
    rng: np.random.Generator,
    length: float,
    width: float,
    turn: float,
    depth: float = 1.0,
    irregular: float = 0.05,
    chromatin: float = 0.10,
    nucleoli: int = 0,
) -> Stamp:
    """Draw an oval nucleus.

    Parameters
    ----------
    rng
        Draws outline and chromatin.
    length, width
        Half axes in px.
    turn
        Direction of the long axis, in radians.
    depth
        Amount of haematoxylin.
    irregular, chromatin
        How far the outline leaves the oval, and the stain its mean, as shares of them.
    nucleoli
        How many.
    """
    side = int(length * (1.4 + 2 * irregular)) + 3
    y, x = np.mgrid[-side : side + 1, -side : side + 1].astype(np.float32)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    radius = np.hypot(u / length, v / width)
    outline = 1 + _waves(rng, irregular)(np.arctan2(v / width, u / length))
    inwards = (outline - radius) * min(width, 6.0)
    texture = gaussian_filter(rng.standard_normal(x.shape), 1.3).astype(np.float32) * 3.5
    stain = depth * (0.86 + chromatin * texture + 0.22 * np.exp(-np.maximum(inwards, 0) / 1.2))
    for _ in range(nucleoli):
        du, dv = rng.uniform(-0.35, 0.35, 2) * (length, width)
        stain += 0.55 * np.clip(rng.uniform(1.6, 2.6) - np.hypot(u - du, v - dv) + 0.5, 0, 1)
    return stamp(np.clip(inwards / 1.3 + 0.5, 0, 1), stain, 0.75)


def malignant_nucleus(rng: np.random.Generator) -> Stamp:
    """Draw a pleomorphic nucleus, 8 to 15 um long: dark and clumped, or vesicular with nucleoli.

    All of it is drawn from `rng`.
    """
    length = rng.triangular(7.5, 10, 15.5)
    vesicular = rng.random() < 0.4
    return nucleus(
        rng,
        length,
        length * rng.uniform(0.58, 0.95),
        rng.uniform(0, np.pi),
        depth=rng.uniform(0.72, 0.95) if vesicular else rng.uniform(1.0, 1.55),
        irregular=rng.uniform(0.08, 0.30),
        chromatin=0.16,
        nucleoli=int(rng.integers(1, 3)) if vesicular else 0,
    )


def gland(rng: np.random.Generator, radius: float, wall: float) -> Stamp:
    """Draw a benign gland: a lumen, columnar cells with regular basal nuclei, flat myoepithelium, a basement membrane.

    Parameters
    ----------
    rng
        Draws the folds of the outline, the secretion and the nuclei.
    radius
        From the middle to the basement membrane, in px.
    wall
        Height of the epithelium, in px.
    """
    side = int(radius * 1.25) + 14
    y, x = np.mgrid[-side : side + 1, -side : side + 1].astype(np.float32)
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    bulge, fold = _waves(rng, 0.13), _waves(rng, 0.25)
    outside = distance - radius * (1 + bulge(angle))
    inside = outside + wall * (1 + fold(angle))
    grain = 4 * gaussian_filter(rng.standard_normal(x.shape), 1.5).astype(np.float32)
    canvas = Canvas(np.zeros((3, *x.shape), np.float32), Area(-side, -side, len(x), len(x)))
    canvas.stain[2] = 1
    canvas.paste(stamp(0.8 * np.exp(-(((outside - 3) / 5) ** 2)), 0.05, 1.75 + 0.1 * grain), 0, 0)
    cytoplasm = 1.3 + 0.14 * grain + 0.5 * np.exp(-(((inside - 2) / 2) ** 2))  # denser at the apical border
    canvas.paste(stamp(np.clip(0.5 - outside / 1.5, 0, 1), 0.16 + 0.03 * grain, cytoplasm), 0, 0)
    secretion = rng.choice([0, 0, 0.4, 0.8]) * np.clip(-(inside + 8 + 4 * grain) / 8, 0, 1)
    canvas.paste(stamp(np.clip(0.5 - inside / 1.5, 0, 1), 0.01, secretion), 0, 0)
    myoepithelial, luminal = (40, 2.5, (7.0, 2.4), 0.5, 0.8), (12.5, 0.45 * wall, (7.2, 5.0), 0.0, 1.0)
    for spacing, below, half_axes, tangential, depth in (myoepithelial, luminal):
        count = int(2 * np.pi * (radius - below) / spacing)
        for turn in 2 * np.pi * (np.arange(count) + rng.uniform(-0.15, 0.15, count)) / count:
            place = radius * (1 + bulge(turn)) - below + rng.normal(0, 0.8)
            oval = nucleus(rng, *half_axes, turn + tangential * np.pi, depth=depth * rng.uniform(0.88, 1.0))
            canvas.paste(oval, round(place * np.cos(turn)), round(place * np.sin(turn)))
    return Stamp(np.concatenate([canvas.stain[:2], np.zeros((1, *x.shape), np.float32)]), canvas.stain[2].copy())


def fibre_texture(rng: np.random.Generator, side: int = 1024) -> FloatArray:
    """Give a seamless square of combed, crimped fibres along x.

    Returns
    -------
    (side, side) float32 of mean 0 and deviation 1
    """
    noise = np.zeros((side, side), np.float32)
    for weight, thin, long in ((1.0, 1.4, 24), (1.2, 3.0, 50), (0.9, 8.0, 90)):
        white = rng.standard_normal((side, side), np.float32)
        noise += weight * (thin * long) ** 0.5 * gaussian_filter(white, (thin, long), mode="wrap", truncate=3)
    columns = np.arange(side)
    crimp = 5 * np.sin(2 * np.pi * columns * 9 / side) + 3 * np.sin(2 * np.pi * columns * 16 / side + 1)
    crimped = map_coordinates(noise, (columns[:, None] + crimp, np.tile(columns, (side, 1))), order=1, mode="grid-wrap")
    return np.asarray((crimped - crimped.mean()) / crimped.std(), np.float32)


def grain_texture(rng: np.random.Generator, side: int = 512) -> FloatArray:
    """Give a seamless square of fine isotropic noise.

    Returns
    -------
    (side, side) float32 of deviation 1
    """
    noise = gaussian_filter(rng.standard_normal((side, side)), 1.4, mode="wrap")
    return np.asarray(noise / noise.std(), np.float32)
