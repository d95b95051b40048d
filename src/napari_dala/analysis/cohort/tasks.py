"""What a worker of a cluster does with a slide: plan it, run ranges of its tiles, write its outputs.

Whatever is sent to a worker has no printable content: dask's logs and dashboard then show no file's name. For the same
reason what is wrong with one slide comes back as a value, `Failure`; only what is wrong with the worker is raised.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from distributed import get_worker

from napari_dala import __version__
from napari_dala.analysis.engine import run_network
from napari_dala.analysis.plan import Work, prepare
from napari_dala.errors import ClusterError, DalaError, SlideError
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import load_model
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import open_store
from napari_dala.results.progress import pace
from napari_dala.results.report.outputs import output_folder, write_outputs
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.results.request import AnalysisRequest
    from napari_dala.slide import Slide

P = ParamSpec("P")
T = TypeVar("T")
_ONE_AT_A_TIME = threading.Lock()  # a worker's threads are the network's: two tasks at once would share them


@dataclass(frozen=True, repr=False)
class CohortSettings:
    """How all slides of a cohort are analysed; paths are absolute and the same on every machine.

    Attributes
    ----------
    request
        What is asked for each; its model is a path or a built-in name, its `out` has one folder a slide.
    bundle_hash
        What the model must hold.
    batches
        Full batches of the network in a range of tiles, at least about.
    version
        Of napari-dala, which every worker must have.
    """

    request: AnalysisRequest
    bundle_hash: str
    batches: int = 16
    version: str = __version__


@dataclass(frozen=True, repr=False)
class SlideJob:
    """One slide of a cohort."""

    path: Path
    settings: CohortSettings


@dataclass(frozen=True, repr=False)
class Plan:
    """What the planning of a slide gave.

    Attributes
    ----------
    folder
        With the store.
    fingerprint
        Of the slide that was planned.
    setting
        Key of its group in the store.
    device, precision
        Those of the worker.
    tiles, todo
        How many are asked for, and how many of them the network must run on.
    """

    folder: Path
    fingerprint: str
    setting: str
    device: str
    precision: str
    tiles: int
    todo: int


@dataclass(frozen=True, repr=False)
class TileRange:
    """Tiles of a slide for one task, in squares that are whole chunks of the store: no two tasks write to one.

    Attributes
    ----------
    tissue, wanted
        (n, 2) row and column of the tiles in these blocks that hold tissue, and of those asked for.
    todo
        How many the network must run on.
    """

    tissue: NDArray[np.int32]
    wanted: NDArray[np.int32]
    todo: int


@dataclass(frozen=True)
class RangeDone:
    """What came of a range: tiles that were run, tiles an earlier attempt had stored, and the time it took.

    `failed` tiles are among those that were run: the file system would not give them.
    """

    tiles: int
    kept: int
    seconds: float
    failed: int = 0


@dataclass(frozen=True, repr=False)
class Failure:
    """Why a slide cannot be done, one line."""

    message: str


def _on_a_slide(task: Callable[Concatenate[SlideJob, P], T]) -> Callable[Concatenate[SlideJob, P], T | Failure]:
    """Run a task alone in its process; return what is wrong with the slide instead of raising it."""

    @wraps(task)
    def run(job: SlideJob, /, *args: P.args, **kwargs: P.kwargs) -> T | Failure:
        with _ONE_AT_A_TIME:
            try:
                return task(job, *args, **kwargs)
            except ClusterError:
                raise
            except (DalaError, OSError) as error:
                return Failure(str(error))
            except Exception as error:  # its text may name the file
                return Failure(f"{job.path.name}: {type(error).__name__}: {error}; analyse it alone to see where")

    return run


def settle_precision(settings: CohortSettings) -> str:
    """Return what the precision comes to on this worker, which all others then use; ClusterError if it does not fit."""
    with _ONE_AT_A_TIME:
        return predictor_for(settings).precision


@_on_a_slide
def plan_slide(job: SlideJob, workers: int = 1) -> tuple[Plan, list[TileRange]]:
    """Make the store, find the tissue, and divide what is to be done among about so many workers."""
    settings = job.settings
    predictor = predictor_for(settings)
    with _opened(job) as slide:
        assert settings.request.out is not None
        folder = output_folder(settings.request.out, slide, anonymous=settings.request.anonymous)
        work = prepare(slide, predictor, settings.request.model_copy(update={"out": folder}))
        plan = Plan(
            folder,
            slide.fingerprint,
            work.store.setting.key,
            str(predictor.device),
            predictor.precision,
            int(work.wanted.sum()),
            int(work.todo.sum()),
        )
    return plan, list(tile_ranges(work, settings.batches * predictor.batch_size, workers))


@_on_a_slide
def run_range(job: SlideJob, plan: Plan, tiles: TileRange) -> RangeDone:
    """Run the network on those tiles of a range that are not stored yet."""
    start = time.perf_counter()
    predictor = predictor_for(job.settings)
    store = open_store(plan.folder / "analysis.zarr", job.settings.bundle_hash, plan.setting, mode="r+")
    tissue, wanted = np.zeros((2, *store.grid.shape), bool)
    tissue[tuple(tiles.tissue.T)] = True
    wanted[tuple(tiles.wanted.T)] = True
    blocks = np.unique(tiles.wanted // BLOCK, axis=0)
    work = Work.on(store, tissue, wanted, [(int(row), int(column)) for row, column in blocks])
    todo, failed = int(work.todo.sum()), [0]
    with _opened(job) as slide:
        if slide.fingerprint != plan.fingerprint:
            raise SlideError(f"{slide.name}: the file has changed, or is another one on another machine")
        run_network(slide, predictor, work, job.settings.request, lambda progress: failed.append(progress.failed))
    return RangeDone(todo, tiles.todo - todo, time.perf_counter() - start, failed[-1])


@_on_a_slide
def write_slide(job: SlideJob, plan: Plan, done: list[RangeDone]) -> Path:
    """Write the tables, pictures and the report of a slide; return their folder."""
    seconds, new = sum(part.seconds for part in done), sum(part.tiles for part in done)
    rate, _ = pace(new, 0, seconds)  # of one worker; the seconds are all workers'
    run = job.settings.request.record(
        plan.device, plan.precision, tiles=plan.tiles, tiles_per_s=rate, seconds=seconds
    ) | {"ranges": len(done)}
    store = open_store(plan.folder / "analysis.zarr", job.settings.bundle_hash, plan.setting)
    asked = job.settings.request
    with _opened(job) as slide:
        analysis = Analysis(store, doubt=asked.doubt)
        write_outputs(analysis, slide, plan.folder, run, anonymous=asked.anonymous, maps=asked.maps)
    return plan.folder


def tile_ranges(work: Work, least: int, workers: int = 1) -> Iterator[TileRange]:
    """Divide what is to be done into ranges of whole chunks, large ones first and small ones for the end.

    Each begins and ends with a network that waits; a large one at the end would keep the other workers waiting. So a
    range has half of what is left for one of the workers, from `least` tiles to four times that.
    """
    side = work.store.chunk
    rows, columns = (-(-length // side) for length in work.store.grid.shape)
    row, column = np.nonzero(work.todo)
    blocks, counts = np.unique(row // side * columns + column // side, return_counts=True)
    range_of = np.full(rows * columns, -1)
    sizes = [0]
    left = int(counts.sum())
    for index in np.argsort(-counts, kind="stable"):
        if sizes[-1] and sizes[-1] + counts[index] > np.clip(left / (2 * workers), least, 4 * least):
            left -= sizes[-1]
            sizes.append(0)
        range_of[blocks[index]] = len(sizes) - 1
        sizes[-1] += int(counts[index])
    of_tile = range_of.reshape(rows, columns).repeat(side, 0).repeat(side, 1)[tuple(map(slice, work.tissue.shape))]
    for number, todo in enumerate(sizes):
        here = of_tile == number
        tissue, wanted = (np.argwhere(mask & here).astype(np.int32) for mask in (work.tissue, work.wanted))
        if todo:
            yield TileRange(tissue, wanted, todo)


def predictor_for(settings: CohortSettings) -> Predictor:
    """Return the model, kept ready in this process, under as many of torch's threads as the worker has.

    Raises
    ------
    ClusterError
        If this worker has another napari-dala, another model, or not the device.
    """
    worker = get_worker()
    torch.set_num_threads(worker.state.nthreads)  # of this thread of the worker's
    if settings.version != __version__:
        raise ClusterError(
            f"worker {worker.address} has napari-dala {__version__}, not {settings.version}; install the same on both"
        )
    device = device_of(worker.name, settings.request.device, torch.cuda.device_count())
    try:
        return _predictor(settings.request.model, settings.bundle_hash, device, settings.request.precision)
    except (DalaError, OSError) as error:
        raise ClusterError(f"worker {worker.address}: {error}") from None


def device_of(worker_name: object, device: str, gpus: int) -> str:
    """Return the device of a worker: those that are numbered, as a local cluster's are, share out several GPUs."""
    if device == "auto" and gpus > 1 and isinstance(worker_name, int):
        return f"cuda:{worker_name % gpus}"
    return device


@lru_cache(maxsize=1)
def _predictor(model: str, bundle_hash: str, device: str, precision: str) -> Predictor:
    bundle = load_model(model)
    if bundle.hash != bundle_hash:
        raise DalaError(f"model {model} is another one there; give all machines the same file")
    return Predictor(bundle, device, precision)


def _opened(job: SlideJob) -> AbstractContextManager[Slide]:
    asked = job.settings.request
    return open_slide(job.path, mpp=asked.mpp, icc_profile=asked.icc_profile)
