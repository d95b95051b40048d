"""What a run was asked for, as its folder keeps it, and whether another run was asked for the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_dala.metrics.anonymous import patient_key
from napari_dala.training.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.datasets.images import ImageDataset
    from napari_dala.datasets.splits import Split


def run_config(
    dataset: ImageDataset, split: Split, settings: TrainSettings, model: str, init: ModelBundle | None = None
) -> dict[str, Any]:
    """Return what is written into a run's config.json; see `fit.train` for the parameters."""
    names = [f"{image.path.name} {image.label} {image.patient}" for image in dataset.images]
    return {
        "model": model,
        "settings": settings.model_dump(mode="json"),
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "mpp": sorted({image.mpp for image in dataset.images if image.mpp is not None}),
        "images": patient_key("\n".join(names)),
        "train": split.train.tolist(),
        "held_out": split.test.tolist(),
        "init": init.hash if init else None,
    }


def disagreements(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs between a stored configuration and the one asked for.

    A setting that the stored one does not know came later: it counts as its default. One that is no longer known
    does not count.
    """
    different = [key for key in asked if key != "settings" and stored.get(key) != asked[key]]
    before = TrainSettings.model_validate({}).model_dump(mode="json") | dict(stored.get("settings", {}))
    settings = [key for key, value in asked["settings"].items() if before.get(key) != value]
    return [*different, f"settings ({', '.join(settings)})"] if settings else different
