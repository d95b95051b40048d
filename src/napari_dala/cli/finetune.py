"""`dala finetune`: a model retrained on what was drawn on slides, as a job in a folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import typer

from napari_dala.cli import console, options
from napari_dala.errors import AnnotationError, JobError
from napari_dala.training.epochs import Epoch
from napari_dala.training.finetune.job import (
    FinetuneConfig,
    FinetuneEvent,
    FinetuneSettings,
    Prepared,
    SlideExamples,
    create_finetune_job,
    read_finetune_result,
)
from napari_dala.validation import checked


@options.with_options(
    settings=options.options_of(FinetuneSettings, partial(checked, FinetuneSettings, JobError), without={"n_boot"})
)
def finetune(
    settings: FinetuneSettings,
    slides: list[Path] | None = typer.Argument(
        None, help="Slides to learn from. Without any, the job in --out is run, or goes on."
    ),
    out: Path = typer.Option(..., "--out", help="Folder of the job."),
    annotations: list[Path] | None = typer.Option(
        None,
        "--annotations",
        help="GeoJSON of what was drawn on a slide; once for each slide, in their order. Without it, what the "
        "workspace has of each slide.",
    ),
    analysis: list[Path] | None = typer.Option(
        None,
        "--analysis",
        help="Folder with a slide's analysis.zarr, whose features are used; once for each slide, in their order. "
        "Without it, the workspace's.",
    ),
    model: str = typer.Option("default", help="Name or file of the bundle to begin from (`dala models list`)."),
    name: str | None = typer.Option(None, help="Of the new model; by default the parent's and the mode."),
    mpp: float | None = options.SLIDE_MPP,
    icc_profile: bool = options.ICC_PROFILE,
) -> None:
    """Retrain a model on regions drawn on slides; measure it before and after on held-out ones."""
    if slides:
        config = FinetuneConfig(
            name=name or f"{Path(model).stem if Path(model).suffix else model}-{settings.mode}",
            model=model,
            slides=_examples(slides, annotations or [], analysis or [], mpp, icc_profile),
            settings=settings,
        )
        create_finetune_job(out, config)
    elif not (out / "job.json").exists():
        raise JobError(f"{out}: there is no job to run; name the slides to learn from")
    _run(out)


def _run(folder: Path) -> None:
    # Read when torch loads: threads that wait sleep. Where they spin and the machine is busy otherwise (an analysis,
    # napari), two of them need three times the processor's time for the same work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from napari_dala.training.finetune.finetune import run_finetune

    teller = _Teller()
    bundle = run_finetune(folder, teller)
    if bundle is None:
        console.say(f"cancelled; `dala finetune --out {shlex.quote(str(folder))}` goes on", err=True)
        raise typer.Exit(1)
    _show(read_finetune_result(bundle.parent))
    console.say(bundle)


class _Teller:
    """Prints what a job reports, a line each."""

    def __init__(self) -> None:
        self.epochs = 0

    def __call__(self, event: FinetuneEvent) -> None:
        if isinstance(event, Prepared):
            self.epochs = event.epochs
            held_out = f"held out by {event.split}: {_counted(event.held_out)}"
            console.say(f"train: {_counted(event.train)}; {held_out}")
            for note in event.notes:
                console.warn(note)
        elif isinstance(event, Epoch):
            console.tell(event, self.epochs)


def _examples(
    slides: list[Path], annotations: list[Path], analyses: list[Path], mpp: float | None, icc_profile: bool
) -> tuple[SlideExamples, ...]:
    from napari_dala.annotations.adoption import adopt_old_folder
    from napari_dala.annotations.files import annotations_path, read_annotations
    from napari_dala.slide import open_slide
    from napari_dala.workspace import slide_folder

    for what, given in (("--annotations", annotations), ("--analysis", analyses)):
        if given and len(given) != len(slides):
            raise AnnotationError(f"{len(slides)} slides, but {len(given)} times {what}: give it once for each slide")
    found = []
    for number, path in enumerate(slides):
        with open_slide(path, mpp=mpp) as slide:
            adopt_old_folder(slide)
            drawn = annotations[number] if annotations else annotations_path(slide.fingerprint)
            if not annotations and not drawn.exists():
                raise AnnotationError(f"{slide.name}: nothing was drawn on it in the workspace; give --annotations")
            for note in read_annotations(drawn).notes:
                typer.secho(f"{drawn}: {note}", fg="yellow", err=True)
            analysis = analyses[number] if analyses else slide_folder(slide.fingerprint) / "analyses"
        if analyses and not (analysis / "analysis.zarr").is_dir():
            raise AnnotationError(f"{analysis}: holds no analysis.zarr; give the folder of an analysis of {path.name}")
        found.append(SlideExamples(slide=path, annotations=drawn, analysis=analysis, mpp=mpp, icc_profile=icc_profile))
    return tuple(found)


def _show(result: dict[str, Any]) -> None:
    """Print the figures before and after, then what must be read beside them."""
    from rich.table import Table

    before, after, replay = result["before"], result["after"], result["replay"]
    screen = console.screen()
    if after is not None:
        where = ", same slide, optimistic" if result["split"] == "region" else ""
        table = Table("figure", "before", "after", title=f"{after['n']} held-out tiles{where}")
        for title, key in (("accuracy", "accuracy"), ("GMean", "gmean"), ("F1", "f1"), ("calibration error", "ece")):
            table.add_row(title, *(_estimate(side and side["scores"][key]) for side in (before, after)))
        for name in after["scores"]["recall"]:
            sides = (_estimate(side and side["scores"]["recall"][name]) for side in (before, after))
            table.add_row(f"recall {name}", *sides)
        screen.print(table)
    if replay is not None:
        line = f"{replay['tiles']} tiles of the parent's: accuracy {replay['before']:.3f} before, {replay['after']:.3f}"
        screen.print(f"{line} after")
    for note in (after or result)["notes"]:
        screen.print(f"Note: {note}")


def _estimate(figure: dict[str, float | None] | None) -> str:
    from napari_dala.metrics.scores import Estimate

    return str(Estimate(**figure)) if figure else "–"


def _counted(tiles: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in tiles.items()) or "nothing"
