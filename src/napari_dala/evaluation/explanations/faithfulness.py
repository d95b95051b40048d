"""Does the model need what a map marks? Pixels are taken away or put back in the map's order, and the model is asked.

All measures are of one tile and of the probability of one class. A map's cells are enlarged to pixels bilinearly. Where
a map is flat (DT's is, where it keeps nothing), pixels come in the order of a random map, so that an empty map is worth
what a random one is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import splu

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Tiles: TypeAlias = NDArray[np.uint8]
    Floats: TypeAlias = NDArray[np.float32]
    Probability: TypeAlias = Callable[[Tiles], NDArray[np.floating[Any]]]

STEPS = 20  # of insertion and deletion
REMOVED = (0.1, 0.3, 0.5, 0.7, 0.9)  # parts of the tile that ROAD takes away
BLUR_PX = 16  # sigma, half a cell of the map: about a nucleus at 0.4 um/px

_BLOCK_PX = 4
_NOISE = 0.01 * 255


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What a map of a tile is worth to the model.

    Attributes
    ----------
    insertion
        Area under the class's probability while the tile's pixels, the map's hottest first, replace those of its
        blurred copy (Petsiuk et al. 2018); 0 to 1, higher is better. The blur is Gaussian, of 16 px: RISE's own code
        takes 5 px, through which nuclei are still to be seen.
    deletion
        The same while the tile's mean colour replaces the tile's pixels, the hottest first; lower is better. RISE's
        own code takes the training images' mean colour, which stained tissue never has.
    drop
        max(0, Y - O) / Y, where Y is the class's probability of the tile and O that of the tile times the map scaled to
        0 to 1, fading to the mean colour (Chattopadhay et al. 2018: average drop, there a percentage and fading to
        black); 0 to 1, lower is better.
    increase
        1 where O > Y, else 0 (the same: increase in confidence); higher is better.
    road
        (L - M) / 2, where M and L are the class's mean probabilities with the hottest and with the coldest 10, 30, 50,
        70 and 90 % of the tile imputed from their surroundings (Rong et al. 2022); higher is better, about 0 for a
        random map.
    kept
        Part of the map above 0. A map that keeps everything is no explanation.
    insertion_curve, deletion_curve
        (STEPS + 1,) probabilities, after equal steps from nothing to all of the tile.

    References
    ----------
    Petsiuk, V., Das, A., Saenko, K. (2018). RISE: Randomized input sampling for explanation of black-box models. BMVC;
    arXiv 1806.07421.

    Chattopadhay, A. et al. (2018). Grad-CAM++: Generalized gradient-based visual explanations for deep convolutional
    networks. WACV; arXiv 1710.11063.

    Rong, Y. et al. (2022). A consistent and efficient evaluation strategy for attribution methods. ICML; arXiv
    2202.00449. The combination of both orders is pytorch-grad-cam's `ROADCombined`.
    """

    insertion: float
    deletion: float
    drop: float
    increase: float
    road: float
    kept: float
    insertion_curve: NDArray[np.float64]
    deletion_curve: NDArray[np.float64]


def faithfulness(tile: Tiles, maps: Sequence[Floats], probability: Probability, seed: int = 0) -> list[Faithfulness]:
    """Measure maps of a tile.

    Parameters
    ----------
    tile
        (H, W, 3) uint8; sides a multiple of 4 px.
    maps
        Each (h, w), not negative.
    probability
        Of the class that the maps explain, (n,) for tiles (n, H, W, 3) uint8.
    seed
        Of the order of pixels where a map is flat, and of ROAD's noise.
    """
    rng = np.random.default_rng(seed)
    ties = rng.random(maps[0].shape, np.float32)
    blurred = gaussian_filter(tile, (BLUR_PX, BLUR_PX, 0))
    bare = np.broadcast_to(np.rint(tile.mean((0, 1))).astype(np.uint8), tile.shape)
    whole, at_first, at_last = probability(np.stack([tile, blurred, bare])).astype(np.float64)

    measured = []
    for values in maps:
        ranks = ranked(values, tile.shape[:2], ties)
        altered = (
            replaced(blurred, tile, ranks)[1:-1],
            replaced(tile, bare, ranks)[1:-1],
            _faded(tile, bare, values)[None],
            *_imputed_both_ways(tile, values, ties, rng),
        )
        found = np.split(
            probability(np.concatenate(altered)).astype(np.float64), np.cumsum([len(part) for part in altered[:-1]])
        )
        insertion = np.concatenate([[at_first], found[0], [whole]])
        deletion = np.concatenate([[whole], found[1], [at_last]])
        faded = float(found[2][0])
        measured.append(
            Faithfulness(
                insertion=area(insertion),
                deletion=area(deletion),
                drop=max(0.0, whole - faded) / whole,
                increase=float(faded > whole),
                road=float(found[4].mean() - found[3].mean()) / 2,
                kept=float((values > 0).mean()),
                insertion_curve=insertion,
                deletion_curve=deletion,
            )
        )
    return measured


