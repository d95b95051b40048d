from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torchvision.models import resnet50

if TYPE_CHECKING:
    from torch import Tensor


@pytest.fixture(scope="session")
def resnet() -> dict[str, Tensor]:
    """The state dict of a torchvision ResNet-50 with random weights. Tests do not change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return resnet50(weights=None).state_dict()
