"""`dala analyze`: slides in, maps, tables and reports out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_dala.cli.console import report_failures, tell_no_tissue, warn_of
from napari_dala.errors import DalaError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from napari_dala.inference.predictor import Predictor


def analyze(
    slides: list[Path] = typer.Argument(help="Slides, photographs or DICOM folders."),
    out: Path = typer.Option(..., "--out", help="Folder for the results, one folder a slide."),
    model: str = typer.Option("default", help="Name or file of a bundle (`dala models list`)."),
    mpp: float | None = typer.Option(
        None, help="Micrometres per pixel of the slides, where the file is silent or wrong."
    ),
    overlap: float = typer.Option(0.0, min=0.0, max=0.9, help="Part of a tile's side shared with its neighbour."),
    region: Path | None = typer.Option(None, help="GeoJSON of regions to analyse, level-0 pixels."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1, mps."),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
    workers: int = typer.Option(0, min=0, help="Threads that read tiles; 0: as the device needs."),
    compiled: bool = typer.Option(False, "--compile", help="Compile the network for the GPU first; see `dala bench`."),
    decode_on_device: bool = typer.Option(
        False, "--decode-on-device", help="Decode JPEG tiles on the GPU; damage within a tile may go unnoticed."
    ),
    restart: bool = typer.Option(False, "--restart", help="Compute everything again."),
    anonymous: bool = typer.Option(False, "--anonymous", help="Leave file names out of everything written."),
    scheduler: str | None = typer.Option(
        None,
        help="Run on a dask cluster: its scheduler's address or JSON file, or local for one worker a GPU or core here.",
    ),
) -> None:
    """Run the model on every tissue tile of each slide and write maps, tables and a report."""
    from functools import partial

    from napari_dala.cli.cohort import analyze_on_cluster

    if not scheduler:
        run = partial(analyze_slides, compiled=compiled, decode_on_device=decode_on_device)
    elif compiled or decode_on_device:
        raise DalaError("--compile and --decode-on-device do not go with --scheduler: leave them out")
    else:
        run = partial(analyze_on_cluster, scheduler=scheduler)
    for folder in run(
        slides,
        out,
        model=model,
        mpp=mpp,
        overlap=overlap,
        region=region,
        device=device,
        precision=precision,
        workers=workers,
        restart=restart,
        anonymous=anonymous,
    ):
        typer.echo(str(folder))


def analyze_slides(
    slides: list[Path],
    out: Path,
    *,
    model: str = "default",
    mpp: float | None = None,
    overlap: float = 0.0,
    region: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 0,
    compiled: bool = False,
    decode_on_device: bool = False,
    restart: bool = False,
    anonymous: bool = False,
) -> list[Path]:
    """Analyse slides one after another, with a progress bar; return their folders.

    A slide that cannot be done is reported when the others are: exit code 1, or 2 when none could be done.
    """
    from napari_dala.annotations.regions import read_regions
    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle import load_model

    settings: dict[str, Any] = {"region": region and read_regions(region), "mpp": mpp, "overlap": overlap}
    settings |= {"workers": workers, "decode_on_device": decode_on_device, "restart": restart, "anonymous": anonymous}
    predictor = Predictor(load_model(model), device, precision, compiled=compiled)
    if decode_on_device and predictor.device.type != "cuda":
        raise DalaError(f"--decode-on-device: needs an NVIDIA GPU (--device cuda), this runs on “{predictor.device}”")
    warn_of(predictor.bundle.card)
    folders, failures = [], []
    with _progress_bar() as bar:
        for slide in slides:
            try:
                folders.append(_analyze_one(slide, predictor, out, settings, bar))
            except (DalaError, OSError) as error:
                failures.append(str(error))
    report_failures(failures, len(folders))
    return folders


def _analyze_one(path: Path, predictor: Predictor, out: Path, settings: dict[str, Any], bar: Bar) -> Path:
    from napari_dala.analysis.engine import analyze
    from napari_dala.results.progress import Progress
    from napari_dala.results.report.outputs import output_folder, write_outputs
    from napari_dala.slide import open_slide

    start = time.perf_counter()
    with open_slide(path, mpp=settings["mpp"]) as slide:
        folder = output_folder(out, slide, anonymous=settings["anonymous"])
        task = bar.add_task(slide.fingerprint[:8] if settings["anonymous"] else slide.name, total=None, rate="")
        last = Progress(0, 0)

        def show(progress: Progress) -> None:
            nonlocal last
            last = progress
            rate = f"{progress.tiles_per_s:.1f} tiles/s" if progress.tiles_per_s else ""
            bar.update(task, completed=progress.done - progress.approximate, total=progress.total, rate=rate)

        analysis = analyze(
            slide,
            predictor,
            folder,
            region=settings["region"],
            overlap=settings["overlap"],
            workers=settings["workers"],
            decode_on_device=settings["decode_on_device"],
            restart=settings["restart"],
            on_progress=show,
        )
        run = {
            "device": str(predictor.device),
            "precision": predictor.precision,
            "overlap": settings["overlap"],
            "region": settings["region"] is not None,
            "tiles": last.total,
            "tiles_per_s": round(last.tiles_per_s, 2),
            "seconds": round(time.perf_counter() - start, 2),
        }
        write_outputs(analysis, slide, folder, run, anonymous=settings["anonymous"])
    if not last.total:
        tell_no_tissue(path)
    return folder


def _progress_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
