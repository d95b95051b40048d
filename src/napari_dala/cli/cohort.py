"""`dala analyze --scheduler`: the same on the workers of a dask cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_dala.cli.console import report_failures, screen, tell_no_tissue, warn_of

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from napari_dala.analysis.cohort.cohort import CohortProgress
    from napari_dala.results.request import AnalysisRequest


def analyze_on_cluster(slides: list[Path], request: AnalysisRequest, scheduler: str) -> list[Path]:
    """Analyse slides on a cluster, with a progress bar over all of them; return their folders.

    Failures and exit codes are those of `analyze_slides`; the code is 130 when interrupted.
    """
    from napari_dala.analysis.cohort.cluster import connected
    from napari_dala.analysis.cohort.cohort import analyze_cohort
    from napari_dala.analysis.cohort.tasks import CohortSettings, Failure
    from napari_dala.model.bundle_head import load_head
    from napari_dala.model.catalog import BUILT_IN, find_model

    file = find_model(request.model)
    bundle = load_head(request.model)  # its hash is wanted, its trunk is not
    warn_of(bundle.card)
    paths = list(dict.fromkeys(path.absolute() for path in slides))
    assert request.out is not None
    model = request.model if file is None or request.model in BUILT_IN else str(file.absolute())
    everywhere = request.model_copy(update={"out": request.out.absolute(), "model": model})
    settings = CohortSettings(everywhere, bundle.hash)
    try:
        with connected(scheduler, request.device) as client, _progress_bar(len(paths)) as bar:
            if not client.scheduler_info()["workers"]:
                typer.echo("The cluster has no worker yet; waiting for one.", err=True)
            ends = analyze_cohort(client, paths, settings, lambda progress: _show(bar, progress))
    except KeyboardInterrupt:
        typer.echo("Stopped. What is stored is kept: the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    for path, end in zip(paths, ends, strict=True):
        if not isinstance(end, Failure) and not end.plan.tiles:
            tell_no_tissue(path)
    folders = [end.plan.folder for end in ends if not isinstance(end, Failure)]
    report_failures([end.message for end in ends if isinstance(end, Failure)], len(folders))
    return folders


def _show(bar: Bar, progress: CohortProgress) -> None:
    """Put the cohort's figures into the bar's one line."""
    left = progress.seconds_left
    failed = f", {progress.failed} failed" if progress.failed else ""
    bar.update(
        bar.task_ids[0],
        completed=progress.done,
        total=progress.total or None,
        slides=f"{progress.finished}/{progress.slides} slides{failed}",
        rate=f"{progress.tiles_per_s:.1f} tiles/s" if progress.tiles_per_s else "",
        left="" if left is None else f"{int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left",
    )


def _progress_bar(slides: int) -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("{task.fields[slides]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=screen(stderr=True),
    )
    bar.add_task("", total=None, slides=f"0/{slides} slides", rate="", left="")
    return bar
