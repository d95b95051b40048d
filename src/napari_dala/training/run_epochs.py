"""Run a learner through its epochs with Lightning, and keep what each epoch gave.

metrics.csv      a row per epoch
checkpoints/     until the run is done: last.ckpt, from which it goes on; best.safetensors where the best epoch counts
tensorboard/     the same figures as metrics.csv for TensorBoard, if asked for
"""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from safetensors.torch import save_model

from napari_dala.errors import JobError
from napari_dala.files import replacing, sweep, write_text
from napari_dala.inference.devices import choose_precision
from napari_dala.jobs.state import job_errors
from napari_dala.training.epochs import Epoch, as_csv
from napari_dala.training.learner import Learner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_dala.training.settings import TrainSettings


class Record(Callback):
    """After each epoch: the row, metrics.csv, the best weights and last.ckpt, which knows all of these.

    Parameters
    ----------
    folder
        Of the run.
    patience
        Epochs without a lower validation loss after which to stop; None for never.
    on_epoch
        Told each row.
    keep_best
        Keep the best weights without patience too.
    """

    def __init__(
        self,
        folder: Path,
        patience: int | None,
        on_epoch: Callable[[Epoch], object] | None = None,
        *,
        keep_best: bool = False,
    ) -> None:
        self.folder, self.patience, self.on_epoch = folder, patience, on_epoch
        self.keep_best = keep_best or patience is not None
        self.rows: list[Epoch] = []

    @property
    def best(self) -> int:
        """Place of the row with the lowest validation loss."""
        return int(np.argmin([np.inf if row.val_loss is None else row.val_loss for row in self.rows]))

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and bool(self.rows) and len(self.rows) - 1 - self.best >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the rows as plain values."""
        return {"rows": [asdict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the rows of an interrupted run."""
        self.rows = [Epoch(**row) for row in state_dict["rows"]]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the interrupted run had come to its end."""
        trainer.should_stop = trainer.should_stop or self.is_over

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what the epoch gave."""
        assert isinstance(pl_module, Learner)
        row = pl_module.epoch_row()
        self.rows.append(row)
        trainer.should_stop = trainer.should_stop or self.is_over
        last = last_checkpoint(self.folder)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(last)  # takes part; the first process writes
            return
        with job_errors(last):
            if self.keep_best and self.best == len(self.rows) - 1:
                with replacing(best_weights(self.folder)) as temporary:
                    save_model(pl_module.judged, str(temporary))
            with replacing(last) as temporary:
                trainer.save_checkpoint(temporary)
            write_text(self.folder / "metrics.csv", as_csv(self.rows))
            for logger in trainer.loggers:
                logger.log_metrics({name: v for name, v in asdict(row).items() if v is not None}, step=row.epoch)
        if self.on_epoch:
            self.on_epoch(row)


class _WrittenHere(TorchCheckpointIO):
    """Writes a checkpoint where it is asked to; Lightning's own does so in /tmp first, where a killed run leaves it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint; `OSError` where the disk is full, for which torch has no word."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())


def run_epochs(
    learner: Learner, record: Record, settings: TrainSettings, device: torch.device, checkpoint: Path | None
) -> Trainer:
    """Train, from the beginning or from a checkpoint of `record`'s; return Lightning's trainer when all is done.

    Raises
    ------
    Stopped
        If the learner was asked to stop.
    JobError
        If the disk is full or the folder cannot be written.
    """
    with _quiet():
        tensorboard = settings.logger == "tensorboard"
        trainer = Trainer(
            max_epochs=settings.epochs,
            accelerator=device.type,
            devices=settings.devices if device.index is None else [device.index],
            num_nodes=settings.nodes,
            precision="bf16-mixed" if choose_precision(settings.precision, device) == "bf16" else "32-true",
            callbacks=[record],
            plugins=[_WrittenHere()],
            logger=TensorBoardLogger(record.folder, name=None, version="tensorboard") if tensorboard else False,
            enable_checkpointing=False,  # `record` keeps its own
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            check_val_every_n_epoch=settings.judge_every,
            reload_dataloaders_every_n_epochs=1,  # each epoch has its own order
        )
        if trainer.is_global_zero:
            sweep(last_checkpoint(record.folder).parent)
        trainer.fit(learner, ckpt_path=checkpoint, weights_only=True)
    return trainer


def last_checkpoint(folder: Path) -> Path:
    """Return where a run keeps what it goes on from, whether it is there or not."""
    return folder / "checkpoints" / "last.ckpt"


def best_weights(folder: Path) -> Path:
    """Return where a run keeps the weights of its best epoch, if it was asked to."""
    return last_checkpoint(folder).with_name("best.safetensors")


def drop_checkpoints(folder: Path) -> None:
    """Remove what a finished run would have gone on from: hundreds of megabytes that nothing reads again."""
    with suppress(OSError):
        rmtree(last_checkpoint(folder).parent)


def check_logger(settings: TrainSettings) -> None:
    """Raise JobError if what the settings want to log with is not installed."""
    if settings.logger == "tensorboard" and find_spec("tensorboard") is None:
        raise JobError("logger tensorboard: it is not installed; pip install 'napari-dala[tensorboard]', or choose csv")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks (which device, how many workers) to itself; warnings of others pass."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        logger.setLevel(level)
