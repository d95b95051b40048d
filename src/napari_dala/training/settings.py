"""The recipe of a training run. No torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainSettings(BaseModel):
    """How a network is trained; the defaults are the paper's recipe (arXiv 2308.13150) where it names one.

    Attributes
    ----------
    epochs, batch_size, lr, dropout
        The paper's. Dropout is that of DALAResNet50's head; a comparison network keeps its own.
    tile_px
        Side of a tile in pixels, a multiple of 32.
    train_px
        Side of the tiles to learn from, where smaller ones than those to be judged are enough: the same
        resolution, less tissue, less time. None for `tile_px`. For networks that take any size.
    mpp
        Micrometres per pixel of a tile. None for that of the coarsest photographs. Where the resolution of
        photographs is unknown, a tile is as large a square as they allow.
    crops
        Random squares of each photograph in an epoch.
    augmentation
        "none" leaves stains and colours, "stains" scales haematoxylin and eosin apart, "mild" varies them as
        laboratories do, "strong" more than they do, see `augment.for_training`.
    scale_variation
        The smallest squares show this part of a tile's side, the largest as much more; 1 for no variation.
    balance
        Against unequal classes and patients: "patient" draws classes equally often, in each class every patient
        equally often, and of each every photograph; "sampler" draws photographs so that classes come equally often,
        "loss" weighs each class by the inverse of its photographs, "none" does none of it.
    averaging
        The weights that count are an exponential moving average of those of the steps, which keep this part of it at
        each; 0 for the last step's. (Of the first steps' average less is kept.)
    optimizer
        "adam", or "adamw" with torch's weight decay of 0.01.
    schedule
        "constant", or "one-cycle": the rate rises to `lr` and falls to nearly nothing over the epochs.
    label_smoothing
        Part of a label that is spread over all classes.
    early_stopping
        Epochs without a lower loss after which training ends and the best epoch's weights are kept; None for never.
        The loss is that of a fifth of the *training* patients, set aside for this, so that the held-out ones stay
        unseen.
    imagenet
        Begin with torchvision's ImageNet weights if they lie on this machine.
    judge_every
        Epochs from one look at the photographs to be judged to the next; early stopping needs each.
    seed
        Of weights, order, augmentation and dropout.
    precision
        "fp32", "bf16" or "auto": bf16 where the device has it natively.
    accelerator, devices, nodes
        Lightning's: what to train on, how many of it on a machine, how many machines.
    workers
        Processes that read photographs; 0 reads them in the training process.
    logger
        "csv" keeps the figures of the epochs in metrics.csv; "tensorboard" also writes them for TensorBoard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(32, ge=2)
    lr: float = Field(1e-4, gt=0, allow_inf_nan=False)
    dropout: float = Field(0.25, ge=0, lt=1)
    tile_px: int = Field(224, gt=0, multiple_of=32)
    train_px: int | None = Field(None, gt=0, multiple_of=32)
    mpp: float | None = Field(None, ge=0.01, le=100, allow_inf_nan=False)
    crops: int = Field(1, ge=1)
    augmentation: Literal["none", "stains", "mild", "strong"] = "stains"
    scale_variation: float = Field(0.75, gt=0, le=1)
    balance: Literal["patient", "sampler", "loss", "none"] = "patient"
    averaging: float = Field(0.99, ge=0, lt=1)
    optimizer: Literal["adam", "adamw"] = "adam"
    schedule: Literal["constant", "one-cycle"] = "constant"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    early_stopping: int | None = Field(None, ge=1)
    judge_every: int = Field(1, ge=1)
    imagenet: bool = True
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)
    workers: int = Field(0, ge=0)
    logger: Literal["csv", "tensorboard"] = "csv"

    @model_validator(mode="after")
    def _early_stopping_sees_every_epoch(self) -> Self:
        if self.early_stopping is not None and self.judge_every > 1:
            raise ValueError("early stopping judges every epoch: leave judge_every at 1")
        return self
