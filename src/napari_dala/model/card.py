"""The model card: what a bundle is, as JSON in the header of its file. No torch, so that napari can show it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from napari_dala.errors import BundleError
from napari_dala.model.tensor_file import read_header
from napari_dala.model.trunks.names import CELL_PX, CHANNELS, RESNET50, is_architecture
from napari_dala.validation import Mpp, first_problem, parse_json
from napari_dala.workspace import models_folder

Byte = Annotated[int, Field(ge=0, le=255)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

TRUNK_OF = "trunk_of"
"""In a bundle's metadata, where it has no trunk: the name of the file that has, beside it or among the models."""
TILE_PX_LIMITS = (32, 2048)
TEMPERATURE_LIMITS = (0.01, 100.0)
_NEAREST = 1e-9  # of a threshold to 0 and to 1


def _not_blank(name: str) -> str:
    if not name.strip():
        raise ValueError("a class name must not be empty")
    return name


def _known(architecture: str) -> str:
    if not is_architecture(architecture):
        raise ValueError(f"there is no trunk {architecture[:100]}")
    return architecture


Architecture = Annotated[str, AfterValidator(_known)]
ClassName = Annotated[str, Field(max_length=100), AfterValidator(_not_blank)]
TilePx = Annotated[int, Field(ge=TILE_PX_LIMITS[0], le=TILE_PX_LIMITS[1])]
Temperature = Annotated[float, Field(ge=TEMPERATURE_LIMITS[0], le=TEMPERATURE_LIMITS[1], allow_inf_nan=False)]
Threshold = Annotated[float, Field(gt=0, lt=1)]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
UNTRAINED_WARNING = "untrained: random weights, its numbers mean nothing"
TRUNK_ONLY = "trunk_only"
"""Key in a card's `training` that is true where `ModelCard.trunk_only` is; earlier versions read such a card too."""
TRUNK_ONLY_WARNING = (
    "untrained beyond its trunk: attention and head are random, its numbers mean nothing; let it learn first "
    "(Annotate & learn, or dala finetune)"
)


class ClassInfo(BaseModel):
    """One class: its name and its colour on the slide (red, green, blue; 0 to 255)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassName
    color: tuple[Byte, Byte, Byte]


class TrunkSource(BaseModel):
    """The file that a trunk's weights came from: its name, its SHA-256, and the text of its licence if it was given.

    The licence of such weights is its giver's, and binds whoever uses the model and those learned on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Annotated[str, Field(max_length=300)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    licence: str = ""


class ModelCard(BaseModel):
    """What a model is, how it reads pixels, on what it was trained and what it must not be used for.

    Attributes
    ----------
    classes : tuple of ClassInfo
        In the order of the logits.
    architecture : str
        The trunk; attention and head are the same for all. "dalaresnet50" is ResNet-50; see `trunks.names`.
    channels, cell_px : int
        Of the trunk's map: how many channels, and the side of a cell in pixels of a tile (the trunk's stride).
    trunk_source : TrunkSource or None
        Where the trunk's weights came from, if from a file that somebody brought.
    tile_px : int
        Side of a square tile in pixels, a multiple of `cell_px`, 32 to 2048.
    mpp : float
        Micrometres per pixel of a tile, 0.02 to 20.
    mean, std : tuple of float
        Per channel (red, green, blue) of pixels scaled to [0, 1].
    temperature : float
        Logits are divided by it before the softmax; 0.01 to 100.
    operating_threshold : float
        Probability of the target class from which a tile counts as positive; above 0, below 1.
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
    name: Annotated[str, Field(min_length=1, max_length=200)]
    summary: str = ""
    architecture: Architecture = RESNET50
    channels: Annotated[int, Field(ge=1, le=16384)] = CHANNELS
    cell_px: Annotated[int, Field(ge=1, le=TILE_PX_LIMITS[1])] = CELL_PX
    trunk_source: TrunkSource | None = None
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=2, max_length=1000)]
    tile_px: TilePx = 224
    mpp: Mpp
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    temperature: Temperature = 1.0
    operating_threshold: Threshold = 0.5
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
        classes = fields.get("classes") if isinstance(fields, dict) else None
        if isinstance(classes, (list, tuple)) and "target_class" not in fields:
            return {**fields, "target_class": len(classes) - 1}
        return fields

    @model_validator(mode="after")
    def _classes_fit(self) -> ModelCard:
        names = self.class_names
        if len(set(names)) < len(names):
            raise ValueError(f"class names must differ, found {', '.join(names)}")
        if not 0 <= self.target_class < len(names):
            raise ValueError(f"target_class must be 0 to {len(names) - 1}, found {self.target_class}")
        return self

    @model_validator(mode="after")
    def _trunk_fits(self) -> ModelCard:
        if self.architecture == RESNET50 and (self.channels, self.cell_px) != (CHANNELS, CELL_PX):
            raise ValueError(f"channels and cell_px of {RESNET50} are {CHANNELS} and {CELL_PX}")
        if self.tile_px % self.cell_px:
            raise ValueError(f"tile_px must be a multiple of {self.cell_px}, found {self.tile_px}")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return tuple(info.name for info in self.classes)

    @property
    def trunk_only(self) -> bool:
        """True of a model that is not trained, but its trunk is: it was imported, and the model must learn first."""
        return not self.trained and self.training.get(TRUNK_ONLY) is True

    @property
    def warning(self) -> str | None:
        """What must be said beside every number of this model, or None."""
        if self.trained:
            return None
        return TRUNK_ONLY_WARNING if self.trunk_only else UNTRAINED_WARNING


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


def within_threshold(value: float) -> float:
    """Return the operating threshold nearest to a value that a card can have: 0 and 1 would call all tiles alike."""
    return min(max(value, _NEAREST), 1 - _NEAREST)


def read_card(path: str | Path) -> ModelCard:
    """Return the card of a bundle, reading only the file's header.

    Raises
    ------
    BundleError
        If the file is missing, is not a whole safetensors file, or has no valid card; one line.
    """
    path = Path(path)
    metadata = read_header(path).metadata
    trunk_file(metadata, path)
    return parse_card(metadata, path)


def trunk_file(metadata: dict[str, str], path: Path) -> Path | None:
    """Return the file, beside a bundle's or among the models, that has its trunk; None where it has its own.

    Raises
    ------
    BundleError
        If there is no such file, or it is the bundle's own.
    """
    name = metadata.get(TRUNK_OF)
    if name is None:
        return None
    places = [folder / name for folder in (path.parent, models_folder()) if Path(name).name == name]
    found = [place for place in places if os.path.isfile(place)]
    if not found:
        raise BundleError(
            f"{path.name}: its trunk is that of {name[:100]}, which must lie in the same folder or among the models"
        )
    others = [place for place in found if not os.path.samefile(place, path)]
    if not others:
        raise BundleError(f"{path.name}: its trunk is said to be that of itself; copy the model again")
    return others[0]


def parse_card(metadata: dict[str, str], path: Path) -> ModelCard:
    """Return the card in a file's metadata, or raise BundleError naming the first thing wrong with it."""
    if "card" not in metadata:
        raise BundleError(f"{path.name}: it has no model card; import its weights with `dala models import --mpp`")
    fields = parse_json(metadata["card"], f"{path.name}: its model card", BundleError)
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > 1:
        raise BundleError(f"{path.name}: its model card has version {version}; update napari-dala to read it")
    try:
        return ModelCard.model_validate(fields)
    except ValidationError as error:
        raise BundleError(f"{path.name}: its model card is not valid: {first_problem(error)}") from None
