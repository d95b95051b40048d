"""Random numbers that depend on a place in training alone, never on what was drawn before it."""

from __future__ import annotations

import numpy as np


def derived(*numbers: int) -> int:
    """Return a seed for torch, 0 to 2^63 - 1, that differs for any other numbers (seed, epoch, batch...)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
