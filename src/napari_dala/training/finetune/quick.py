"""Mode quick: attention and head learn from channel means alone, in seconds.

Plain torch, without Lightning (whose import alone takes 4.4 s) or torchvision: from pressing Learn to the updated map
all of it has to fit into 10 s on two cores. Order, replayed tiles and dropout derive from (seed, epoch, batch), so
that the same job begun again gives the same head.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from napari_dala.errors import DalaError
from napari_dala.metrics.scores import score
from napari_dala.model.bundle_file import Replay
from napari_dala.model.head import HeadNetwork
from napari_dala.training.epochs import Epoch, derived
from napari_dala.training.finetune.adam import FusedAdam

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_dala.training.finetune.job import FinetuneSettings


MOST_REPLAYED = 256  # tiles of a class
_STEPS, _STEPS_FROM_SCRATCH = 60, 180
_FEWEST_EPOCHS = 3


@dataclass(frozen=True, eq=False)
class ChannelMeans:
    """Tiles as the head sees them.

    Attributes
    ----------
    features
        (n, channels) float32, channel means of the trunk's map.
    labels
        (n,) int64.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: NDArray[np.intp]) -> ChannelMeans:
        """Return some of the tiles."""
        chosen = torch.from_numpy(indices)
        return ChannelMeans(self.features[chosen], self.labels[chosen])


def fit_head(
    parent: HeadNetwork,
    num_classes: int,
    train: ChannelMeans,
    held_out: ChannelMeans,
    replayed: ChannelMeans,
    settings: FinetuneSettings,
    *,
    on_epoch: Callable[[Epoch], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> HeadNetwork | None:
    """Return a head that begins as the parent's and learns from labelled tiles; None where it was stopped.

    The loss of a step is that of a batch of labelled tiles, its classes weighted to count alike, plus `replay` times
    that of as many replayed tiles, drawn with equal chances for each class. `penalty` draws the weights back to the
    parent's (see `FusedAdam`). `lr` is for features of up to unit size, root mean square, and shrinks in proportion for
    larger ones: a trained trunk's are about 1, a random one's about 10, at which a step would overshoot.

    Parameters
    ----------
    parent
        Left as it is.
    num_classes
        At least the parent's. The layer for the further ones begins with weights of zero and the mean of its biases.
    train, held_out, replayed
        Only `train` must not be empty. `held_out` is judged after each epoch.
    settings
        Every value set (`with_defaults`).
    on_epoch
        Told each epoch.
    should_stop
        Asked before each batch.
    """
    assert settings.epochs is not None
    assert settings.batch_size is not None
    assert settings.lr is not None
    assert settings.penalty is not None
    network = widened(parent, num_classes)
    lr = settings.lr / max(1.0, float(train.features.square().mean().sqrt()))
    optimizer = FusedAdam(network.parameters(), lr, settings.penalty)
    weights = _class_weights(train.labels, num_classes)
    for epoch in range(settings.epochs):
        started = time.perf_counter()
        rng = np.random.default_rng((settings.seed, epoch))
        order = rng.permutation(len(train))
        drawn = _balanced(replayed.labels, len(train), rng) if settings.replay and len(replayed) else None
        loss_sum, right = 0.0, 0
        network.train()
        for number, start in enumerate(range(0, len(order), settings.batch_size)):
            if should_stop and should_stop():
                return None
            here = slice(start, start + settings.batch_size)
            batch = train.at(order[here])
            again = replayed.at(drawn[here] if drawn is not None else order[:0])
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(derived(settings.seed, epoch, number))
                logits = network.head_from_means(torch.cat([batch.features, again.features]))
            mine, theirs = logits[: len(batch)], logits[len(batch) :]
            loss = nn.functional.cross_entropy(mine, batch.labels, weights)
            total = loss
            if len(again):
                total = total + settings.replay * nn.functional.cross_entropy(theirs, again.labels)
            total.backward()
            optimizer.step()
            loss_sum += float(loss.detach()) * len(batch)
            right += int((mine.argmax(1) == batch.labels).sum())
        if not np.isfinite(loss_sum):
            raise DalaError(f"epoch {epoch + 1}: the loss is not finite; lower the learning rate")
        val_loss, val_accuracy, val_gmean = _judged(network, held_out)
        if on_epoch:
            on_epoch(
                Epoch(
                    epoch,
                    loss_sum / len(train),
                    right / len(train),
                    val_loss,
                    val_accuracy,
                    val_gmean,
                    lr,
                    time.perf_counter() - started,
                )
            )
    return network.eval()


def epochs_for(tiles: int, batch_size: int, *, from_scratch: bool = False) -> int:
    """Return how many epochs are enough: about 60 steps, 180 of a head from scratch, and three passes at least.

    Measured on BreakHis 100X, with patients whom the parent never saw: 40 tiles of them labelled (512 replayed) raise
    the GMean of their other tiles from 0.46 to 0.83, and 110 to 0.87 in 48 steps; 80 steps do no better, 24 reach
    0.76. The accuracy on the replayed tiles stays at 0.86 (without replay it falls to 0.56, and the penalty alone,
    of any weight, does not hold it).

    A random head on the default model's trunk, on colon (GlaS, a third of its fields held out in turn, the patients the
    same): 440 tiles give a GMean of 0.68 in 60 steps, 0.77 in 120, 0.85 in 180, 0.84 in 300; 56 tiles 0.64 to 0.67.
    """
    steps = _STEPS_FROM_SCRATCH if from_scratch else _STEPS
    return max(_FEWEST_EPOCHS, ceil(steps / ceil(tiles / batch_size)))


def widened(parent: HeadNetwork, num_classes: int) -> HeadNetwork:
    """Return a copy with further classes: weights of zero, and the mean of the parent's biases."""
    with torch.device("meta"):  # no random weights are drawn
        network = HeadNetwork(num_classes, channels=parent.channels)
    state = {name: tensor for name, tensor in parent.state_dict().items() if not name.startswith("trunk.")}
    further = num_classes - parent.num_classes
    weight, bias = state["head.fc3.weight"], state["head.fc3.bias"]
    state["head.fc3.weight"] = torch.cat([weight, weight.new_zeros(further, weight.shape[1])])
    state["head.fc3.bias"] = torch.cat([bias, bias.mean().expand(further)])
    network.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()}, assign=True)
    return network


