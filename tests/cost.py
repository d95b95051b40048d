"""What one piece of work costs beside another, so that no test knows how fast a machine is."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def cost_ratio(work: Callable[[], object], beside: Callable[[], object], rounds: int = 3) -> float:
    """Return the median of how many times as much processor time `work` takes as `beside`, done in turns."""

    def seconds(each: Callable[[], object]) -> float:
        start = time.process_time()
        each()
        return time.process_time() - start

    return median(seconds(work) / seconds(beside) for _ in range(rounds))
