"""Modes deep and full: layers of the trunk learn too, run by Lightning.

*Deep* trains layer4, attention and head on what layer3 gives for each tile, computed once by the parent and kept in
the job's folder until the job is done. Batch norm keeps the parent's statistics; its gains and offsets in layer4
learn with the rest. Tiles are not augmented: the map of a turned tile is not the turned map.

*Full* trains all layers from the tiles' pixels, augmented, with batch norm in training mode.

Both weigh the classes so that they count alike and draw the weights back to the parent's (`penalty`).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from napari_dala.inference.devices import choose_device
from napari_dala.model.bundle import ModelBundle
from napari_dala.model.head import HeadNetwork
from napari_dala.training.finetune.quick import widened
from napari_dala.training.finetune.tile_rows import CachedTiles, RowFile, tile_rows
from napari_dala.training.learner import Learner, Stopped
from napari_dala.training.photographs.augment import for_tiles
from napari_dala.training.run_epochs import Record, best_weights, last_checkpoint, run_epochs
from napari_dala.training.settings import TrainSettings
from napari_dala.training.statistics import balanced, statistics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

    from napari_dala.datasets.splits import Split
    from napari_dala.model.trunks.network import TrunkNetwork
    from napari_dala.training.epochs import Epoch
    from napari_dala.training.finetune.gather import LabelledTiles
    from napari_dala.training.finetune.job import FinetuneSettings
    from napari_dala.training.finetune.tile_rows import Kind

NOTES = (
    "the layers that look at the tissue changed, so that nothing of what the model learned from before could be shown "
    "again: it was only kept from moving far from the model before",
    "what is stored for later training (basis, replayed features) is of this model's training tiles alone",
)
"""What the reader of such a model's figures must be told."""

_RECIPE = {"epochs", "batch_size", "lr", "seed", "precision"}  # what the settings share with those of `dala train`
_STEP = 8  # tiles at a time, where nothing is learned


@dataclass(frozen=True, eq=False)
class Fitted:
    """What came of a training.

    Attributes
    ----------
    bundle
        The new model.
    epoch_kept
        The epoch, from 1, whose weights it has: the one with the lowest loss on the held-out tiles; None where none are
        held out and the last one's were kept.
    """

    bundle: ModelBundle
    epoch_kept: int | None


class AfterLayer3(HeadNetwork):
    """Layer4, attention and head of a network, which are trained in place; batch norm keeps its statistics.

    Parameters
    ----------
    network
        The whole.
    """

    def __init__(self, network: TrunkNetwork) -> None:
        super().__init__(network.num_classes, channels=network.channels)
        trunk: Any = network.trunk
        self.layer4, self.attention, self.head = trunk[-1], network.attention, network.head

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits (n, C) for layer3's maps (n, 1024, h, w)."""
        return self.head_from_means(self.layer4(maps).mean((2, 3)))

    def train(self, mode: bool = True) -> Self:
        """Put attention and head into training mode, but never the batch norms of layer4."""
        super().train(mode)
        self.layer4.eval()
        return self


def fit_layers(
    bundle: ModelBundle,
    tiles: LabelledTiles,
    split: Split,
    settings: FinetuneSettings,
    folder: Path,
    *,
    on_epoch: Callable[[Epoch], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Fitted | None:
    """Train layers of the trunk on labelled tiles; begun or resumed, as the folder says.

    Parameters
    ----------
    bundle
        The parent; left as it is.
    tiles
        All of which can be decoded.
    split
        Which of them to learn from and which to judge on after each epoch.
    settings
        Mode ("deep" or "full"), epochs, rate, penalty and so on; what is None is the mode's own.
    folder
        Of the job: metrics.csv, and checkpoints/ with last.ckpt, from which an interrupted training goes on at the
        beginning of the epoch that was interrupted; on the processor, with as many threads, to the same result.
    on_epoch
        Told each epoch.
    should_stop
        Asked before each batch; while it does not answer, training is paused.

    Returns
    -------
    Fitted or None
        Its bundle is rounded as it will be stored, with its own basis and replay, without familiarity, under the
        parent's card with the new classes, temperature 1 and the parent's hash; see `NOTES`. None where it was stopped.

    Raises
    ------
    DalaError
        If a tile cannot be read, the disk is full, or the loss is not finite.
    """
    settings = settings.with_defaults()
    checkpoints = last_checkpoint(folder).parent
    used = np.concatenate([split.train, split.test])
    kind: Kind = "layer3" if settings.mode == "deep" else "pixels"
    try:
        file = tile_rows(checkpoints, kind, bundle, tiles, used, settings, should_stop)
        with RowFile(file) as rows:
            source = CachedTiles(
                rows,
                tiles.examples.label[used],
                len(tiles.classes),
                len(split.train),
                _maps if kind == "layer3" else bundle.normalize,
                None if kind == "layer3" else for_tiles(bundle.card.tile_px),
            )
            network, kept = _trained(bundle.network, source, settings, folder, on_epoch, should_stop)
            card = bundle.card.model_copy(
                update={"classes": tiles.classes, "temperature": 1.0, "parent": bundle.hash, "trained": True}
            )
            child = ModelBundle(network, card).as_stored()
            trunk: Any = child.network.trunk
            maps = _maps_of(trunk[-1:] if kind == "layer3" else trunk, source, settings.seed)
            basis, replay = statistics_of(maps, settings.seed)
    except Stopped:
        return None
    file.unlink()
    return Fitted(replace(child, basis=basis, replay=replay).as_stored(), kept)


def _trained(
    parent: TrunkNetwork,
    source: CachedTiles,
    settings: FinetuneSettings,
    folder: Path,
    on_epoch: Callable[[Epoch], object] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[TrunkNetwork, int | None]:
    """Return the network that comes of a parent, on the processor, and which epoch's it is."""
    assert settings.penalty is not None
    network = copy.deepcopy(parent)
    wider = widened(parent, source.classes)
    network.attention, network.head, network.num_classes = wider.attention, wider.head, source.classes
    part = AfterLayer3(network) if settings.mode == "deep" else network
    recipe = TrainSettings(balance="loss", averaging=0, **settings.model_dump(include=_RECIPE))
    device, last = choose_device(settings.device), last_checkpoint(folder)
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it was
        learner = Learner(part, source, recipe, penalty=settings.penalty, should_stop=should_stop)
        record = Record(folder, None, on_epoch, keep_best=learner.judges)
        run_epochs(learner, record, recipe, device, last if last.exists() else None)
    part.cpu()
    kept = None
    if learner.judges and best_weights(folder).exists():  # a job that an older version began may have none
        load_model(part, best_weights(folder), device="cpu")
        kept = record.best + 1
    return network.cpu().to(memory_format=torch.contiguous_format).eval(), kept


def _maps(rows: Tensor) -> Tensor:
    """Return layer3's maps as layer4 takes them, (n, 1024, h, w) float32, for rows of the cache."""
    return rows.permute(0, 3, 1, 2).float()


@torch.no_grad()
def _maps_of(trunk: nn.Module, source: CachedTiles, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the trunk's maps of some of the tiles that were learned from, and their labels."""
    shown = balanced(source.labels, seed=seed)
    for start in range(0, len(shown), _STEP):
        here = shown[start : start + _STEP]
        rows = torch.stack([source.row(index) for index in here.tolist()])
        yield trunk(source.inputs(rows)), torch.from_numpy(source.labels[here])
