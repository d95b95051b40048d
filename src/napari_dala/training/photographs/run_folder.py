"""Reading what a training run left in its folder."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from napari_dala.errors import JobError
from napari_dala.metrics.anonymous import patient_key
from napari_dala.training.settings import TrainSettings
from napari_dala.validation import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.datasets.splits import Split
    from napari_dala.model.bundle import ModelBundle
_BY_PATCH_TOKENS = ("vit_b_16", "dinov2_vitb14")  # by the class token until 2026-11-29, with the same weights


State: TypeAlias = Literal["new", "interrupted", "finished"]

_NEEDED = ("seconds", "initial_weights", "device", "precision", "threads")
_AGAIN = "remove the run's folder to train it again"


def state_of(folder: Path, config: Mapping[str, Any]) -> State:
    """Return how far the run of a configuration is.

    Raises
    ------
    JobError
        If the run in the folder is another one.
    """
    stored = folder / "config.json"
    if not stored.exists():
        return "new"
    if different := disagreements(read_run_json(stored), config):
        raise JobError(f"{folder}: its run had other {', '.join(different)}; ask for the same or choose another --out")
    return "finished" if (folder / "result.json").exists() else "interrupted"


def read_result(folder: Path) -> dict[str, Any]:
    """Return result.json, in which at least what a comparison needs is there."""
    path = folder / "result.json"
    result = read_run_json(path)
    if missing := [key for key in _NEEDED if key not in result]:
        raise JobError(f"{path}: {missing[0]} is missing; {_AGAIN}")
    return result


def read_predictions(folder: Path, dataset: ImageDataset, split: Split) -> NDArray[np.float64]:
    """Return the probabilities of a split's held-out photographs, (n, C), in its order.

    Raises
    ------
    JobError
        If predictions.csv is damaged or is about other photographs.
    """
    path = folder / "predictions.csv"
    rows = _rows(path)
    expected = [(dataset.images[index].path.name, dataset.images[index].patient) for index in split.test]
    if [(row.get("image"), row.get("patient")) for row in rows] != expected:
        raise JobError(f"{path}: not the predictions of this fold's photographs; {_AGAIN}")
    try:
        return np.array([[float(row[f"prob_{name}"]) for name in dataset.classes] for row in rows])
    except (KeyError, ValueError, TypeError):
        raise JobError(f"{path}: this file is damaged; {_AGAIN}") from None


def read_curves(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return the columns of metrics.csv, (epochs,) each, NaN where there is no value."""
    path = folder / "metrics.csv"
    rows = _rows(path)
    try:
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    except (IndexError, ValueError, TypeError):
        raise JobError(f"{path}: this file is damaged; {_AGAIN}") from None


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise JobError(f"{path}: cannot be read ({error}); {_AGAIN}") from None


def read_run_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a run's folder; `JobError` in one line where it is not there or damaged."""
    found = _json(path)
    if not isinstance(found, dict):
        raise JobError(f"{path}: this file is damaged; {_AGAIN}")
    return found


def run_config(
    dataset: ImageDataset, split: Split, settings: TrainSettings, model: str, init: ModelBundle | None = None
) -> dict[str, Any]:
    """Return what is written into a run's config.json; see `fit.train` for the parameters."""
    names = [
        f"{image.path.name} {image.label} {image.patient}{'' if image.icc_profile else ' without its ICC profile'}"
        for image in dataset.images
    ]
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
    } | ({"judges_by": "patch tokens"} if model in _BY_PATCH_TOKENS else {})


def disagreements(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs between a stored configuration and the one asked for.

    A setting that the stored one does not know came later: it counts as its default. One that is no longer known
    does not count.
    """
    different = [key for key in asked if key != "settings" and stored.get(key) != asked[key]]
    stored_settings = stored.get("settings")
    before = TrainSettings.model_validate({}).model_dump(mode="json")
    before |= stored_settings if isinstance(stored_settings, dict) else {}
    settings = [key for key, value in asked["settings"].items() if before.get(key) != value]
    return [*different, f"settings ({', '.join(settings)})"] if settings else different


def _json(path: Path) -> Any:
    try:
        return read_json(path, JobError)
    except JobError as error:
        raise JobError(f"{error}; {_AGAIN}") from None