def area(curve: NDArray[np.float64]) -> float:
    """Return the area under a curve over equal steps from 0 to 1, by trapezoids."""
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))


def ranked(values: Floats, shape: tuple[int, ...], ties: Floats) -> NDArray[np.intp]:
    """Return each pixel's place, from 0 for the hottest, in a map (h, w) enlarged to `shape`.

    Equal pixels are in the order of `ties`, a map of the same cells, from its highest.
    """
    top = float(values.max())
    scaled = np.round(enlarged(values / top if top else values, shape), 5)  # equal cells differ by rounding, enlarged
    order = np.lexsort((-enlarged(ties, shape).ravel(), -scaled.ravel()))
    ranks = np.empty(len(order), np.intp)
    ranks[order] = np.arange(len(order))
    return ranks.reshape(scaled.shape)


def replaced(start: Tiles, end: Tiles, ranks: NDArray[np.intp], steps: int = STEPS) -> Tiles:
    """Return the tile `start` while it becomes `end` in the order of `ranks`, (steps + 1, H, W, 3)."""
    counts = np.rint(np.linspace(0, ranks.size, steps + 1))
    return np.where(ranks[None, ..., None] < counts[:, None, None, None], end, start)


def enlarged(values: NDArray[np.floating[Any]], shape: tuple[int, ...]) -> Floats:
    """Return (h, w) values as (H, W), bilinearly."""
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def imputed(tile: Tiles, missing: NDArray[np.bool_], rng: np.random.Generator | None = None) -> Tiles:
    """Return a tile with a part of it filled in from what surrounds it: ROAD's noisy linear imputation.

    Each missing block is the weighted mean of its 8 neighbours (1/6 beside, 1/12 across a corner; Rong et al. 2022),
    which makes one system of linear equations, plus noise of 1 %. The blocks' values are enlarged bilinearly.

    Parameters
    ----------
    tile
        (H, W, 3).
    missing
        (h, w), one value per block of H/h x W/w pixels; not all of them. The paper's blocks are single pixels, which
        takes forty times as long.
    rng
        Of the noise; none without.
    """
    (height, width), (rows, columns) = tile.shape[:2], missing.shape
    blocks = tile.reshape(rows, height // rows, columns, width // columns, 3).mean((1, 3)).reshape(-1, 3)
    gone = missing.ravel()
    from_neighbours = _neighbours(rows, columns)[gone]
    system = sparse.eye_array(int(gone.sum())) - from_neighbours[:, gone]
    blocks[gone] = splu(system.tocsc()).solve(from_neighbours[:, ~gone] @ blocks[~gone])
    channels = [enlarged(channel.reshape(rows, columns), (height, width)) for channel in blocks.T]
    filled = np.stack(channels, -1) + (0 if rng is None else rng.normal(0, _NOISE, tile.shape))
    pixels = missing.repeat(height // rows, 0).repeat(width // columns, 1)
    return np.where(pixels[..., None], np.clip(np.rint(filled), 0, 255).astype(np.uint8), tile)


@lru_cache(2)
def _neighbours(rows: int, columns: int) -> Any:
    """Return the sparse matrix that takes blocks to the weighted means of their neighbours; each row adds to 1."""
    down, across = (sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(side, side)) for side in (rows, columns))
    beside = sparse.kron(sparse.eye_array(rows), across) + sparse.kron(down, sparse.eye_array(columns))
    weights = beside / 6 + sparse.kron(down, across) / 12
    return (sparse.diags_array(1 / weights.sum(1)) @ weights).tocsr()


def _imputed_both_ways(tile: Tiles, values: Floats, ties: Floats, rng: np.random.Generator) -> tuple[Tiles, Tiles]:
    """Return the tile without the hottest and without the coldest parts, each (len(REMOVED), H, W, 3)."""
    ranks = ranked(values, (tile.shape[0] // _BLOCK_PX, tile.shape[1] // _BLOCK_PX), ties)
    counts = [round(part * ranks.size) for part in REMOVED]
    hottest = [imputed(tile, ranks < count, rng) for count in counts]
    coldest = [imputed(tile, ranks >= ranks.size - count, rng) for count in counts]
    return np.stack(hottest), np.stack(coldest)


def _faded(tile: Tiles, bare: Tiles, values: Floats) -> Tiles:
    """Return the tile times the map over its maximum, fading to `bare`."""
    top = float(values.max())
    weight = enlarged(values / top if top else values, tile.shape)[..., None]
    return np.rint(tile * weight + bare * (1 - weight)).astype(np.uint8)
