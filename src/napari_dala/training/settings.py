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
    crops
        Random squares of each photograph in an epoch.
    augmentation
        "none" leaves stains and colours, "mild" varies them as laboratories do, "strong" more than they do, see
        `augment.for_training`.
    balance
        Against unequal classes: "loss" weighs each class by the inverse of its photographs, "sampler" draws
        photographs so that classes come equally often, "none" does neither.
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
    crops: int = Field(1, ge=1)
    augmentation: Literal["none", "mild", "strong"] = "mild"
    balance: Literal["loss", "sampler", "none"] = "loss"
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
