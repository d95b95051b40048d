"""What a tile's strongest channels are, as the process that computes it tells the one that shows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class ChannelReason:
    """One channel of the trunk's map in a tile.

    Attributes
    ----------
    channel
        Its number, from 0.
    gain
        1 + a, by which the attention multiplies the channel in this tile: 1 to 2.
    contribution
        What it adds to the class's logit: d logit / d v times v, v its mean after the attention. May be negative.
    share
        Of all that channels add or take, 0 to 1.
    activity
        (h, w) how strongly it responds where, in the trunk's units, from the stored projection: approximate. Empty
        where no projection is stored.
    """

    channel: int
    gain: float
    contribution: float
    share: float
    activity: tuple[tuple[float, ...], ...]

    @property
    def shown(self) -> NDArray[np.float32]:
        """Its activity as a picture, (h, w) float32 from 0 to 1 by its own maximum; (0,) where there is none."""
        values = np.maximum(np.asarray(self.activity, np.float32), 0)
        return values / values.max() if values.any() else values


@dataclass(frozen=True)
class TileReasons:
    """Why a model says what it says of a tile.

    Attributes
    ----------
    logit
        Of the class asked for.
    channels
        The strongest ones, those that add or take most first.
    of
        How many channels there are.
    """

    logit: float
    channels: tuple[ChannelReason, ...]
    of: int

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TileReasons:
        """Rebuild from `as_json`."""
        channels = (
            ChannelReason(**{**one, "activity": tuple(map(tuple, one["activity"]))}) for one in values["channels"]
        )
        return cls(values["logit"], tuple(channels), values["of"])
