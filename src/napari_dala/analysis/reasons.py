"""Why a model says what it says of a tile: its strongest channels, from what is stored of it; no pixel is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_dala.errors import DalaError
from napari_dala.model.gradcam import channel_contributions
from napari_dala.results.chunks import DamagedChunk
from napari_dala.results.reasons import ChannelReason, TileReasons
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide.tiles import BLOCK

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dala.model.bundle_file import Bundle
    from napari_dala.results.store import AnalysisStore

MOST = 6
"""Channels that are told of a tile."""


@torch.no_grad()
def tile_reasons(store: AnalysisStore, bundle: Bundle, tile: tuple[int, int], class_index: int) -> TileReasons:
    """Return the channels that add most to a class's logit in a tile, or take most from it.

    Gates and contributions are those of the stored channel means (float16; the logit within 1e-2 of the network's).
    Where a channel responds is made from the stored projection of the trunk's map, and approximate.

    Parameters
    ----------
    store, bundle
        Results, and a bundle with the trunk and the head that made them.
    tile
        Row and column, analysed.
    class_index
        The class.

    Raises
    ------
    DalaError
        If the tile is not analysed, or what is stored of it is damaged; one line.
    """
    if store.status[tile] != TileStatus.DONE:
        raise DalaError("this tile is not analysed; analyse the slide first")
    block = tile[0] // BLOCK, tile[1] // BLOCK
    place = tile[0] % BLOCK, tile[1] % BLOCK
    with_map = store.has_layer4 and bundle.basis is not None
    try:
        means, *projected = (
            torch.from_numpy(np.asarray(store.read(name, block)[place])).float()
            for name in ("features", "layer4")[: 1 + with_map]
        )
    except DamagedChunk as damaged:
        raise DalaError(f"{damaged}; analyse the slide again") from damaged
    logits, added = channel_contributions(bundle.network, means[None], [class_index])
    contributions = added[0, 0]
    gains = 1 + bundle.network.attention.gains(means[None])[0]
    absolute = contributions.abs()
    strongest = absolute.argsort(descending=True)[:MOST]
    shares = absolute / absolute.sum().clamp_min(torch.finfo(torch.float32).tiny)
    maps: list[tuple[tuple[float, ...], ...]] = [()] * len(strongest)
    if projected and bundle.basis is not None:
        maps = [tuple(map(tuple, one)) for one in _activity(projected[0], means, bundle.basis, strongest).tolist()]
    return TileReasons(
        float(logits[0, class_index]),
        tuple(
            ChannelReason(number, float(gains[number]), float(contributions[number]), float(shares[number]), activity)
            for number, activity in zip(strongest.tolist(), maps, strict=True)
        ),
        len(contributions),
    )


def _activity(projected: Tensor, means: Tensor, basis: Tensor, channels: Tensor) -> Tensor:
    """Return maps (n, h, w) of some channels from the map's projection (h, w, components).

    What the basis leaves out is spread evenly, as in `rescore.approximate_cam`: a map's mean is the exact one.
    """
    maps = torch.einsum("yxb,nb->nyx", projected, basis.float()[channels])
    return maps + means[channels][:, None, None] - maps.mean((1, 2), keepdim=True)
