"""The figures of an epoch, and of all epochs as CSV. No torch."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

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
