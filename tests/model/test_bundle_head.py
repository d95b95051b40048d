"""A bundle read, changed and written without its trunk is the bundle that was read whole."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from napari_dala.errors import BundleError
from napari_dala.model.bundle import ModelBundle, Replay, load_bundle, seeded_network
from napari_dala.model.bundle_head import BundleHead, load_head
from napari_dala.model.card import UNTRAINED_CARD, ClassInfo
from napari_dala.model.head import HeadNetwork

if TYPE_CHECKING:
    from pathlib import Path

THREE = UNTRAINED_CARD.model_copy(
    update={"classes": (*UNTRAINED_CARD.classes, ClassInfo(name="third", color=(0, 160, 80))), "name": "three"}
)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A bundle with everything a file can hold, loaded from one."""
    path = tmp_path_factory.mktemp("full") / "full.safetensors"
    basis = torch.linspace(-1, 1, 2048 * 128).reshape(2048, 128)
    replay = Replay(torch.rand(4, 2048).half(), torch.tensor([0, 1, 0, 1]))
    ModelBundle(seeded_network(2, seed=5), UNTRAINED_CARD, basis, {"mean": torch.rand(128)}, replay).save(path)
    return load_bundle(path)


def test_it_is_the_bundle_in_the_file(full: ModelBundle) -> None:
    assert full.path is not None
    for head in (load_head(full.path), BundleHead.of(full)):
        assert (head.hash, head.trunk_hash) == (full.hash, full.trunk_hash)
        assert (head.card, head.path) == (full.card, full.path)
        assert head.basis is not None
        assert torch.equal(head.basis, full.basis)
        assert head.familiarity is not None
        assert head.replay is not None
        means = torch.rand(3, 2048)
        with torch.no_grad():
            assert torch.equal(head.network.head_from_means(means), full.network.head_from_means(means))
        assert not head.network.training
        assert all(parameter.requires_grad for parameter in head.network.parameters())


def test_another_head_goes_on_the_same_trunk_bit_for_bit(full: ModelBundle, tmp_path: Path) -> None:
    assert full.path is not None
    old = load_head(full.path)
    network = HeadNetwork(3)
    replay = Replay(torch.rand(3, 2048).half(), torch.tensor([0, 1, 2]))
    new = old.with_head(network, THREE, replay)
    assert new.hash != old.hash
    assert new.trunk_hash == old.trunk_hash

    path = tmp_path / "new.safetensors"
    new.save(path)
    before, after = load_file(full.path), load_file(path)
    for name, tensor in before.items():
        if name.startswith(("trunk.", "basis", "familiarity.")):
            assert after[name].dtype == tensor.dtype
            assert torch.equal(after[name], tensor), name
    loaded = load_bundle(path)
    assert (loaded.hash, loaded.trunk_hash) == (new.hash, new.trunk_hash)
    assert loaded.card == THREE
    assert loaded.replay is not None
    assert torch.equal(loaded.replay.labels, replay.labels)
    means = torch.rand(3, 2048)
    with torch.no_grad():
        assert torch.equal(new.network.head_from_means(means), loaded.network.head_from_means(means))
        assert not torch.equal(new.network.head_from_means(means), network.eval().head_from_means(means))  # rounded
        network.head.fc3.bias += 1  # training on leaves what was given
        assert torch.equal(new.network.head_from_means(means), loaded.network.head_from_means(means))


def test_a_head_that_does_not_fit_is_refused(full: ModelBundle, tmp_path: Path) -> None:
    old = BundleHead.of(full)
    with pytest.raises(BundleError, match="three: the card has 3 classes, the network 2"):
        old.with_head(HeadNetwork(2), THREE, None)
    with pytest.raises(BundleError, match=r"three: replay\.labels must be 0 to 2"):
        old.with_head(HeadNetwork(3), THREE, Replay(torch.zeros(1, 2048).half(), torch.tensor([3])))
    network = HeadNetwork(3)
    for value, reason in ((1e6, "values beyond 65504"), (torch.nan, "holds NaN")):
        with torch.no_grad():
            network.head.fc2.weight[0, 0] = value
        with pytest.raises(BundleError, match=rf"three: head\.fc2\.weight.*{reason}"):
            old.with_head(network, THREE, None)


def test_the_untrained_model_has_a_head_too(bundle: ModelBundle) -> None:
    head = load_head("untrained")
    assert (head.hash, head.trunk_hash) == (bundle.hash, bundle.trunk_hash)
    assert head.path is None
    with pytest.raises(BundleError, match=r"models: breakhis-ucsb, teaching-slide, untrained$"):
        load_head("nothing like it")


def test_a_file_may_leave_its_trunk_to_another(full: ModelBundle, tmp_path: Path) -> None:
    whole, small = tmp_path / "whole.safetensors", tmp_path / "small.safetensors"
    full.save(whole)
    network = HeadNetwork(3)
    other = load_head(whole).with_head(network, THREE, None)
    other.save(small, trunk_of=whole.name)
    assert small.stat().st_size < whole.stat().st_size / 3
    loaded = load_head(small)
    assert (loaded.hash, loaded.trunk_hash) == (other.hash, full.trunk_hash)
    assert load_bundle(small).hash == other.hash
    whole.unlink()
    with pytest.raises(BundleError, match=r"^small\.safetensors: its trunk is that of whole\.safetensors, which must"):
        load_head(small)


def test_no_torchvision_is_needed(full: ModelBundle, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from napari_dala.model.bundle_head import load_head; "
        "import napari_dala.analysis.rescore, napari_dala.model.gradcam; "
        "head = load_head(sys.argv[1]); head = head.with_head(head.network, head.card, head.replay); "
        "head.save(pathlib.Path(sys.argv[2])); print(head.hash, head.trunk_hash); "
        "assert not {'torchvision', 'lightning', 'napari_dala.model.dalaresnet'} & set(sys.modules)"
    )
    path = tmp_path / "again.safetensors"
    done = subprocess.run([sys.executable, "-c", code, str(full.path), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [full.hash, full.trunk_hash]
    assert load_bundle(path).hash == full.hash
