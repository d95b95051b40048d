"""Fine-tuning: slides and what was drawn on them -> a better model, as a job that can be stopped and resumed.

The job's folder `result` gets bundle.safetensors and, last, result.json. Mode quick is over in seconds and begins again
when it is resumed, with the same result (same machine and number of threads); deep and full go on from a checkpoint.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from napari_dala.errors import BundleError, JobError
from napari_dala.jobs.run import JobRun
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.training.finetune.job import FinetuneConfig, FinetuneSettings, config_of, create_finetune_job
from napari_dala.training.finetune.run import FinetuneRun
from napari_dala.validation import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.training.finetune.job import FinetuneEvent, SlideExamples


def finetune(
    model: str | Path | ModelBundle,
    examples: Sequence[SlideExamples],
    out: str | Path,
    *,
    mode: str = "quick",
    name: str | None = None,
    on_event: Callable[[FinetuneEvent], object] | None = None,
    **settings: Any,
) -> ModelBundle:
    """Retrain a model on what was drawn on slides.

    Parameters
    ----------
    model
        The parent: a name, a file, or a bundle that was loaded from one.
    examples
        The slides, each with its file of annotations.
    out
        New folder, of a job: what was asked for, its log and its `result`.
    mode
        "quick" trains attention and head on cached features, "deep" layer4 too, "full" everything.
    name
        Of the new model; the parent's and the mode by default.
    on_event
        Told what the job reports: a `Prepared`, an `Epoch` after each, and `Finished`.
    **settings
        See `FinetuneSettings`.

    Returns
    -------
    ModelBundle
        As loaded from ``out/result/bundle.safetensors``.

    Raises
    ------
    DalaError
        In one line, what cannot be read, or why nothing can be learned; or that the job was cancelled.

    Examples
    --------
    >>> from napari_dala import SlideExamples, finetune
    >>> finetune("default", [SlideExamples(slide="a.svs", annotations="a.geojson")], "job")  # doctest: +SKIP
    """
    from napari_dala.model.bundle import ModelBundle, load_bundle  # builds a trunk; not needed by a quick job

    parent = model
    if isinstance(model, ModelBundle):
        if model.path is None and model.card != UNTRAINED_CARD:
            raise BundleError(f"{model.card.name}: save this bundle first and give its file")
        parent = model.path or "untrained"
    config = FinetuneConfig(
        name=name or f"{getattr(parent, 'stem', parent)}-{mode}",
        model=str(parent),
        slides=tuple(examples),
        settings=checked(FinetuneSettings, JobError, mode=mode, **settings),
    )
    create_finetune_job(out, config)
    path = run_finetune(out, on_event)
    if path is None:
        raise JobError(f"{out}: the fine-tuning was cancelled")
    return load_bundle(path)


def run_finetune(folder: str | Path, on_event: Callable[[FinetuneEvent], object] | None = None) -> Path | None:
    """Run or resume a fine-tuning job in this process.

    Parameters
    ----------
    folder
        Of `create_finetune_job`.
    on_event
        Told what the job reports, as it is reported.

    Returns
    -------
    The new bundle's file; None where the job was cancelled.

    Raises
    ------
    DalaError
        In one line, which is the job's message too.
    """
    with JobRun(folder) as run:
        config = config_of(run.job)
        work = FinetuneRun(run, config, config.settings.with_defaults(), on_event)
        with _threads(work.settings.threads):
            return work.quick() if work.settings.mode == "quick" else work.by_layers()


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
