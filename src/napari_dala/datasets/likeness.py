"""Which images show one original, turned, mirrored or shifted: groups that a split must keep together. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from napari_dala.errors import DatasetError, SlideError
from napari_dala.slide.open import read_rgb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_SIDE = 64  # px that an image is scaled to
_ALIKE = 0.025  # root mean square; on LC25000 it gives 136 to 205 groups of 250 originals: too few rather than too many


def likeness_groups(paths: Sequence[Path]) -> NDArray[np.intp]:
    """Return a number for each image, the same for images that look as if made from one original.

    Compared are colours (quantiles and covariance) and edges inside a disc, which turning and mirroring leave as they
    are; groups come of average linkage. It takes memory for every pair of images: meant for some thousands of a class.

    Raises
    ------
    DatasetError
        If an image cannot be read.
    """
    if len(paths) < 2:
        return np.zeros(len(paths), np.intp)
    looks = np.stack([_look(path) for path in paths])
    distances = pdist(looks) / np.sqrt(looks.shape[1])
    return np.asarray(fcluster(linkage(distances, "average"), _ALIKE, "distance"), np.intp)


def _look(path: Path) -> NDArray[np.float64]:
    """Return what turning and mirroring an image leaves as it is, (90,)."""
    try:
        image = Image.fromarray(read_rgb(path))
    except SlideError as error:
        raise DatasetError(f"{path}: {str(error).removeprefix(f'{path.name}: ')}") from None
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float64) / 255
    rows, columns = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2
    disc = np.hypot(rows, columns) < _SIDE / 2 - 2
    colours = np.quantile(pixels[disc], np.linspace(0.02, 0.98, 25), axis=0)
    together = np.cov(pixels[disc].T)[np.triu_indices(3)]
    edges = np.quantile(np.hypot(*np.gradient(pixels.mean(2)))[disc], np.linspace(0.1, 0.9, 9))
    return np.concatenate([colours.T.ravel(), 5 * together, 3 * edges])
