"""Many slides on a dask cluster: the planning of a slide, each range of its tiles and its outputs are tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed import CancelledError, KilledWorker, as_completed

from napari_dala.analysis.cohort.tasks import (
    CohortSettings,
    Failure,
    Plan,
    RangeDone,
    SlideJob,
    plan_slide,
    run_range,
    settle_precision,
    write_slide,
)
from napari_dala.errors import ClusterError
from napari_dala.results.progress import pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client, Future


@dataclass(frozen=True)
class CohortProgress:
    """How far a cohort is.

    Attributes
    ----------
    finished, failed, slides
        Slides whose outputs are written, that cannot be done, and all.
    done, total
        Tiles, those of earlier runs counted in; of the slides planned so far.
    tiles_per_s
        Mean rate of this run, of all workers together; 0 before its first tile.
    seconds_left
        Until every tile is done, estimated from that rate; None before every slide is planned.
    """

    finished: int
    failed: int
    slides: int
    done: int
    total: int
    tiles_per_s: float
    seconds_left: float | None


@dataclass(frozen=True)
class SlideDone:
    """A slide whose outputs are written: what was planned, and what came of each range, in the order they ended."""

    plan: Plan
    ranges: tuple[RangeDone, ...]


def analyze_cohort(
    client: Client,
    slides: Sequence[Path],
    settings: CohortSettings,
    on_progress: Callable[[CohortProgress], object] | None = None,
) -> list[SlideDone | Failure]:
    """Analyse slides on the workers of a cluster; what an earlier run stored is not done again.

    All slides are planned first. A range whose worker is lost is given to another one, which goes on from what is
    stored. When this is interrupted, what has not begun is cancelled and what is stored is kept.

    Parameters
    ----------
    client
        Connected to the cluster (`cluster.connected`).
    slides
        Absolute paths that mean the same on every machine, each once.
    settings
        For all of them.
    on_progress
        Called at each step.

    Returns
    -------
    What was done of each slide, or why it cannot be done; in the order of `slides`.

    Raises
    ------
    ClusterError
        When the scheduler is lost, or a worker does not fit: another napari-dala, another model, no such device.
    """
    return _Cohort(client, slides, settings, on_progress).run()


@dataclass
class _SlideState:
    """How far a slide is: its plan, what is left to run, what was run, and how it ended."""

    number: int
    path: Path
    tasks: int = 0
    plan: Plan | None = None
    running: set[Future[Any]] = field(default_factory=set)
    done: list[RangeDone] = field(default_factory=list)
    end: SlideDone | Failure | None = None


class _Cohort:
    """Submits tasks and follows them to their end."""

    def __init__(
        self,
        client: Client,
        slides: Sequence[Path],
        settings: CohortSettings,
        on_progress: Callable[[CohortProgress], object] | None,
    ) -> None:
        self._client, self._settings, self._on_progress = client, settings, on_progress
        self._run_id = uuid4().hex
        self._slides = [_SlideState(number, path) for number, path in enumerate(slides)]
        self._of: dict[Future[Any], _SlideState] = {}
        self._start = time.perf_counter()

    def run(self) -> list[SlideDone | Failure]:
        first = self._client.submit(settle_precision, self._settings, key=f"dala-begin-{self._run_id}")
        try:
            settled = self._settings.request.model_copy(update={"precision": _result(first)})
            self._settings = replace(self._settings, request=settled)
        except KilledWorker as error:
            raise ClusterError("workers die when they load the model; see their memory and their logs") from error
        workers = max(1, len(self._client.ncores()))
        for slide in self._slides:
            self._submit(slide, plan_slide, workers)
        self._report()
        following = as_completed(list(self._of))
        try:
            for future in following:
                slide = self._of.pop(future)
                slide.running.discard(future)
                if slide.end is None:
                    following.update(self._next(slide, future))
                    self._report()
        finally:
            self._client.cancel(list(self._of))
        return [slide.end for slide in self._slides if slide.end is not None]

    def _next(self, slide: _SlideState, future: Future[Any]) -> list[Future[Any]]:
        """Take what a task gave; return the tasks that follow from it."""
        try:
            found = _result(future)
        except KilledWorker as error:
            deaths = error.allowed_failures + 1
            found = Failure(f"{slide.path.name}: {deaths} workers died at it; see their memory and their logs")
        if isinstance(found, Failure):
            slide.end = found
            self._client.cancel(list(slide.running))
            return []
        if isinstance(found, Path):
            assert slide.plan is not None
            slide.end = SlideDone(slide.plan, tuple(slide.done))
            return []
        if isinstance(found, RangeDone):
            slide.done.append(found)
        else:
            slide.plan, ranges = found
            for tiles in ranges:
                self._submit(slide, run_range, slide.plan, tiles)
            if ranges:
                return list(slide.running)
        return [] if slide.running else [self._submit(slide, write_slide, slide.plan, slide.done, priority=1)]

    def _submit(
        self, slide: _SlideState, task: Callable[..., object], *arguments: object, priority: int = 0
    ) -> Future[Any]:
        job = SlideJob(slide.path, self._settings)
        # What the dashboard and the logs show: it tells nothing of a slide but its place in the cohort.
        key = f"dala-{task.__name__.replace('_', '-')}-{self._run_id}-{slide.number}-{slide.tasks}"
        future = self._client.submit(task, job, *arguments, key=key, pure=False, priority=priority)
        slide.tasks += 1
        slide.running.add(future)
        self._of[future] = slide
        return future

    def _report(self) -> None:
        if self._on_progress is None:
            return
        planned = [(slide.plan, slide) for slide in self._slides if slide.plan is not None]
        failed = sum(isinstance(slide.end, Failure) for slide in self._slides)
        total, todo = sum(plan.tiles for plan, _ in planned), sum(plan.todo for plan, _ in planned)
        run = [part for _, slide in planned for part in slide.done]
        settled = sum(part.tiles + part.kept for part in run)
        new = sum(part.tiles for part in run)
        rate, left = pace(new, todo - settled, time.perf_counter() - self._start)
        known = all(slide.plan or slide.end for slide in self._slides)
        self._on_progress(
            CohortProgress(
                finished=sum(isinstance(slide.end, SlideDone) for slide in self._slides),
                failed=failed,
                slides=len(self._slides),
                done=total - todo + settled,
                total=total,
                tiles_per_s=rate,
                seconds_left=left if known else None,
            )
        )


def _result(future: Future[Any]) -> Any:
    """Return what a task gave; raise ClusterError, or KilledWorker when too many workers died at it."""
    try:
        return future.result()
    except (ClusterError, KilledWorker):
        raise
    except CancelledError as error:
        raise ClusterError("the scheduler was lost; what is stored is kept, run the same again to go on") from error
    except Exception as error:  # what a task raises itself is a ClusterError
        reason = f"{type(error).__name__}: {error}"
        raise ClusterError(
            f"a worker cannot run napari-dala ({reason}); install the same version on all machines"
        ) from error
