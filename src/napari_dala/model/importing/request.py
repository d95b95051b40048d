"""What is asked of an import, whoever asks: the command line or the window, by way of the warm child. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from napari_dala.errors import BundleError
from napari_dala.model.card import Finite, Positive, TilePx
from napari_dala.model.importing.presets import PRESETS
from napari_dala.model.trunks.names import CELL_PX, RESNET50, architecture_of
from napari_dala.validation import Mpp

_MOST_LICENCE = 256 << 10  # characters


def _known(preset: str) -> str:
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset}; presets: {', '.join(PRESETS)}")
    return preset


def _known_trunk(trunk: str) -> str:
    try:
        architecture_of(trunk)
    except BundleError as error:
        raise ValueError(str(error)) from None
    return trunk


class ImportRequest(BaseModel):
    """How weights without a card are to become a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path
    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Of the new model."""
    classes: tuple[str, ...]
    """In the order of the logits; of a trunk alone, those that it is to learn."""
    mpp: Mpp
    """Micrometres per pixel of its tiles."""
    tile_px: TilePx = 224
    preset: Annotated[str, AfterValidator(_known)]
    """Name of a `Preset`."""
    mean: tuple[Finite, Finite, Finite] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    """Per channel of pixels scaled to [0, 1], in place of the preset's."""
    trunk: Annotated[str, AfterValidator(_known_trunk)] = "resnet50"
    """Which network the file is of, see `architecture_of`."""
    licence: Annotated[str, Field(max_length=_MOST_LICENCE)] = ""
    """Text of the licence that the weights came with; the card keeps it, and so do those of models learned on it."""
    prefix: str | None = None
    """Which of several networks in the file: the last parts of the prefix that its names have."""

    @model_validator(mode="after")
    def _fits_together(self) -> ImportRequest:
        if architecture_of(self.trunk) == RESNET50 and self.tile_px % CELL_PX:
            raise ValueError(f"tile_px must be a multiple of {CELL_PX}, found {self.tile_px}")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both or none")
        return self

    def as_json(self) -> dict[str, Any]:
        """Return what the warm child is sent."""
        return self.model_dump(mode="json")
