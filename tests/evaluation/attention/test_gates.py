from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_dala.datasets.folders import load_dataset
from napari_dala.evaluation.attention.gates import AS_TRAINED, MEAN_GATE, OFF, ONE_NUMBER, gates_of
from napari_dala.evaluation.attention.panels import beyond_chance
from napari_dala.evaluation.attention.report import AttentionStudy
from napari_dala.evaluation.photographs import evaluate
from napari_dala.metrics.paired import mean_figures
from napari_dala.metrics.scores import Estimate, class_differences
from napari_dala.model.bundle import ModelBundle, Replay, untrained
from napari_dala.model.gradcam import channel_contributions
from tests.noise import noise_folders

if TYPE_CHECKING:
    from napari_dala.datasets.images import ImageDataset


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    """Two classes of coloured noise, three patients each, one photograph of two squares each."""
    root = noise_folders(tmp_path_factory.mktemp("photographs") / "noise", 3, 1, (64, 128))
    return load_dataset("folder", root).with_mpp(0.5)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    """A random network for tiles of 64 px whose gates and head answer to the tile."""
    made = untrained()
    made.card = made.card.model_copy(update={"tile_px": 64, "mpp": 0.5, "temperature": 1.0})
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made.network.attention.fc.weight.normal_(0, 0.3)
    return made


def test_every_variant_is_the_network_with_other_gates(photographs: ImageDataset, bundle: ModelBundle) -> None:
    everything = np.arange(len(photographs))
    found = gates_of(bundle, photographs, everything, device="cpu", n_boot=50)
    whole = evaluate(bundle, photographs, device="cpu", n_boot=0)
    np.testing.assert_allclose(found.probabilities[AS_TRAINED], whole.probabilities, atol=1e-5)
    assert (found.tiles, found.gates.shape) == (12, (12, 2048))
    assert not found.mean_of_training
    off = ModelBundle(bundle.network, bundle.card)
    weight, bias = bundle.network.attention.fc.weight.clone(), bundle.network.attention.fc.bias.clone()
    mean = torch.from_numpy(found.gates).mean(0)
    cases = {OFF: torch.full_like(mean, -50.0), MEAN_GATE: torch.logit(mean), ONE_NUMBER: torch.logit(mean.mean())}
    try:
        for name, values in cases.items():
            with torch.no_grad():
                bundle.network.attention.fc.weight.zero_()
                bundle.network.attention.fc.bias.copy_(values.expand(2048))
            expected = evaluate(off, photographs, device="cpu", n_boot=0).probabilities
            np.testing.assert_allclose(found.probabilities[name], expected, atol=1e-5, err_msg=name)
    finally:
        with torch.no_grad():
            bundle.network.attention.fc.weight.copy_(weight)
            bundle.network.attention.fc.bias.copy_(bias)
    assert not np.allclose(found.probabilities[OFF], found.probabilities[AS_TRAINED], atol=1e-6)

    assert found.shares.sum(1) == pytest.approx([1, 1], abs=1e-4)
    first = next(iter(found.driving))
    assert first == found.shares[found.target].argmax()
    tile = found.driving[first][0]
    assert tile.square[1] == 2
    np.testing.assert_allclose(
        [one.value for one in found.differences], found.gates[6:].mean(0) - found.gates[:6].mean(0), atol=1e-6
    )


def test_a_stored_sample_of_training_gives_the_mean_gate(photographs: ImageDataset, bundle: ModelBundle) -> None:
    features = torch.rand(8, 2048, generator=torch.Generator().manual_seed(0)).half()
    stored = ModelBundle(bundle.network, bundle.card, replay=Replay(features, torch.arange(8) % 2))
    some = np.array([0, 1, 4])
    found, bare = (gates_of(one, photographs, some, device="cpu", n_boot=0) for one in (stored, bundle))
    assert found.mean_of_training
    np.testing.assert_array_equal(found.probabilities[OFF], bare.probabilities[OFF])
    assert not np.allclose(found.probabilities[MEAN_GATE], bare.probabilities[MEAN_GATE], atol=1e-7)
    study = AttentionStudy(photographs, (found, bare), "dala attention", n_boot=0)
    assert study.scores[OFF]["recall 0"].value == pytest.approx(
        (found.probabilities[OFF].argmax(1)[:2] == 0).mean(), abs=1e-6
    )
    assert any("training tiles" in note for note in AttentionStudy(photographs, (found,), "").notes)


def test_contributions_add_to_the_logit_less_its_biases(bundle: ModelBundle) -> None:
    network = bundle.network
    means = torch.rand(5, 2048, generator=torch.Generator().manual_seed(1))
    logits, added = channel_contributions(network, means)
    # Piecewise linear: the logit at v is the slope times v, and what it would be at 0 on the same piece.
    step = 1e-3
    with torch.no_grad():
        pooled = means * (1 + network.attention.gains(means))
        slope = (network.head(pooled * (1 + step)) - network.head(pooled * (1 - step))) / (2 * step)
        assert torch.allclose(logits, network.head(pooled), atol=1e-5)
    assert torch.allclose(added.sum(2), slope, rtol=0.02, atol=2e-3)


def test_differences_of_classes_are_of_draws_of_patients() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 5)
    labels = groups % 2
    values = np.stack([labels + rng.normal(0, 0.1, 40), rng.normal(0, 1, 8)[groups]], 1)
    clear, unclear = class_differences(values, labels, groups, n_boot=500)
    assert clear.value == pytest.approx(values[labels == 1, 0].mean() - values[labels == 0, 0].mean())
    assert clear.low > 0.8  # type: ignore[operator]
    assert unclear.high - unclear.low > 1  # type: ignore[operator]


def test_figures_of_runs_are_means_of_each_runs_own() -> None:
    truth = np.array([0, 0, 1, 1])
    right, all_benign = np.eye(2)[truth], np.eye(2)[[0, 0, 0, 0]]
    names = ("recall 0", "recall 1", "gmean")
    found = mean_figures(truth, np.stack([right, all_benign]), figures=names, n_boot=0)
    assert [found[name].value for name in names] == [1, 0.5, 0.5]


def test_what_leaves_0_out_is_said_with_how_many_were_looked_at() -> None:
    clear, unclear, bare = Estimate(-0.2, -0.3, -0.1), Estimate(0.1, -0.1, 0.3), Estimate(0.0)
    said = beyond_chance({"off": {"recall 1": clear, "gmean": unclear}, "mean": {"recall 1": bare}}, ("no", "Yes"))
    assert said[0] == "off: Recall Yes lower by 0.200 (-0.300 to -0.100)."
    assert said[1].startswith("3 differences")
    assert len(said) == 2
    assert "do not tell" in beyond_chance({"off": {"gmean": unclear}}, ("no", "yes"))[0]
