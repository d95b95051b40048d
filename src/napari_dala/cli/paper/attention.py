"""`dala attention`: what the channel attention of bundles does on patients that they never saw."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_dala.cli import console, options
from napari_dala.datasets.images import ImageDataset
from napari_dala.errors import DatasetError


@options.with_options(images=options.labelled_images)
def attention(
    images: ImageDataset,
    models: list[str] = options.LEFT_OUT_MODELS,
    out: Path = typer.Option(..., "--out", help="Folder for the page, the tables and the plots."),
    everything: bool = typer.Option(
        False, "--all", help="Look at patients that a bundle was trained on too: figures come out too good."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1, mps."),
) -> None:
    """Look at the gates of bundles, at what each channel adds to the logit, and at what replacing the gates does.

    Each bundle looks at the patients that its card says it was not trained on, at its own resolution and tile size.
    """
    import numpy as np

    from napari_dala.evaluation.attention.gates import gates_of
    from napari_dala.evaluation.attention.panels import beyond_chance
    from napari_dala.evaluation.attention.report import AttentionStudy, attention_tables, write_attention_report
    from napari_dala.evaluation.photographs import unseen_by_each
    from napari_dala.model.bundle import load_model

    console.say(images.summary)
    bundles = [load_model(name) for name in models]
    try:
        each = [np.arange(len(images))] * len(bundles) if everything else unseen_by_each(bundles, images)
    except DatasetError as error:
        raise DatasetError(f"{error}; look at all of them: --all") from None
    found = []
    for number, (bundle, indices) in enumerate(zip(bundles, each, strict=True), 1):
        patients = len(set(images.patients[indices].tolist()))
        console.say(f"bundle {number}, {bundle.card.name}: {len(indices)} photographs of {patients} patients")
        found.append(gates_of(bundle, images, indices, device=device))
    study = AttentionStudy(images, tuple(found), console.command_line())
    written = write_attention_report(study, out)
    console.show_tables(attention_tables(study)[:2], (*beyond_chance(study.differences, images.classes), *study.notes))
    for path in written:
        console.say(path)
