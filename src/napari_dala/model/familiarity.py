"""How far a tile is from what a model was trained on, from the trunk's channel means; it needs no class and no label.

The distance is the length of what the training tiles' principal directions leave of a tile's centred log means. The
logarithm counts a channel that is silent in training and speaks here, however softly (`docs/decisions.md`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_dala.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTIONS = 32
_FLOOR = 0.1  # of a channel's mean before the logarithm; a trained layer4's are 0.4 on average


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What a bundle knows of its training tiles.

    Attributes
    ----------
    mean : Tensor
        (C,) of the training tiles' log channel means.
    directions : Tensor
        (C, k), orthonormal: their first principal directions.
    limit : Tensor
        (1,) distance beyond which a tile is unfamiliar.
    """

    mean: Tensor
    directions: Tensor
    limit: Tensor

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], channels: int) -> Familiarity:
        """Return the statistics that a bundle of so many channels carries; BundleError where they are none."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        directions = shapes.get("directions", ())
        fit = len(directions) == 2 and directions[1] <= directions[0] == channels
        if shapes != {"mean": (channels,), "directions": directions, "limit": (1,)} or not fit:
            raise BundleError(f"the model's statistics of what it was trained on are damaged: {shapes}")
        return cls(**tensors)

    @classmethod
    def fit(cls, means: Tensor, directions: int = DIRECTIONS) -> Familiarity:
        """Return statistics of training tiles (n, C) whose limit is their own median distance."""
        logs = _logs(means)
        centre = logs.mean(0)
        _, _, rows = torch.linalg.svd(logs - centre, full_matrices=False)
        found = cls(centre, rows[:directions].T.contiguous(), torch.ones(1))
        return found.with_limit(float(found.ratio(means).median()))

    def with_limit(self, factor: float) -> Familiarity:
        """Return the same with a limit `factor` times this one's."""
        return Familiarity(self.mean, self.directions, self.limit * factor)

    def ratio(self, means: Tensor) -> Tensor:
        """Return the distances of tiles' channel means (n, C) in units of the limit, (n,) float32."""
        centred = _logs(means) - self.mean
        left = centred - (centred @ self.directions) @ self.directions.T
        ratio: Tensor = left.norm(dim=1) / self.limit
        return ratio

    def to(self, device: torch.device) -> Familiarity:
        """Return the same on a device."""
        return Familiarity(*(tensor.to(device) for tensor in vars(self).values()))


def _logs(means: Tensor) -> Tensor:
    """Return the logarithm of channel means (n, C) as float32; below 0 it goes on as its own reflection at 0.

    Means behind a ReLU are 0 or more; those of a transformer's tokens have either sign.
    """
    logs = (means.float().abs() + _FLOOR).log()
    return torch.where(means < 0, 2 * math.log(_FLOOR) - logs, logs)
