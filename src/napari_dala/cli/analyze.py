"""`dala analyze`: slides in, maps, tables and reports out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_dala.cli.console import (
    line_of,
    pace_fields,
    progress_bar,
    report_failures,
    say,
    show_traceback,
    tell_no_tissue,
    warn_of,
)
from napari_dala.cli.options import SLIDE_MPP, options_of, with_options
from napari_dala.errors import DalaError, shown
from napari_dala.results.request import AnalysisRequest

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from napari_dala.inference.predictor import Predictor
    from napari_dala.slide import Slide

REQUEST = options_of(AnalysisRequest, AnalysisRequest.of, without={"slide", "out", "mpp", "region", "threads"})


@with_options(request=REQUEST)
def analyze(
    request: AnalysisRequest,
    slides: list[Path] = typer.Argument(help="Slides, photographs, DICOM folders, or OME-Zarr (also addresses)."),
    out: Path = typer.Option(..., "--out", help="Folder for the results, one folder a slide."),
    mpp: float | None = SLIDE_MPP,
    region: Path | None = typer.Option(None, help="GeoJSON of regions to analyse, level-0 pixels."),
    scheduler: str | None = typer.Option(
        None,
        help="Run on a dask cluster: its scheduler's address or JSON file, or local for one worker a GPU or core here.",
    ),
) -> None:
    """Run the model on every tissue tile of each slide and write maps, tables and a report."""
    from napari_dala.annotations.regions import read_regions

    given = {"out": out, "mpp": mpp, "region": region and read_regions(region)}
    request = AnalysisRequest.of(**{**dict(request), **given})
    if not scheduler:
        folders = analyze_slides(slides, request)
    elif request.decode_on_device or request.local_copy:
        raise DalaError("--decode-on-device and --local-copy do not go with --scheduler: leave them out")
    else:
        from napari_dala.cli.cohort import analyze_on_cluster

        folders = analyze_on_cluster(slides, request, scheduler)
    for folder in folders:
        say(folder)


def analyze_slides(slides: list[Path], request: AnalysisRequest) -> list[Path]:
    """Analyse slides one after another, with a progress bar; return their folders, which lie in the request's `out`.

    A slide that cannot be done is reported when the others are: exit code 1, or 2 when none could be done.
    """
    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle import load_model

    predictor = Predictor(load_model(request.model), request.device, request.precision)
    if request.decode_on_device and predictor.device.type != "cuda":
        raise DalaError(f"--decode-on-device: needs an NVIDIA GPU (--device cuda), this runs on “{predictor.device}”")
    warn_of(predictor.bundle.card)
    folders, failures, incomplete = [], [], []
    with progress_bar("{task.description}") as bar:
        for slide in slides:
            try:
                folder, warning = _analyze_one(slide, predictor, request, bar)
                folders.append(folder)
                incomplete.extend([f"{slide.name}: {warning}"] if warning else [])
            except (DalaError, OSError) as error:
                show_traceback(error)
                failures.append(line_of(error))
    report_failures(failures, len(folders), incomplete)
    return folders


def _analyze_one(path: Path, predictor: Predictor, request: AnalysisRequest, bar: Bar) -> tuple[Path, str]:
    """Analyse a slide and write its outputs; return their folder, and what of it could not be done, or nothing."""
    from napari_dala.analysis.engine import carry_out
    from napari_dala.results.progress import Progress
    from napari_dala.results.report.outputs import output_folder, write_outputs

    start = time.perf_counter()
    with _opened(path, request, bar) as slide:
        assert request.out is not None
        folder = output_folder(request.out, slide, anonymous=request.anonymous)
        name = slide.fingerprint[:8] if request.anonymous else shown(slide.name)
        task = bar.add_task(name, total=None, **pace_fields())
        last = Progress(0, 0)

        def show(progress: Progress) -> None:
            nonlocal last
            last = progress
            fields = pace_fields(progress.tiles_per_s, progress.seconds_left)
            bar.update(task, completed=progress.finished, total=progress.total, **fields)

        analysis = carry_out(slide, predictor, request.model_copy(update={"out": folder}), show)
        run = request.record(
            str(predictor.device),
            predictor.precision,
            tiles=last.total,
            tiles_per_s=last.tiles_per_s,
            seconds=time.perf_counter() - start,
        )
        write_outputs(analysis, slide, folder, run, anonymous=request.anonymous, maps=request.maps)
    if not last.total:
        tell_no_tissue(path)
    damaged = [f"{line}: run it again" for line in analysis.store.damaged]
    return folder, "; ".join(line for line in (last.warning, *damaged) if line)


def _opened(path: Path, request: AnalysisRequest, bar: Bar) -> Slide:
    """Open a slide, from a local copy where that is asked for."""
    from napari_dala.slide import open_slide
    from napari_dala.slide.local_copy import open_local_copy

    if not request.local_copy:
        return open_slide(path, mpp=request.mpp, icc_profile=request.icc_profile)
    task = bar.add_task("copying, MB", total=None, **pace_fields())

    def show(done: int, total: int) -> None:
        bar.update(task, completed=done // 10**6, total=total // 10**6)

    try:
        return open_local_copy(path, mpp=request.mpp, icc_profile=request.icc_profile, told=show)
    finally:
        bar.remove_task(task)
