"""What is asked of an import, whoever asks: the command line or the window, by way of the warm child. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from napari_dala.model.card import TilePx
from napari_dala.model.importing.presets import PRESETS
from napari_dala.validation import Mpp


def _known(preset: str) -> str:
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset}; presets: {', '.join(PRESETS)}")
    return preset


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
    prefix: str | None = None
    """Which of several networks in the file: the last parts of the prefix that its names have."""

    def as_json(self) -> dict[str, Any]:
        """Return what the warm child is sent."""
        return self.model_dump(mode="json")
