"""The part of training that Lightning runs: what a batch is and what is done with it.

Order, augmentation and dropout derive from (seed, epoch, place), never from what was drawn before: an epoch that is
begun again after an interruption is the same epoch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from napari_dala.errors import DalaError
from napari_dala.training.epochs import Epoch, derived
from napari_dala.training.views import joined, means

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_dala.training.settings import TrainSettings


class Stopped(Exception):
    """Training was asked to stop, in the midst of an epoch; what was kept after the one before is whole."""


class ExampleSource(Protocol):
    """Where a learner's examples come from.

    Attributes
    ----------
    classes
        How many there are.
    labels
        (n,) class of each example to learn from.
    groups
        (n,) patient of each of them, as `TrainSettings.balance` "patient" draws them.
    held_out
        The examples to be judged on after each epoch (may be none): the views of each, (views, ...), and its label.
    """

    classes: int
    labels: NDArray[np.intp]
    groups: NDArray[Any]

    @property
    def held_out(self) -> Dataset[tuple[Tensor, int]]:
        """See the class."""
        ...

    def example(self, index: int) -> Tensor:
        """Return an example to learn from; what is random about it is drawn from torch's global generator."""
        ...

    def inputs(self, batch: Tensor) -> Tensor:
        """Return examples, or views, (n, ...) on the device as the network's input."""
        ...


class _Examples(Dataset[tuple[Tensor, int]]):
    """The examples of one epoch in their order, each with its label."""

    def __init__(self, source: ExampleSource, order: NDArray[np.intp], seed: tuple[int, int]) -> None:
        self.source, self.order, self.seed = source, order, seed

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        index = int(self.order[place])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived(*self.seed, place))
            return self.source.example(index), int(self.source.labels[index])


