"""The part of training that Lightning runs: what a batch is, what is done with it, what is kept after an epoch.

Order, augmentation and dropout derive from (seed, epoch, place), never from what was drawn before: an epoch that is
begun again after an interruption is the same epoch.
"""

from __future__ import annotations

import csv
import io
import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.errors import DalaError
from napari_dala.files import replacing, write_text
from napari_dala.training.augment import for_training, read_photograph
from napari_dala.training.evaluate import FixedSquares, Squares, joined, means

# isort: split
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.training.datasets import ImageDataset
    from napari_dala.training.settings import TrainSettings


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch; the validation figures are None where nothing is held out."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_gmean: float | None
    lr: float
    seconds: float


class _RandomSquares(Dataset[tuple[Tensor, int]]):
    """The tiles of one epoch in their order, each with its label."""

    def __init__(self, dataset: ImageDataset, order: NDArray[np.intp], squares: Squares, seed: tuple[int, int]) -> None:
        self.dataset, self.order, self.seed = dataset, order, seed
        self.augment = for_training(squares.square_px, squares.tile_px)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        labelled = self.dataset.images[self.order[place]]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_derived(*self.seed, place))
            tile: Tensor = self.augment(read_photograph(labelled.path))
        return tile, labelled.label


class Learner(LightningModule):
    """A network on its way through the epochs.

    Parameters
    ----------
    network
        Trained in place.
    dataset
        The photographs.
    train, monitored
        Places of those to learn from and of those to be judged on after each epoch (may be none).
    squares
        How they are read.
    settings
        See there.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: ImageDataset,
        train: NDArray[np.intp],
        monitored: NDArray[np.intp],
        squares: Squares,
        settings: TrainSettings,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.dataset, self.train_indices, self.monitored = dataset, train, monitored
        self.squares, self.settings = squares, settings
        counts = np.bincount(dataset.labels[train], minlength=len(dataset.classes))
        self.share = len(train) / np.maximum(counts, 1) / int((counts > 0).sum())
        weights = self.share if settings.balance == "loss" else np.ones(len(counts))
        self.register_buffer("class_weights", torch.tensor(weights, dtype=torch.float32), persistent=False)
        self.sums = _Sums(len(dataset.classes))

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the epoch that begins."""
        settings = self.settings
        seed = (settings.seed, self.current_epoch)
        rng = np.random.default_rng(seed)
        every = np.tile(self.train_indices, settings.crops)
        if settings.balance == "sampler":
            chance = self.share[self.dataset.labels[every]]
            order = rng.choice(every, len(every), p=chance / chance.sum())
        else:
            order = rng.permutation(every)
        return DataLoader(
            _RandomSquares(self.dataset, order, self.squares, seed),
            settings.batch_size,
            num_workers=settings.workers,
            drop_last=len(order) > settings.batch_size and len(order) % settings.batch_size == 1,  # for batch norm
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the photographs to be judged on, each with all its squares."""
        if not len(self.monitored):
            return []
        return DataLoader(
            FixedSquares(self.dataset, self.monitored, self.squares),
            max(1, self.settings.batch_size // 2),
            collate_fn=joined,
            num_workers=self.settings.workers,
        )

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and its schedule where there is one."""
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.settings.optimizer]
        optimizer = kind(self.network.parameters(), lr=self.settings.lr)
        if self.settings.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.settings.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout from the place in training."""
        torch.manual_seed(_derived(self.settings.seed, self.current_epoch, self.global_rank, batch_idx))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        tiles, labels = batch
        logits = self.network(self.squares.normalize(tiles)).float()
        weights: Any = self.class_weights
        loss = nn.functional.cross_entropy(logits, labels, weights, label_smoothing=self.settings.label_smoothing)
        self.sums.add(loss.detach() * len(labels), logits.detach(), labels)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Judge photographs by the mean of their squares' probabilities; the loss is not weighted."""
        tiles, counts, indices = batch
        probabilities = means(torch.softmax(self.network(self.squares.normalize(tiles)).float(), 1), counts)
        labels = torch.as_tensor(self.dataset.labels[indices.cpu().numpy()], device=self.device)
        loss = nn.functional.nll_loss(probabilities.clamp_min(1e-12).log(), labels, reduction="sum")
        self.held_out_sums.add(loss, probabilities, labels)

    def on_validation_epoch_start(self) -> None:
        """Begin to count the photographs judged."""
        self.held_out_sums = _Sums(len(self.dataset.classes))

    def on_train_epoch_start(self) -> None:
        """Begin to count the tiles learned from, and the time."""
        self.sums, self.started = _Sums(len(self.dataset.classes)), time.perf_counter()

    def epoch_row(self) -> Epoch:
        """Return the epoch's figures over all processes."""
        loss, accuracy, _ = self.sums.figures(self.trainer)
        if not np.isfinite(loss):
            raise DalaError(f"epoch {self.current_epoch + 1}: the loss is not finite; lower the learning rate")
        val_loss, val_accuracy, val_gmean = (
            self.held_out_sums.figures(self.trainer) if len(self.monitored) else (None, None, None)
        )
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        seconds = time.perf_counter() - self.started
        return Epoch(self.current_epoch, loss, accuracy, val_loss, val_accuracy, val_gmean, rate, seconds)


class Record(Callback):
    """After each epoch: the row, metrics.csv, the best weights and last.ckpt, which knows all of these.

    Parameters
    ----------
    folder
        Of the run.
    patience
        Epochs without a lower validation loss after which to stop; None for never, and then no best weights are kept.
    on_epoch
        Told each row.
    """

    def __init__(self, folder: Path, patience: int | None, on_epoch: Callable[[Epoch], object] | None = None) -> None:
        self.folder, self.patience, self.on_epoch = folder, patience, on_epoch
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
        last = self.folder / "checkpoints" / "last.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(last)  # takes part; the first process writes
            return
        if self.patience is not None and self.best == len(self.rows) - 1:
            with replacing(last.with_name("best.safetensors")) as temporary:
                save_model(pl_module.network, str(temporary))
        with replacing(last) as temporary:
            trainer.save_checkpoint(temporary)
        write_text(self.folder / "metrics.csv", as_csv(self.rows))
        if self.on_epoch:
            self.on_epoch(row)


def as_csv(rows: list[Epoch]) -> str:
    """Return the rows as CSV with a head; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Epoch)])
    writer.writerows(asdict(row).values() for row in rows)
    return text.getvalue()


class _Sums:
    """Loss and confusion matrix, added up over an epoch."""

    def __init__(self, classes: int) -> None:
        self.loss: Tensor | float = 0.0
        self.confusion: Tensor | int = 0
        self.classes = classes

    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Add a batch: its summed loss, its logits or probabilities, its labels."""
        cells = torch.bincount(labels * self.classes + scores.argmax(1), minlength=self.classes**2)
        self.loss, self.confusion = self.loss + loss, self.confusion + cells

    def figures(self, trainer: Trainer) -> tuple[float, float, float]:
        """Return mean loss, accuracy and GMean (of the classes that are there)."""
        reduce = trainer.strategy.reduce
        loss = float(reduce(torch.as_tensor(self.loss), reduce_op="sum"))
        confusion = np.asarray(reduce(torch.as_tensor(self.confusion), reduce_op="sum").cpu()).reshape(
            self.classes, self.classes
        )
        there = confusion.sum(1) > 0
        recall = confusion.diagonal()[there] / confusion.sum(1)[there]
        total = int(confusion.sum())
        return loss / total, float(confusion.trace() / total), float(recall.prod() ** (1 / len(recall)))


def _derived(*numbers: int) -> int:
    """Return a seed that differs for any other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
