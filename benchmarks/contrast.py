"""How far overlays stand out from stained tissue (CIELAB), for the usual eye and two colour-blind ones; a table.

    python -m benchmarks.contrast CMU-1-Small-Region.svs mosaic.tiff teaching.tif [--all]

Tissue is laid under a ramp as the window does it. *Contrast* is the distance from a covered pixel to the nearest of the
colours that bare tissue has (48 means), the median over pixels: a pink overlay on pink tissue has little, however much
it changes a pixel. *Step* is the least distance between neighbours of five values. All are the worst of three slides.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree
from skimage.color import lab2rgb, rgb2lab

from napari_dala.results.report.ramps import GRAD_CAM, PROBABILITY, Ramp
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Machado, Oliveira and Fernandes (2009), severity 1, in linear light.
EYES = {
    "usual": np.eye(3),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)
WORST = "worst"
FAMILIES = (
    *("viridis", "cividis", "plasma", "inferno", "magma", "summer", "winter", "cool", "Wistia", "YlGn", "YlGnBu"),
    *("GnBu", "BuGn", "PuBuGn", "Blues", "Greens", "Greys", "YlOrBr", "YlOrRd", "hot", "bone", "turbo"),
)


def main() -> None:
    """Print a row for each ramp: the least contrast at the values of `VALUES` above 0, and the least step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path, nargs="+")
    parser.add_argument("--all", action="store_true", help="candidates too: matplotlib's families, whole and cut")
    asked = parser.parse_args()
    tissues = [tissue(path) for path in asked.slides]
    ramps = {"before: probability, malignant": before((214, 39, 40), 0.5), "probability": PROBABILITY}
    ramps |= {"before: DT Grad-CAM, malignant": before((214, 39, 40), 0.65), "Grad-CAM": GRAD_CAM}
    if asked.all:
        ramps |= {f"{name} {part}": cut(name, *part) for name in FAMILIES for part in ((0.0, 1.0), (0.35, 1.0))}
        ramps |= {f"{name} reversed": cut(name, 1.0, 0.15) for name in FAMILIES}
    print("| ramp | eye | contrast at 0.25 | 0.5 | 0.75 | 1 | step |\n|---|---|---|---|---|---|---|")
    for name, ramp in ramps.items():
        for eye, found in measured(ramp, tissues).items():
            if not asked.all or eye == WORST:
                print(f"| {name} | {eye} | {' | '.join(f'{value:.0f}' for value in found)} |")


def measured(ramp: Ramp, tissues: list[Floats]) -> dict[str, Floats]:
    """Return, for every eye, contrast at each value above 0 and the least step, the least of the tissues."""
    found = {}
    for eye, matrix in EYES.items():
        rows = []
        for bare in tissues:
            seen = [rgb2lab(as_seen(ramp.over(np.full(len(bare), value), bare), matrix)) for value in VALUES]
            means, _ = kmeans2(seen[0], 48, seed=0, minit="++")
            nearest = cKDTree(means)
            contrast = [np.median(nearest.query(each)[0]) for each in seen[1:]]
            steps = [np.median(np.linalg.norm(b - a, axis=1)) for a, b in pairwise(seen)]
            rows.append([*contrast, min(steps)])
        found[eye] = np.min(rows, axis=0)
    found[WORST] = np.min(list(found.values()), axis=0)
    return found


def tissue(path: Path, pixels: int = 6000) -> Floats:
    """Return tissue pixels of a slide, (n, 3), 0 to 1: stained ones, as the level of some 2000 px shows them."""
    with open_slide(path) as slide:
        picture = np.asarray(slide.thumbnail(2000)).reshape(-1, 3) / 255
    stained = picture[rgb2lab(picture)[:, 0] < 88]
    return np.asarray(np.random.default_rng(0).choice(stained, pixels))


def as_seen(rgb: Floats, matrix: Floats) -> Floats:
    """Return sRGB colours, 0 to 1, as an eye sees them."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ matrix.T
    linear = np.clip(linear, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


def cut(name: str, first: float, last: float) -> Ramp:
    """Return a part of one of matplotlib's families with the opacity of the probability."""
    colors: Any = matplotlib.colormaps[name](np.linspace(first, last, 256))[:, :3]
    return Ramp(name, np.column_stack((colors, PROBABILITY.colors[:, 3])), PROBABILITY.opacity)


def before(color: tuple[int, int, int], opacity: float) -> Ramp:
    """Return a class' ramp as it was until November 2026: from its colour to yellow, over tissue of `opacity`."""
    value = np.linspace(0, 1, 256)
    ends = rgb2lab(np.array([color, (255, 236, 110)]) / 255)
    part = 0.85 * np.clip((value - 0.5) / 0.5, 0, 1)[:, None]
    alpha = 0.7 * np.clip(value / 0.75, 0, 1) ** 1.3
    return Ramp("before", np.column_stack((lab2rgb(ends[0] * (1 - part) + ends[1] * part), alpha)), opacity)


if __name__ == "__main__":
    main()
