"""What a trained model's card says about how it came to be."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from napari_dala.metrics.anonymous import patient_key, without_names
from napari_dala.model.card import ModelCard
from napari_dala.model.class_colors import MALIGNANT_NAMES, class_infos
from napari_dala.model.trunks.names import RESNET50, TIMM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.datasets.splits import Split
    from napari_dala.metrics.scores import ScoreTable
    from napari_dala.training.photographs.squares import Squares
    from napari_dala.training.settings import TrainSettings


def model_card(
    dataset: ImageDataset,
    split: Split,
    settings: TrainSettings,
    squares: Squares,
    *,
    name: str,
    table: ScoreTable | None,
    run: Mapping[str, Any],
    trunk: Mapping[str, Any],
    parent: str | None = None,
) -> ModelCard:
    """Return the card of a trained network.

    Parameters
    ----------
    dataset, split, settings, squares
        What it was trained on and how.
    name
        Of the model.
    table
        Figures of the held-out photographs; None where there are none.
    run
        What else is to be known of the run, as JSON: command, device, seconds, and so on.
    trunk
        What the card says of the trunk: architecture, channels and cell_px.
    parent
        Hash of the bundle that training began from.
    """
    network = "DALAResNet50" if trunk["architecture"] == RESNET50 else trunk["architecture"].removeprefix(TIMM)
    sides = {"trained": split.train, "held_out": split.test}
    patients: dict[str, Any] = {
        f"patients_{side}": sorted({patient_key(dataset.images[index].identity) for index in at.tolist()})
        for side, at in sides.items()
    }
    magnifications = {image.magnification for image in dataset.images} - {None}
    training: dict[str, Any] = {
        "dataset": dataset.name,
        "magnifications": sorted(f"{value}X" for value in magnifications),
        **{f"images_{side}": len(at) for side, at in sides.items()},
        **patients,
        "patients_are": "the first 16 hex digits of the SHA-256 of a patient's name in the data set",
        "patients_known": dataset.patients_known,
        "split_notes": list(split.notes),
        "icc_profiles": "applied" if all(image.icc_profile for image in dataset.images) else "not applied",
        "um_per_px": sorted({image.mpp for image in dataset.images if image.mpp is not None}),
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        **run,
    }
    return ModelCard(
        name=name,
        summary=f"{network} trained on {len(split.train)} photographs of {dataset.name}.",
        **trunk,
        classes=class_infos(dataset.classes),
        target_class=target_of(dataset.classes),
        tile_px=squares.tile_px,
        mpp=squares.mpp or 0,
        mean=squares.mean,
        std=squares.std,
        trained=True,
        training=training,
        metrics={} if table is None else {"held_out": without_names(table)},
        parent=parent,
        data=dataset.summary,
        licence=f"of the photographs: {dataset.licence}" if dataset.licence else "",
        citation=dataset.citation,
        limits=(
            f"Trained on photographs from {_sources(dataset)}; other scanners, stains and tissues were not tested.",
            *split.notes,
            *(() if table is None else table.notes),
        ),
    )


def _sources(dataset: ImageDataset) -> str:
    count = len(set(dataset.sources.tolist()))
    return "one source" if count == 1 else f"{count} sources"


def circumstances() -> dict[str, Any]:
    """Return the versions and the machine that a run's figures depend on, as JSON."""
    packages = ("napari-dala", "torch", "torchvision", "lightning", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def target_of(names: tuple[str, ...]) -> int:
    """Return the class that is shown first: the malignant one by its name, else the last."""
    found = [place for place, name in enumerate(names) if name.casefold() in MALIGNANT_NAMES]
    return found[0] if found else len(names) - 1
