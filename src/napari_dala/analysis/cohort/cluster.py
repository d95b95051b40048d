"""The cluster that a cohort runs on: one of this machine's own, or one that is there."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from napari_dala.errors import ClusterError

try:
    from dask.config import set as configured
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster
except ModuleNotFoundError as error:
    raise ClusterError("a scheduler needs dask.distributed: pip install 'napari-dala[cluster]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "local"
# Set by dask's nanny, it gives memory back to the system after every layer of the network: half as much time again.
_MALLOC = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
_WORKER_BYTES = 2 << 30  # of memory for a worker on the processor: with the built-in model it held 1.5 GB


@contextmanager
def connected(scheduler: str, device: str = "auto") -> Iterator[Client]:
    """Connect to a cluster.

    Parameters
    ----------
    scheduler
        "local" for worker processes on this machine, for as long as the context lasts; or a scheduler's address, or
        the JSON file that it wrote (`dask scheduler --scheduler-file`).
    device
        What local workers are to run on.

    Raises
    ------
    ClusterError
        When no scheduler answers there.
    """
    if scheduler == LOCAL:
        options = {
            "n_workers": local_workers(device),
            "threads_per_worker": 1,
            "memory_limit": None,  # dask would pause or kill a worker for the memory that the network takes
            "dashboard_address": None,
            "silence_logs": logging.CRITICAL,  # a lost worker is replaced, one that ends slowly is killed: no news
        }
        with configured({_MALLOC: None}), LocalCluster(**options) as cluster, Client(cluster) as client:
            yield client
        return
    is_file = scheduler.endswith(".json")
    if is_file and not Path(scheduler).is_file():
        raise ClusterError(f"{scheduler}: no such file; `dask scheduler --scheduler-file` writes it")
    try:
        client = Client(scheduler_file=scheduler) if is_file else Client(scheduler)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no scheduler answers at {scheduler}: {error}") from error
    with client:
        yield client


def local_workers(device: str) -> int:
    """Return how many workers this machine takes: one a GPU, else one a core as far as the memory goes."""
    gpus = torch.cuda.device_count()
    if device == "auto" and gpus:
        return gpus
    if device in ("auto", "cpu"):
        return max(1, min(int(CPU_COUNT), int(psutil.virtual_memory().available) // _WORKER_BYTES))
    return 1
