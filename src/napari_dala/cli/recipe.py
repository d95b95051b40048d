"""The recipe of a training as options of `dala train` and `dala compare`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, get_args

from napari_dala.cli.options import options_of
from napari_dala.errors import DatasetError
from napari_dala.training.settings import BUNDLED, Network, TrainSettings
from napari_dala.validation import checked

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari_dala.datasets.images import ImageDataset

NETWORKS = ", ".join(get_args(Network))
RECIPE = options_of(
    TrainSettings,
    partial(checked, TrainSettings, DatasetError),
    {"tile_px": "tile", "mpp": "model_mpp"},  # --mpp is that of photographs
)


def names_of(models: str) -> list[str]:
    """Return the names of networks that have commas between, each once; `DatasetError` where there is none."""
    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    if not names:
        raise DatasetError("--models: give at least one name")
    return names


def check_scale(images: ImageDataset, models: Collection[str]) -> None:
    """Raise `DatasetError` where a bundle is wanted and would not know its scale."""
    if BUNDLED in models and images.mpp is None:
        raise DatasetError(f"{images.name}: a bundle needs the images' resolution; give it with --mpp")
