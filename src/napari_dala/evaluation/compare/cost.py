"""What a network costs for a tile: parameters, arithmetic, time and memory."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from napari_dala.training.networks.catalogue import build

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 8
"""Tiles in the larger of the two batches that are timed."""


@dataclass(frozen=True)
class Cost:
    """What a network costs on this machine's processor, in float32, for one tile.

    Attributes
    ----------
    parameters
        Trained numbers, each 4 bytes in float32.
    flops
        Floating point operations of a forward pass: two for each multiply-add of convolutions and matrix products;
        activations, norms and pooling do not count.
    latency_ms
        Of a forward pass of a single tile.
    latency_batch_ms
        The same in a batch of `BATCH`, divided by it.
    memory_mb, training_memory_mb
        The most that a tile's tensors, other than weights and input, hold at a time in a forward pass, 10^6 bytes:
        where the network only predicts, and where it learns and keeps what the backward pass needs. Counted from
        the shapes as PyTorch makes and frees tensors, so that it is the same on every machine; the libraries' scratch
        space comes on top.
    """

    parameters: int
    flops: int
    latency_ms: float
    latency_batch_ms: float
    memory_mb: float
    training_memory_mb: float


def costs(names: Sequence[str], num_classes: int, tile_px: int, *, repeats: int = 9) -> dict[str, Cost]:
    """Measure networks beside each other.

    Times are medians. The networks take turns, so that a machine that slows down does so for all of them; the first
    turn does not count. All are in memory at once.

    Parameters
    ----------
    names
        A `settings.Network`.
    num_classes
        Number of classes.
    tile_px
        Side of a tile in pixels.
    repeats
        Turns that count.

    Raises
    ------
    BundleError
        If there is no network of a name.
    """
    ready = {}
    with torch.random.fork_rng(devices=[]):
        for name in names:
            network = build(name, num_classes, tile_px=tile_px).eval()
            ready[name] = network.to(memory_format=torch.channels_last)
    seconds: dict[tuple[str, int], list[float]] = {(name, size): [] for name in names for size in (1, BATCH)}
    for _ in range(repeats + 1):
        for (name, size), taken in seconds.items():
            taken.append(_seconds(ready[name], _tiles(size, tile_px)))
    return {
        name: Cost(
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            flops=flops(name, num_classes, tile_px),
            latency_ms=round(median(seconds[name, 1][1:]) * 1000, 2),
            latency_batch_ms=round(median(seconds[name, BATCH][1:]) * 1000 / BATCH, 2),
            memory_mb=round(memory_bytes(name, num_classes, tile_px) / 1e6, 2),
            training_memory_mb=round(memory_bytes(name, num_classes, tile_px, training=True) / 1e6, 2),
        )
        for name, network in ready.items()
    }


def flops(name: str, num_classes: int, tile_px: int) -> int:
    """Return `Cost.flops` of a network, from the shapes alone."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(name, num_classes, tile_px=tile_px).eval()(_tiles(1, tile_px))
    return int(counter.get_total_flops())


def memory_bytes(name: str, num_classes: int, tile_px: int, *, training: bool = False) -> int:
    """Return the bytes that a tile's forward pass holds at most, from the shapes alone; see `Cost`.

    Parameters
    ----------
    name, num_classes, tile_px
        As given to `build`.
    training
        Keep what the backward pass needs.
    """
    size = BATCH if training else 1  # batch norm does not train on one
    with torch.device("meta"), torch.set_grad_enabled(training):
        network, tiles = build(name, num_classes, tile_px=tile_px).train(training), _tiles(size, tile_px)
        with _Alive() as alive:
            kept = network(tiles)
        del kept
    return int(alive.most) // size


def _tiles(count: int, tile_px: int) -> Tensor:
    return torch.ones(count, 3, tile_px, tile_px).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def _seconds(network: nn.Module, tiles: Tensor) -> float:
    start = time.perf_counter()
    network(tiles)
    return time.perf_counter() - start


class _Alive(TorchDispatchMode):
    """Adds up the storages that operations make, and takes off those that are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has not annotated it
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = _storages(result)
        for given in _storages((args, kwargs)):
            made.pop(given, None)
        for storage in made.values():
            self.now += storage.nbytes()
            weakref.finalize(storage, self._freed, storage.nbytes())
        self.most = max(self.most, self.now)
        return result

    def _freed(self, size: int) -> None:
        self.now -= size


def _storages(values: Any) -> dict[int, torch.UntypedStorage]:
    """Return the storages of the tensors among nested values, by identity."""
    found = (value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor))
    return {id(storage): storage for storage in found}
