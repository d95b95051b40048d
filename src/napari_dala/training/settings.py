"""The recipe of a training run: its settings, what each means, and their limits. No torch.

`dala train` and `dala compare` make their options of the fields, with the fields' docstrings as help.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_dala.model.card import TilePx
from napari_dala.validation import Mpp

Network: TypeAlias = Literal[
    "dalaresnet50",
    "dalaresnet50-no-attention",
    "resnet50",
    "seresnet50",
    "densenet121",
    "vgg16",
    "vgg16-inception",
    "vit_b_16",
    "swin_t",
    "dinov2_vitb14",
]
"""The networks that can be trained."""
BUNDLED: Network = "dalaresnet50"
"""The paper's network: a bundle can begin its training."""

_TilePx = Annotated[TilePx, Field(multiple_of=32)]


class TrainSettings(BaseModel):
    """How a network is trained; the defaults are the paper's recipe (arXiv 2308.13150) where it names one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    epochs: int = Field(50, ge=1)
    """Passes over the photographs."""
    batch_size: int = Field(32, ge=2)
    """Tiles in a step."""
    lr: float = Field(1e-4, gt=0, allow_inf_nan=False)
    """Learning rate."""
    dropout: float = Field(0.25, ge=0, lt=1)
    """In DALAResNet50's head; a comparison network keeps its own."""
    tile_px: _TilePx = 224
    """Side of a tile in pixels, a multiple of 32."""
    train_px: _TilePx | None = None
    """Side of the tiles to learn from, at the same resolution: less tissue, less time. By default that of a tile."""
    mpp: Mpp | None = None
    """Micrometres per pixel of a tile; by default that of the coarsest photographs. Where the resolution of photographs
    is unknown, a tile is as large a square as they allow."""
    crops: int = Field(1, ge=1)
    """Random squares of each photograph in an epoch."""
    augmentation: Literal["none", "stains", "mild", "strong"] = "stains"
    """Of stains and colours: "stains" scales haematoxylin and eosin apart, "mild" varies them as laboratories do."""
    scale_variation: float = Field(0.75, gt=0, le=1)
    """The smallest squares, as part of a tile's side; the largest are as much larger; 1 for no variation."""
    balance: Literal["patient", "sampler", "loss", "none"] = "patient"
    """What is drawn alike: classes and in each its patients; classes (sampler); else photographs, classes weighed in
    the loss (loss) or not."""
    averaging: float = Field(0.99, ge=0, lt=1)
    """Part that the exponential moving average of the weights, which counts in the end, keeps of itself at each step; 0
    for the last step's weights."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Of the weights; adamw has torch's weight decay of 0.01."""
    schedule: Literal["constant", "one-cycle"] = "constant"
    """Of the learning rate: one-cycle rises to it and falls to nearly nothing over the epochs."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Part of a label that is spread over all classes."""
    early_stopping: int | None = Field(None, ge=1)
    """Stop after so many epochs without a lower loss on a fifth of the training patients, set aside for this, and keep
    the best epoch's weights."""
    judge_every: int = Field(1, ge=1)
    """Epochs from one look at the photographs to be judged to the next; early stopping needs each."""
    imagenet: bool = True
    """Begin with ImageNet weights if they are on this machine."""
    seed: int = Field(0, ge=0)
    """Of weights, order, augmentation and dropout."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the network; auto is bf16 where the device has it natively."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to train on."""
    devices: int = Field(1, ge=1)
    """How many of them on each machine."""
    nodes: int = Field(1, ge=1)
    """How many machines."""
    workers: int = Field(0, ge=0)
    """Processes that read photographs; 0 reads them in the training process."""
    logger: Literal["csv", "tensorboard"] = "csv"
    """Where the figures of the epochs go; tensorboard is besides csv."""

    @model_validator(mode="after")
    def _early_stopping_sees_every_epoch(self) -> Self:
        if self.early_stopping is not None and self.judge_every > 1:
            raise ValueError("early stopping judges every epoch: leave judge_every at 1")
        return self
