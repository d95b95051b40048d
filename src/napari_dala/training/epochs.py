"""The figures of an epoch, and of all epochs as CSV. No torch."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch; the validation figures are None where nothing is held out."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_gmean: float | None
    lr: float
    seconds: float


def as_csv(rows: Sequence[Epoch]) -> str:
    """Return the rows as CSV with a head; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Epoch)])
    writer.writerows(asdict(row).values() for row in rows)
    return text.getvalue()


def derived(*numbers: int) -> int:
    """Return a seed for torch, 0 to 2^63 - 1, that differs for any other numbers (seed, epoch, batch...)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
