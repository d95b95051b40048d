"""`dala analyze --scheduler`: the same on the workers of a dask cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_dala.cli.console import pace_fields, progress_bar, report_failures, tell_no_tissue, warn_of

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from napari_dala.analysis.cohort.cohort import CohortProgress
    from napari_dala.results.request import AnalysisRequest


def analyze_on_cluster(slides: list[Path], request: AnalysisRequest, scheduler: str) -> list[Path]:
    """Analyse slides on a cluster, with a progress bar over all of them; return their folders.

    Failures and exit codes are those of `analyze_slides`; what is raised when it is interrupted passes on.
    """
    from napari_dala.analysis.cohort.cluster import connected
    from napari_dala.analysis.cohort.cohort import analyze_cohort
    from napari_dala.analysis.cohort.tasks import CohortSettings, Failure
    from napari_dala.model.bundle_head import load_head
    from napari_dala.model.catalog import BUILT_IN, find_model
    from napari_dala.results.analysis import Analysis
    from napari_dala.results.progress import Progress
    from napari_dala.results.tile_results import TileStatus
    from napari_dala.slide.backends.remote import absolute

    file = find_model(request.model)
    bundle = load_head(request.model)  # its hash is wanted, its trunk is not
    warn_of(bundle.card)
    paths = list(dict.fromkeys(absolute(path) for path in slides))
    assert request.out is not None
    model = request.model if file is None or request.model in BUILT_IN else str(file.absolute())
    everywhere = request.model_copy(update={"out": request.out.absolute(), "model": model})
    settings = CohortSettings(everywhere, bundle.hash)
    with (
        connected(scheduler, request.device) as client,
        progress_bar("{task.fields[slides]}", "tiles") as bar,
    ):
        if not client.scheduler_info()["workers"]:
            typer.echo("The cluster has no worker yet; waiting for one.", err=True)
        ends = analyze_cohort(client, paths, settings, lambda progress: _show(bar, progress))
    incomplete = []
    for path, end in zip(paths, ends, strict=True):
        if isinstance(end, Failure):
            continue
        if not end.plan.tiles:
            tell_no_tissue(path)
        unreadable = int((Analysis.open(end.plan.folder).status == TileStatus.UNREADABLE).sum())
        failed = sum(part.failed for part in end.ranges)
        if warning := Progress(0, 0, unreadable, failed=failed).warning:
            incomplete.append(f"{path.name}: {warning}")
    folders = [end.plan.folder for end in ends if not isinstance(end, Failure)]
    report_failures([end.message for end in ends if isinstance(end, Failure)], len(folders), incomplete)
    return folders


def _show(bar: Bar, progress: CohortProgress) -> None:
    """Put the cohort's figures into the bar's one line."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    slides = f"{progress.finished}/{progress.slides} slides{failed}"
    fields = {"slides": slides, **pace_fields(progress.tiles_per_s, progress.seconds_left)}
    if not bar.task_ids:
        bar.add_task("", total=None, **fields)
    bar.update(bar.task_ids[0], completed=progress.done, total=progress.total or None, **fields)
