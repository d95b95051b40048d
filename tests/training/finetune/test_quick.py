from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings, strategies as st

from napari_dala.errors import DalaError
from napari_dala.model.head import CHANNELS, HeadNetwork
from napari_dala.training.finetune.adam import FusedAdam
from napari_dala.training.finetune.job import (
    FinetuneConfig,
    FinetuneSettings,
    SlideExamples,
    create_finetune_job,
)
from napari_dala.training.finetune.quick import (
    MOST_REPLAYED,
    ChannelMeans,
    epochs_for,
    fit_head,
    mixed_replay,
    probabilities,
    widened,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.training.epochs import Epoch
    from tests.conftest import Lesson

NONE = ChannelMeans(torch.zeros(0, CHANNELS), torch.zeros(0, dtype=torch.int64))


@pytest.fixture(scope="module")
def parent() -> HeadNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HeadNetwork(2).eval()


def tiles(counts: tuple[int, ...], seed: int = 0, shift: float = 0.0) -> ChannelMeans:
    """Return tiles whose class is told by 30 of the channels; `shift` moves those to other channels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    features = torch.rand(len(labels), CHANNELS, generator=generator)
    for place, label in enumerate(labels.tolist()):
        first = 40 * label + int(shift)
        features[place, first : first + 30] += 1.5
    return ChannelMeans(features, labels)


def recipe(**values: object) -> FinetuneSettings:
    return FinetuneSettings(**{"epochs": 10, "penalty": 0.0, **values}).with_defaults()


def accuracy(network: HeadNetwork, what: ChannelMeans) -> float:
    return float((probabilities(network, what.features).argmax(1) == what.labels.numpy()).mean())


def distance(one: HeadNetwork, other: HeadNetwork) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return float(sum(((a - b).detach() ** 2).sum() for a, b in pairs)) ** 0.5


def test_it_learns_and_tells_each_epoch(parent: HeadNetwork) -> None:
    rows: list[Epoch] = []
    held_out = tiles((20, 20), seed=1)
    before = [parameter.clone() for parameter in parent.parameters()]
    network = fit_head(parent, 2, tiles((40, 40)), held_out, NONE, recipe(), on_epoch=rows.append)
    assert network is not None
    assert [row.epoch for row in rows] == list(range(10))
    assert rows[-1].train_loss < rows[0].train_loss / 2
    assert rows[-1].val_accuracy == pytest.approx(accuracy(network, held_out))
    assert rows[-1].val_gmean is not None
    assert rows[-1].val_gmean > 0.95
    assert not network.training
    assert all(torch.equal(a, b) for a, b in zip(before, parent.parameters(), strict=True))  # left as it was
    rows.clear()
    fit_head(parent, 2, tiles((4, 4)), NONE, NONE, recipe(epochs=1), on_epoch=rows.append)
    assert (rows[0].val_loss, rows[0].val_accuracy, rows[0].val_gmean) == (None, None, None)


def test_the_seed_decides_and_nothing_before_it(parent: HeadNetwork) -> None:
    def fit(seed: int) -> HeadNetwork:
        torch.rand(3)  # whatever was drawn before
        found = fit_head(parent, 2, tiles((20, 20)), NONE, tiles((9, 9), 3), recipe(epochs=2, seed=seed))
        assert found is not None
        return found

    one, again, other = fit(1), fit(1), fit(2)
    assert distance(one, again) == 0
    assert distance(one, other) > 0


def test_what_it_draws_is_no_one_elses(parent: HeadNetwork) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit_head(parent, 2, tiles((9, 9)), NONE, NONE, recipe(epochs=1))
    assert torch.equal(torch.rand(1), expected)


def test_replay_keeps_what_the_parent_knew(parent: HeadNetwork) -> None:
    known = tiles((60, 60), seed=2, shift=200)
    taught = fit_head(parent, 2, known, NONE, NONE, recipe())
    assert taught is not None
    fresh = tiles((20, 20), seed=4)
    swapped = ChannelMeans(known.features[:0], known.labels[:0])
    new = ChannelMeans(
        torch.cat([fresh.features, known.features[:40]]), torch.cat([fresh.labels, 1 - known.labels[:40]])
    )
    forgetful = fit_head(taught, 2, new, swapped, NONE, recipe())
    careful = fit_head(taught, 2, new, swapped, known, recipe(replay=4.0))
    assert forgetful is not None
    assert careful is not None
    assert accuracy(careful, known) > accuracy(forgetful, known) + 0.2
    assert accuracy(careful, fresh) > 0.9
    ignored = fit_head(taught, 2, new, swapped, known, recipe(replay=0.0))
    assert ignored is not None
    assert distance(ignored, forgetful) == 0


def test_the_penalty_holds_the_weights_near_the_parents(parent: HeadNetwork) -> None:
    free, held = (fit_head(parent, 2, tiles((20, 20)), NONE, NONE, recipe(penalty=each)) for each in (0.0, 1000.0))
    assert free is not None
    assert held is not None
    assert distance(held, parent) < distance(free, parent) / 2


def test_adam_is_torchs() -> None:
    torch.manual_seed(0)
    one, other = (torch.nn.Linear(5, 3) for _ in range(2))
    other.load_state_dict(one.state_dict())
    mine, theirs = FusedAdam(one.parameters(), 0.05), torch.optim.Adam(other.parameters(), 0.05)
    for _ in range(7):
        features = torch.randn(4, 5)
        for network in (one, other):
            network(features).square().mean().backward()
        mine.step()
        theirs.step()
        theirs.zero_grad()
        assert one.weight.grad is None
    torch.testing.assert_close(one.weight, other.weight)


def test_a_rare_class_counts_as_much(parent: HeadNetwork) -> None:
    network = fit_head(parent, 2, tiles((120, 6)), NONE, NONE, recipe())
    assert network is not None
    found = probabilities(network, tiles((30, 30), seed=7).features).argmax(1)
    assert (found[30:] == 1).mean() > 0.7


def test_further_classes_begin_at_the_mean_of_the_biases(parent: HeadNetwork) -> None:
    wider = widened(parent, 4).eval()
    features = tiles((5, 5)).features
    with torch.inference_mode():
        old, new = parent.head_from_means(features), wider.head_from_means(features)
    torch.testing.assert_close(new[:, :2], old)
    torch.testing.assert_close(new[:, 2:], parent.head.fc3.bias.mean().expand(10, 2))
    learned = fit_head(parent, 3, tiles((20, 20, 20)), NONE, tiles((20, 20), 5), recipe())
    assert learned is not None
    assert accuracy(learned, tiles((20, 20, 20), seed=8)) > 0.9


def test_it_stops_within_a_batch_and_refuses_what_is_not_finite(parent: HeadNetwork) -> None:
    asked = iter([False, False, True])
    assert fit_head(parent, 2, tiles((64, 64)), NONE, NONE, recipe(), should_stop=lambda: next(asked)) is None
    assert next(asked, "over") == "over"
    broken = tiles((4, 4))
    broken.features[0, 0] = torch.nan
    with pytest.raises(DalaError, match="epoch 1: the loss is not finite; lower the learning rate"):
        fit_head(parent, 2, broken, NONE, NONE, recipe())


@given(
    st.lists(st.integers(0, 2), max_size=40).map(lambda labels: labels * 12),
    st.lists(st.integers(0, 3), max_size=40).map(lambda labels: labels * 12),
    st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_the_new_replay_is_half_old_half_new_where_there_is_enough(old: list[int], new: list[int], seed: int) -> None:
    def marked(labels: list[int], mark: float) -> ChannelMeans:
        features = torch.zeros(len(labels), CHANNELS)
        features[:, 0], features[:, 1] = mark, torch.tensor(labels, dtype=torch.float32)
        return ChannelMeans(features, torch.tensor(labels, dtype=torch.int64))

    replay = mixed_replay(marked(old, 1), marked(new, 2), seed)
    assert replay.features.dtype == torch.float16
    assert torch.equal(replay.features[:, 1].long(), replay.labels)
    for label in range(4):
        there = [(replay.features[replay.labels == label, 0] == mark).sum().item() for mark in (1, 2)]
        had = [old.count(label), new.count(label)]
        assert sum(there) == min(MOST_REPLAYED, sum(had))
        for side in (0, 1):
            assert min(had[side], MOST_REPLAYED // 2) <= there[side] <= had[side]


@pytest.mark.parametrize(("count", "epochs"), [(1, 60), (40, 30), (200, 9), (5000, 3)])
def test_about_sixty_steps(count: int, epochs: int) -> None:
    assert epochs_for(count, 32) == epochs
    assert epochs_for(count, 32, from_scratch=True) == pytest.approx(3 * epochs, abs=2) or count == 5000


def test_quick_loads_nothing_slow(lesson: Lesson, tmp_path: Path) -> None:
    one = SlideExamples(slide=lesson.slide, annotations=lesson.annotations, analysis=lesson.analysis)
    config = FinetuneConfig(name="new", model=str(lesson.model), slides=(one,), settings=recipe(epochs=1, threads=1))
    job = create_finetune_job(tmp_path / "job", config)
    code = (
        "import sys\nfrom napari_dala.training.finetune.finetune import run_finetune\n"
        f"assert run_finetune({str(job.folder)!r})\n"
        "slow = ('torchvision', 'lightning', 'torch._dynamo', 'qtpy', 'sklearn', 'matplotlib')\n"
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
