"""The recipe of a training as options of `dala train` and `dala compare`."""

from __future__ import annotations

from functools import partial
from typing import get_args

from napari_dala.cli.options import options_of
from napari_dala.errors import DatasetError
from napari_dala.training.settings import Network, TrainSettings
from napari_dala.validation import checked

NETWORKS = ", ".join(get_args(Network))
RECIPE = options_of(
    TrainSettings,
    partial(checked, TrainSettings, DatasetError),
    {"tile_px": "tile", "mpp": "model_mpp"},  # --mpp is that of photographs
)
