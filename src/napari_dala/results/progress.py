"""How far an analysis is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from napari_dala.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping


def pace(done: int, left: int, seconds: float) -> tuple[float, float | None]:
    """Return how many are done in a second, and how many seconds are left; (0, None) before the first."""
    rate = done / seconds if done else 0.0
    return rate, left / rate if rate else None


@dataclass(frozen=True)
class Progress:
    """How far an analysis is.

    Attributes
    ----------
    done, total
        Tiles, those of earlier runs and those scored from stored features counted in.
    unreadable
        Tiles that could not be decoded.
    failed
        Further tiles that the file system would not give; another run tries them again.
    tiles_per_s
        Mean rate of this run; 0 before its first tile.
    seconds_left
        Until every tile is done and no map approximate, estimated from that rate; None before the first tile.
    blocks
        (row, column) of the blocks of 4 x 4 tiles of which some were written since the last report.
    approximate
        Those of the done tiles whose Grad-CAM is approximate or not there yet.
    stalled
        Part of this run so far in which the network had no tiles to work on, 0 to 1.
    device
        That the network runs on.
    """

    done: int
    total: int
    unreadable: int = 0
    tiles_per_s: float = 0.0
    seconds_left: float | None = None
    blocks: tuple[tuple[int, int], ...] = field(default=())
    approximate: int = 0
    stalled: float = 0.0
    device: str = ""
    failed: int = 0

    @property
    def warning(self) -> str:
        """What went wrong with tiles that were asked for, one line; empty where nothing did."""
        parts = []
        if self.unreadable:
            parts.append(f"{counted(self.unreadable, 'tile')} cannot be decoded: part of the file is damaged")
        if self.failed:
            parts.append(f"{counted(self.failed, 'tile')} could not be read this time (disk or network); run it again")
        return "; ".join(parts)

    @property
    def finished(self) -> int:
        """Tiles that are done and whose Grad-CAM is exact."""
        return self.done - self.approximate

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Progress:
        """Rebuild from what `as_json` gave, also by way of JSON."""
        return cls(**{**values, "blocks": tuple((row, column) for row, column in values["blocks"])})
