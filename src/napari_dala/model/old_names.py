"""Names of tensors in files that are older than the library that reads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def with_modern_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under their present names: torchvision's file of DenseNet says ``norm.1`` for ``norm1``."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", key): value for key, value in weights.items()}