@torch.inference_mode()
def probabilities(network: HeadNetwork, features: Tensor, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the probabilities (n, C) of tiles by their channel means (n, channels)."""
    logits = network.eval().head_from_means(features).double()
    return np.asarray(torch.softmax(logits / temperature, dim=1))


def mixed_replay(old: ChannelMeans, new: ChannelMeans, seed: int) -> Replay:
    """Return what the new model replays when it learns more: of each class the parent's tiles and its own, half each.

    At most `MOST_REPLAYED` tiles of a class; where one side has too few, the other fills up.
    """
    rng = np.random.default_rng(seed)
    labels = torch.cat([old.labels, new.labels])
    source = np.repeat([0, 1], [len(old), len(new)])
    chosen = [np.zeros(0, np.intp)]
    for label in torch.unique(labels).tolist():
        mine = labels.numpy() == label
        before, after = (rng.permutation(np.flatnonzero(mine & (source == side))) for side in (0, 1))
        kept = max(MOST_REPLAYED // 2, MOST_REPLAYED - len(after))
        chosen += [before[:kept], after[: MOST_REPLAYED - min(kept, len(before))]]
    indices = torch.from_numpy(np.sort(np.concatenate(chosen)))
    return Replay(torch.cat([old.features, new.features])[indices].half(), labels[indices])


def _class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return weights under which every class that is there counts alike, (num_classes,)."""
    counts = torch.bincount(labels, minlength=num_classes)
    return len(labels) / counts.clamp_min(1) / (counts > 0).sum()


def _balanced(labels: Tensor, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw `size` tiles with replacement, every class with the same chance."""
    chance = _class_weights(labels, int(labels.max()) + 1)[labels].double().numpy()
    return rng.choice(len(labels), size, p=chance / chance.sum())


def _judged(network: HeadNetwork, held_out: ChannelMeans) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return loss, accuracy and GMean of what is held out."""
    if not len(held_out):
        return None, None, None
    found, labels = probabilities(network, held_out.features), held_out.labels.numpy()
    loss = -np.log(np.maximum(found[np.arange(len(labels)), labels], 1e-12)).mean()
    scores = score(labels, found, n_boot=0).scores
    assert scores.accuracy.value is not None
    assert scores.gmean.value is not None
    return float(loss), scores.accuracy.value, scores.gmean.value
