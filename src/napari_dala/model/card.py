"""The model card: what a bundle is, as JSON in the header of its file. No torch, so that napari can show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from napari_dala.errors import BundleError
from napari_dala.validation import first_problem

Byte = Annotated[int, Field(ge=0, le=255)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
UNTRAINED_WARNING = "untrained: random weights, its numbers mean nothing"


class ClassInfo(BaseModel):
    """One class: its name and its colour on the slide (red, green, blue; 0 to 255)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    color: tuple[Byte, Byte, Byte]


class ModelCard(BaseModel):
    """What a model is, how it reads pixels, on what it was trained and what it must not be used for.

    Attributes
    ----------
    classes : tuple of ClassInfo
        In the order of the logits.
    tile_px : int
        Side of a square tile in pixels, a multiple of 32.
    mpp : float
        Micrometres per pixel of a tile.
    mean, std : tuple of float
        Per channel (red, green, blue) of pixels scaled to [0, 1].
    temperature : float
        Logits are divided by it before the softmax.
    operating_threshold : float
        Probability of the target class from which a tile counts as positive.
    target_class : int
        Index of the class that is shown and exported first; the last class by default.
    trained : bool
        Whether every weight was trained; if not, `warning` says so wherever numbers are shown.
    training, metrics : dict
        Provenance and measured figures, free-form JSON.
    parent : str or None
        Hash of the bundle this one was trained from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(min_length=1)]
    summary: str = ""
    architecture: Literal["dalaresnet50"] = "dalaresnet50"
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=2)]
    tile_px: Annotated[int, Field(gt=0, multiple_of=32)] = 224
    mpp: Positive
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    temperature: Positive = 1.0
    operating_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    target_class: int = -1
    trained: bool
    training: dict[str, JsonValue] = {}
    metrics: dict[str, JsonValue] = {}
    parent: str | None = None
    intended_use: str = "Research use only. Not for diagnosis."
    data: str = ""
    licence: str = ""
    citation: str = ""
    limits: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _last_class_by_default(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "target_class" not in fields:
            return {**fields, "target_class": len(fields.get("classes") or ()) - 1}
        return fields

    @model_validator(mode="after")
    def _classes_fit(self) -> ModelCard:
        names = self.class_names
        if len(set(names)) < len(names):
            raise ValueError(f"class names must differ, found {', '.join(names)}")
        if not 0 <= self.target_class < len(names):
            raise ValueError(f"target_class must be 0 to {len(names) - 1}, found {self.target_class}")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return tuple(info.name for info in self.classes)

    @property
    def warning(self) -> str | None:
        """What must be said beside every number of this model, or None."""
        return None if self.trained else UNTRAINED_WARNING


UNTRAINED_CARD = ModelCard(
    name="untrained",
    summary="DALAResNet50 with random weights (seed 0), for trying the program until a trained model is there.",
    classes=(ClassInfo(name="benign", color=(70, 130, 180)), ClassInfo(name="malignant", color=(214, 39, 40))),
    mpp=0.5,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    trained=False,
    training={"seed": 0},
    licence="BSD-3-Clause",
    limits=("Its probabilities and maps mean nothing.",),
)


def read_card(path: str | Path) -> ModelCard:
    """Return the card of a bundle, reading only the file's header.

    Raises
    ------
    BundleError
        If the file is missing, is not a whole safetensors file, or has no valid card; one line.
    """
    path = Path(path)
    return parse_card(read_metadata(path), path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, or raise BundleError saying what the file is instead."""
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except FileNotFoundError:
        raise BundleError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path.name}: {_what_is_wrong(path, error)}") from None


def parse_card(metadata: dict[str, str], path: Path) -> ModelCard:
    """Return the card in a file's metadata, or raise BundleError naming the first thing wrong with it."""
    if "card" not in metadata:
        raise BundleError(f"{path.name}: it has no model card; import weights with `dala models import`")
    try:
        fields = json.loads(metadata["card"])
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if isinstance(version, int) and version > 1:
            raise BundleError(f"{path.name}: its model card has version {version}; update napari-dala to read it")
        return ModelCard.model_validate(fields)
    except json.JSONDecodeError as error:
        raise BundleError(f"{path.name}: its model card is not JSON ({error})") from None
    except ValidationError as error:
        raise BundleError(f"{path.name}: its model card is not valid: {first_problem(error)}") from None


def _what_is_wrong(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "this is a folder, not a model bundle"
    try:
        with path.open("rb") as file:
            start = file.read(8)
        size = path.stat().st_size
    except OSError as problem:
        return f"it cannot be read ({problem.strerror})"
    if size == 0:
        return "the file is empty"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return f"this is a PyTorch pickle; use `dala models import {path.name}`"
    text = str(error)
    if "MetadataIncompleteBuffer" in text or "incomplete" in text.lower():
        return "the file is truncated or damaged; copy or download it again"
    return "this is not a safetensors file"
