"""Several views of one example, of which the mean counts."""

from __future__ import annotations

import torch
from torch import Tensor


def joined(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return all views (a photograph's tiles) of some examples, how many each has, and the examples' labels."""
    views, labels = zip(*items, strict=True)
    return torch.cat(views), torch.tensor([len(part) for part in views]), torch.tensor(labels)


def means(values: Tensor, counts: Tensor) -> Tensor:
    """Return the mean row of each example, (examples, C), of values of its views (views, C)."""
    return torch.stack([part.mean(0) for part in torch.split(values, counts.tolist())])