class Learner(LightningModule):
    """A network on its way through the epochs.

    Parameters
    ----------
    network
        Its parameters that require a gradient are trained in place.
    source
        Of the examples.
    settings
        See there.
    penalty
        After each step the parameters go a part ``lr * penalty`` of the way back to what they are now: the gradient of
        a squared distance, decoupled from Adam's scaling as in AdamW.
    should_stop
        Asked before each batch; training then ends with `Stopped`. It may take its time: that is a pause.
    """

    def __init__(
        self,
        network: nn.Module,
        source: ExampleSource,
        settings: TrainSettings,
        *,
        penalty: float = 0.0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last).train()  # Lightning leaves the mode as it is
        self.source, self.settings, self.penalty, self.should_stop = source, settings, penalty, should_stop
        self.trained: list[Tensor] = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.origin = [parameter.detach().clone() for parameter in self.trained] if penalty else []
        self.averaged = averaging(self.network, settings.averaging).eval() if settings.averaging else None
        counts = np.bincount(source.labels, minlength=source.classes)
        self.share = len(source.labels) / np.maximum(counts, 1) / int((counts > 0).sum())
        weights = self.share if settings.balance == "loss" else np.ones(len(counts))
        self.register_buffer("class_weights", torch.tensor(weights, dtype=torch.float32), persistent=False)
        self.judges = len(source.held_out) > 0  # type: ignore[arg-type]
        self.sums = self.held_out_sums = _Sums(source.classes)

    @property
    def judged(self) -> nn.Module:
        """The network whose weights count: the averaged one where there is one."""
        return self.network if self.averaged is None else self.averaged.module

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the epoch that begins."""
        settings, labels = self.settings, self.source.labels
        seed = (settings.seed, self.current_epoch)
        rng = np.random.default_rng(seed)
        every = np.tile(np.arange(len(labels)), settings.crops)
        if settings.balance in ("sampler", "patient"):
            chance = self.share[labels]
            if settings.balance == "patient":
                chance = by_patient(labels, self.source.groups)
            order = rng.choice(len(labels), len(every), p=chance / chance.sum())
        else:
            order = rng.permutation(every)
        return DataLoader(
            _Examples(self.source, order, seed),
            settings.batch_size,
            num_workers=settings.workers,
            drop_last=len(order) > settings.batch_size and len(order) % settings.batch_size == 1,  # for batch norm
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the examples to be judged on, each with all its views."""
        if not self.judges:
            return []
        return DataLoader(
            self.source.held_out,
            max(1, self.settings.batch_size // 2),
            collate_fn=joined,
            num_workers=self.settings.workers,
        )

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and its schedule where there is one."""
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.settings.optimizer]
        optimizer = kind(self.trained, lr=self.settings.lr, fused=True)  # three times as fast on a processor
        if self.settings.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.settings.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Begin to count the examples learned from, and the time."""
        self.sums, self.started = _Sums(self.source.classes), time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout from the place in training."""
        self._hold_or_stop()
        torch.manual_seed(derived(self.settings.seed, self.current_epoch, self.global_rank, batch_idx))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        examples, labels = batch
        logits = self.network(self.source.inputs(examples)).float()
        weights: Any = self.class_weights
        loss = nn.functional.cross_entropy(logits, labels, weights, label_smoothing=self.settings.label_smoothing)
        self.sums.add(loss.detach() * len(labels), logits.detach(), labels)
        return loss

    def on_fit_start(self) -> None:
        """Take the weights of the beginning to where the network went."""
        self.origin = [tensor.to(self.device) for tensor in self.origin]

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Go a part of the way back to the weights of the beginning; take the weights into the average."""
        if self.origin:
            torch._foreach_lerp_(self.trained, self.origin, self._lr * self.penalty)
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        """Begin to count the examples judged."""
        self.held_out_sums = _Sums(self.source.classes)

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See that a pause or a cancel does not wait for the epoch's end."""
        self._hold_or_stop()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Judge examples by the mean of their views' probabilities; the loss is not weighted."""
        views, counts, labels = batch
        probabilities = means(torch.softmax(self.judged(self.source.inputs(views)).float(), 1), counts)
        loss = nn.functional.nll_loss(probabilities.clamp_min(1e-12).log(), labels, reduction="sum")
        self.held_out_sums.add(loss, probabilities, labels)

    def epoch_row(self) -> Epoch:
        """Return the epoch's figures over all processes."""
        loss, accuracy, _ = self.sums.figures(self.trainer)
        if not np.isfinite(loss):
            raise DalaError(f"epoch {self.current_epoch + 1}: the loss is not finite; lower the learning rate")
        judged = self.judges and (self.current_epoch + 1) % self.settings.judge_every == 0
        val_loss, val_accuracy, val_gmean = self.held_out_sums.figures(self.trainer) if judged else (None, None, None)
        seconds = time.perf_counter() - self.started
        return Epoch(self.current_epoch, loss, accuracy, val_loss, val_accuracy, val_gmean, self._lr, seconds)

    @property
    def _lr(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _hold_or_stop(self) -> None:
        if self.should_stop and self.should_stop():
            raise Stopped


def by_patient(labels: NDArray[np.intp], groups: NDArray[Any]) -> NDArray[np.float64]:
    """Return how often to draw each example, (n,), so that all patients of a class come equally often, and all classes.

    Parameters
    ----------
    labels, groups
        (n,) class and patient of each; a patient with examples of several classes counts once in each.
    """
    _, pair, in_pair = np.unique(
        [labels.astype(str), groups.astype(str)], axis=1, return_inverse=True, return_counts=True
    )
    share = 1.0 / in_pair[pair]
    return np.asarray(share / np.bincount(labels, share)[labels] / len(np.unique(labels)))


def averaging(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of a network's weights and running statistics, updated after each step.

    Of the n-th step's average (1 + n) / (10 + n) is kept where that is less than `decay`, or the first steps' weights
    would count for long.
    """

    def update(average: Any, now: Any, steps: Tensor | int) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, now, 1 - kept)
        else:
            torch._foreach_copy_(average, now)

    average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    average.requires_grad_(False)  # it takes no part in a step
    return average


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
