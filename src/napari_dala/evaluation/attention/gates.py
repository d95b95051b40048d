"""A bundle's attention on photographs that it never saw: its gates, what each channel adds, what replacing them does.

After the trunk the network needs a tile's channel means z alone: a = sigmoid(W z + b) are the gates, v = z (1 + a) goes
into the head. So each tile runs through the trunk once, and everything else is exact arithmetic on its means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader

from napari_dala.evaluation.photographs import fitting, patients_seen_before
from napari_dala.inference.devices import choose_device
from napari_dala.metrics.scores import class_differences
from napari_dala.model.gradcam import channel_contributions
from napari_dala.training.photographs.squares import FixedSquares, TileLogits
from napari_dala.training.views import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.metrics.scores import Estimate
    from napari_dala.model.bundle import ModelBundle
    from napari_dala.model.head import HeadNetwork
    from napari_dala.training.photographs.squares import Squares

    Floats: TypeAlias = NDArray[np.float32]

AS_TRAINED, MEAN_GATE, ONE_NUMBER, OFF = (
    "as trained",
    "each gate its mean",
    "one number for all channels",
    "off (a = 0)",
)
VARIANTS = (AS_TRAINED, MEAN_GATE, ONE_NUMBER, OFF)
"""What stands in for the gates: themselves, their means over tiles, the mean of these over channels, nothing."""

MOST_CHANNELS, MOST_TILES = 10, 5


@dataclass(frozen=True)
class DrivingTile:
    """One of the tiles to which a channel adds most.

    Attributes
    ----------
    image
        Index of the photograph in the data set.
    square
        Number of its square, from 1, row by row, and how many it has.
    contribution
        To the target class's logit.
    gate
        a of this channel and tile.
    """

    image: int
    square: tuple[int, int]
    contribution: float
    gate: float


@dataclass(frozen=True, eq=False)
class BundleGates:
    """What a bundle's attention does on photographs of patients that it never saw.

    Attributes
    ----------
    name, bundle_hash
        The bundle's.
    indices
        The photographs, by their places in the data set.
    target
        The class that the bundle looks for.
    tiles
        How many squares they have.
    tile_labels
        (tiles,) class of each.
    gates
        (tiles, C) a, in (0, 1).
    by_class
        (classes, C) mean gate over the tiles of a class; NaN where there are none.
    differences
        Of each channel, its mean gate in malignant, or whatever the last class is, less that in the first one, with an
        interval by patient. Empty unless there are two classes, both here.
    contributions
        (classes, C) mean over all tiles of what a channel adds to a class's logit.
    shares
        (classes, C) a channel's part of all that channels add or take, adding to 1.
    driving
        For the channels of the largest shares in the target's logit, largest first: the tiles to which they add most.
    probabilities
        By variant: (n, classes) of the photographs, at temperature 1, classes in the data set's order.
    mean_of_training
        Whether the mean gate is that of stored training features rather than of these tiles.
    notes
        What the reader must be told, a sentence each.
    """

    name: str
    bundle_hash: str
    indices: NDArray[np.intp]
    target: int
    tiles: int
    tile_labels: NDArray[np.intp]
    gates: Floats
    by_class: Floats
    differences: tuple[Estimate, ...]
    contributions: Floats
    shares: Floats
    driving: dict[int, tuple[DrivingTile, ...]]
    probabilities: dict[str, NDArray[np.float64]]
    mean_of_training: bool
    notes: tuple[str, ...]

    @property
    def half(self) -> tuple[int, ...]:
        """By class: how many channels, the largest shares first, make up half of all that channels add or take."""
        ordered = np.sort(self.shares, axis=1)[:, ::-1].cumsum(1)
        return tuple(int(count) + 1 for count in (ordered < 0.5).sum(1))


def gates_of(
    bundle: ModelBundle,
    dataset: ImageDataset,
    indices: NDArray[np.intp],
    *,
    device: str = "auto",
    n_boot: int = 2000,
    on_progress: Callable[[int, int], object] | None = None,
) -> BundleGates:
    """Look at a bundle's gates on some photographs, read at its own resolution and tile size, in float32.

    Parameters
    ----------
    bundle
        Its classes must be the data set's, in any order and case.
    dataset, indices
        The photographs, and which of them.
    device
        "auto" or a torch device.
    n_boot
        Draws of patients for the intervals.
    on_progress
        Told how many of how many photographs are done.

    Raises
    ------
    DatasetError
        If the classes differ or a photograph cannot be read.
    """
    card = bundle.card
    squares, order, notes = fitting(card, dataset)
    notes += [note for note in (card.warning, patients_seen_before(card.training, dataset, indices)) if note]
    means, counts = _channel_means(bundle, dataset, indices, squares, device, on_progress)
    network = bundle.network.cpu()
    with torch.inference_mode():
        gates = network.attention.gains(means)
        _, added = channel_contributions(network, means, order)
        trained = None if bundle.replay is None else network.attention.gains(bundle.replay.features.float())
        logits = _by_variant(network, means, gates, gates if trained is None else trained)
    labels, photograph = np.repeat(dataset.labels[indices], counts), np.repeat(indices, counts)
    contributions, absolute = added.mean(0).numpy(), added.abs().mean(0).numpy()
    shares = absolute / np.maximum(absolute.sum(1, keepdims=True), np.finfo(np.float32).tiny)
    values = gates.numpy()
    classes = range(len(dataset.classes))
    there = [(labels == number).any() for number in classes]
    target = order.index(card.target_class)
    groups = dataset.patients[photograph] if dataset.patients_known else photograph
    return BundleGates(
        name=card.name,
        bundle_hash=bundle.hash,
        indices=indices,
        target=target,
        tiles=len(values),
        tile_labels=labels,
        gates=values,
        by_class=np.stack(
            [values[labels == k].mean(0) if there[k] else np.full(values.shape[1], np.nan) for k in classes]
        ),
        differences=tuple(class_differences(values, labels, groups, n_boot=n_boot))
        if len(there) == 2 and all(there)
        else (),
        contributions=contributions,
        shares=shares,
        driving=_driving(added[:, target].numpy(), values, shares[target], photograph, counts),
        probabilities={
            name: TileLogits(one.double().numpy(), counts).of_photographs()[:, order] for name, one in logits.items()
        },
        mean_of_training=trained is not None,
        notes=tuple(notes),
    )


@torch.inference_mode()
def _channel_means(
    bundle: ModelBundle,
    dataset: ImageDataset,
    indices: NDArray[np.intp],
    squares: Squares,
    device: str,
    on_progress: Callable[[int, int], object] | None,
) -> tuple[Tensor, NDArray[np.intp]]:
    """Return the channel means of the trunk's map of all squares, (tiles, C), and how many each photograph has."""
    place = choose_device(device)
    network = bundle.network.to(place)
    found, counts = [], []
    for tiles, of_each, _ in DataLoader(FixedSquares(dataset, indices, squares), 8, collate_fn=joined):
        found.append(network.features(squares.normalize(tiles.to(place))).float().mean((2, 3)).cpu())
        counts.append(of_each)
        if on_progress:
            on_progress(sum(map(len, counts)), len(indices))
    return torch.cat(found), torch.cat(counts).numpy().astype(np.intp)


def _by_variant(network: HeadNetwork, means: Tensor, gates: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Return the logits (tiles, classes) of each of `VARIANTS`; `known` are the gates (n, C) whose mean stands in."""
    mean = known.mean(0)
    stand_ins = (gates, mean, mean.mean(), torch.zeros_like(mean))
    return {name: network.head(means * (1 + one)) for name, one in zip(VARIANTS, stand_ins, strict=True)}


def _driving(
    added: Floats, gates: Floats, shares: Floats, photograph: NDArray[np.intp], counts: NDArray[np.intp]
) -> dict[int, tuple[DrivingTile, ...]]:
    """Return, for the strongest channels, the tiles (rows of `added`, (tiles, C)) to which each adds most."""
    of_photograph = np.repeat(counts, counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return {
        channel: tuple(
            DrivingTile(
                int(photograph[tile]),
                (int(tile - first[tile]) + 1, int(of_photograph[tile])),
                float(added[tile, channel]),
                float(gates[tile, channel]),
            )
            for tile in np.argsort(-added[:, channel], kind="stable")[:MOST_TILES].tolist()
        )
        for channel in np.argsort(-shares, kind="stable")[:MOST_CHANNELS].tolist()
    }
