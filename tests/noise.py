"""Photographs of coloured noise in class folders: two classes that a network can tell apart in a few steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage.io import imsave

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {"benign": (200, 150, 200), "malignant": (110, 60, 150)}


def noise_folders(root: Path, patients: int, each: int, size: tuple[int, int], spread: float = 40) -> Path:
    """Draw `each` photographs of (height, width) px of so many patients of each class; return the folder.

    Patients are folders, and the photographs' names are the same in each.
    """
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for patient in range(patients):
            (folder := root / name / f"{name}-{patient}").mkdir(parents=True)
            for number in range(each):
                imsave(folder / f"{number}.png", rng.normal(colour, spread, (*size, 3)).clip(0, 255).astype(np.uint8))
    return root
