"""What a network costs for a tile: parameters, arithmetic, time and memory."""

from __future__ import annotations

import time
import weakref
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from napari_dala.errors import JobError
from napari_dala.files import write_json
from napari_dala.inference.devices import choose_precision, devices
from napari_dala.training.networks.catalogue import build
from napari_dala.training.provenance import circumstances
from napari_dala.validation import read_as

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BATCH = 8
"""Tiles in the larger of the two batches that are timed."""
COSTS_FILE = "costs.json"
_STEPS = 2  # of training that are timed


class Cost(BaseModel):
    """What a network costs on one device, for one tile; predicting is in float32.

    Attributes
    ----------
    parameters
        Trained numbers.
    disk_mb
        Weights in a file of float32, 10^6 bytes; a bundle stores them in half of it.
    flops
        Floating point operations of a forward pass: two for each multiply-add of convolutions and matrix products;
        activations, norms and pooling do not count.
    latency_ms
        Of a forward pass of a single tile.
    latency_batch_ms
        The same in a batch of `BATCH`, divided by it.
    training_ms
        Of a step of Adam (forward, backward, update) on a batch of `BATCH`, divided by it, in the precision that
        `dala train` takes by itself.
    memory_mb, training_memory_mb
        The most that a tile's tensors, other than weights and input, hold at a time in a forward pass, 10^6 bytes:
        where the network only predicts, and where it learns and keeps what the backward pass needs. A batch holds as
        many times as much as it has tiles. Counted from the shapes as PyTorch makes and frees tensors, so that it is
        the same on every machine; the libraries' scratch space comes on top.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int
    disk_mb: float
    flops: int
    latency_ms: float
    latency_batch_ms: float
    training_ms: float
    memory_mb: float
    training_memory_mb: float


class Costs(BaseModel):
    """What networks cost, measured beside each other.

    Attributes
    ----------
    num_classes, tile_px
        What they were built for.
    machine
        Versions, threads and cores.
    of
        By device, then by network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_classes: int
    tile_px: int
    machine: dict[str, Any]
    of: dict[str, dict[str, Cost]]


def kept_costs(out: Path, names: Sequence[str], num_classes: int, tile_px: int) -> Costs:
    """Return what networks cost on the devices of this machine, measured once and kept in a folder's costs.json.

    What was measured in other circumstances (versions, threads, cores, tile) or without one of the networks is
    measured anew.

    Raises
    ------
    DalaError
        `JobError` if costs.json is damaged, `BundleError` if there is no network of a name.
    """
    path = out / COSTS_FILE
    if path.exists():
        kept = read_as(Costs, path, JobError)
        if (
            (kept.num_classes, kept.tile_px, kept.machine) == (num_classes, tile_px, circumstances())
            and set(kept.of) == {device["name"] for device in devices()}
            and all(set(names) <= set(of) for of in kept.of.values())
        ):
            of = {device: {name: found[name] for name in names} for device, found in kept.of.items()}
            return kept.model_copy(update={"of": of})
    found = {device["name"]: costs(names, num_classes, tile_px, device=device["name"]) for device in devices()}
    measured = Costs(num_classes=num_classes, tile_px=tile_px, machine=circumstances(), of=found)
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, measured.model_dump(mode="json"))
    return measured


def costs(
    names: Sequence[str], num_classes: int, tile_px: int, *, device: str = "cpu", repeats: int = 5
) -> dict[str, Cost]:
    """Measure networks beside each other on one device.

    Times are medians. The networks take turns, so that a machine that slows down does so for all of them; the first
    turn does not count. All are in memory at once, but where they learn.

    Parameters
    ----------
    names
        A `settings.Network`.
    num_classes
        Number of classes.
    tile_px
        Side of a tile in pixels.
    device
        Of torch.
    repeats
        Turns that count.

    Raises
    ------
    BundleError
        If there is no network of a name.
    """
    place = torch.device(device)
    ready = {}
    with torch.random.fork_rng(devices=[]):
        for name in names:
            network = build(name, num_classes, tile_px=tile_px).eval()
            # torch declares no overload of `to` with a device and a memory format
            ready[name] = network.to(memory_format=torch.channels_last, device=place)  # type: ignore[call-overload]
        seconds: dict[tuple[str, int], list[float]] = {(name, size): [] for name in names for size in (1, BATCH)}
        for _ in range(repeats + 1):
            for (name, size), taken in seconds.items():
                taken.append(_seconds(ready[name], _tiles(size, tile_px, place)))
        learning = {name: _learning_seconds(network, _tiles(BATCH, tile_px, place)) for name, network in ready.items()}
    return {
        name: Cost(
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            disk_mb=round(sum(tensor.nbytes for tensor in network.state_dict().values()) / 1e6, 1),
            flops=flops(name, num_classes, tile_px),
            latency_ms=round(median(seconds[name, 1][1:]) * 1000, 2),
            latency_batch_ms=round(median(seconds[name, BATCH][1:]) * 1000 / BATCH, 2),
            training_ms=round(learning[name] * 1000 / BATCH, 2),
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


def _tiles(count: int, tile_px: int, place: torch.device | None = None) -> Tensor:
    return torch.ones(count, 3, tile_px, tile_px, device=place).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def _seconds(network: nn.Module, tiles: Tensor) -> float:
    start = _now(tiles.device)
    network(tiles)
    return _now(tiles.device) - start


def _learning_seconds(network: nn.Module, tiles: Tensor) -> float:
    """Return the median time of a step of training; the network is of no use afterwards."""
    optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-6, fused=True)
    labels = torch.zeros(len(tiles), dtype=torch.long, device=tiles.device)
    bf16 = choose_precision("auto", tiles.device) == "bf16"
    taken = []
    for _ in range(_STEPS + 1):
        start = _now(tiles.device)
        with torch.autocast(tiles.device.type, torch.bfloat16, enabled=bf16):
            loss = cross_entropy(network(tiles), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(_now(tiles.device) - start)
    return median(taken[1:])


def _now(place: torch.device) -> float:
    """Return the time in seconds at which the device is done with everything."""
    getattr(torch, place.type).synchronize()
    return time.perf_counter()


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
