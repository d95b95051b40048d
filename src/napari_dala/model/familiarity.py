"""How far a tile is from what a model was trained on, from layer4's channel means.

The distance is the length of what the training tiles' principal directions leave of a tile's centred means, over the
median of that length among tiles of patients that the statistics have not seen. It needs no class and no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTIONS = 64


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What a bundle knows of its training tiles.

    Attributes
    ----------
    mean : Tensor
        (2048,) of the training tiles' channel means.
    directions : Tensor
        (2048, k), orthonormal: their first principal directions.
    typical : float
        Distance that counts as 1.
    limit : float
        Ratio to `typical` above which a tile is unfamiliar.
    """

    mean: Tensor
    directions: Tensor
    typical: float
    limit: float

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Familiarity:
        """Return the statistics that a bundle carries as tensors."""
        return cls(tensors["mean"], tensors["directions"], float(tensors["typical"]), float(tensors["limit"]))

    @classmethod
    def fit(cls, means: Tensor, directions: int = DIRECTIONS) -> Familiarity:
        """Return statistics of training tiles (n, 2048), with their own median as `typical` and no limit yet."""
        centre = means.float().mean(0)
        _, _, rows = torch.linalg.svd(means.float() - centre, full_matrices=False)
        found = cls(centre, rows[:directions].T.contiguous(), 1.0, float("inf"))
        return cls(found.mean, found.directions, float(found.ratio(means).median()), float("inf"))

    def ratio(self, means: Tensor) -> Tensor:
        """Return the distance of tiles' channel means (n, 2048), in units of `typical`, (n,) float32."""
        centred = means.float() - self.mean
        left = centred - (centred @ self.directions) @ self.directions.T
        ratio: Tensor = left.norm(dim=1) / self.typical
        return ratio

    def tensors(self) -> dict[str, Tensor]:
        """Return what `of` takes."""
        return {
            "mean": self.mean,
            "directions": self.directions,
            "typical": torch.tensor(self.typical),
            "limit": torch.tensor(self.limit),
        }
