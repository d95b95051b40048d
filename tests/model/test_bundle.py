from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_dala.errors import BundleError
from napari_dala.model.bundle import (
    ModelBundle,
    Replay,
    load_bundle,
    load_model,
    seeded_network,
    untrained,
)
from napari_dala.model.bundle_head import load_head
from napari_dala.model.card import UNTRAINED_CARD, ClassInfo
from napari_dala.model.tensor_file import read_header
from napari_dala.model.weights import weights_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOADERS = pytest.mark.parametrize("load", [load_bundle, load_head])


def _unsealed(path: Path) -> dict[str, str]:
    """The metadata of a bundle as older versions wrote it, without a checksum."""
    return {name: value for name, value in read_header(path).metadata.items() if name != "sha256"}


def _put(name: str, value: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: value})


def _first_is(name: str, value: float) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[0].fill_(value)


def test_round_trip_keeps_the_model(bundle: ModelBundle, saved: Path, images: Tensor, tmp_path: Path) -> None:
    loaded = load_bundle(saved)
    assert loaded.path == saved
    assert loaded.card == bundle.card
    assert loaded.hash == bundle.hash
    assert loaded.trunk_hash == bundle.trunk_hash
    assert not loaded.network.training
    assert {parameter.dtype for parameter in loaded.network.parameters()} == {torch.float32}
    with torch.no_grad():
        assert torch.equal(loaded.network(images[:1]), bundle.network(images[:1]))
    again = tmp_path / "again.safetensors"
    loaded.save(again)
    assert load_bundle(again).hash == bundle.hash


def test_a_loaded_network_can_be_trained_and_moved(saved: Path) -> None:
    network = load_bundle(saved).network
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(tensor.is_meta for tensor in network.state_dict().values())


def test_matrices_are_float16_and_vectors_float32_in_the_file(saved: Path) -> None:
    for name, tensor in load_file(saved).items():
        assert tensor.dtype == (torch.float16 if tensor.ndim >= 2 else torch.float32), name
    assert read_header(saved).metadata["bits"] == "16"


def test_rounding_is_what_saving_does(tmp_path: Path) -> None:
    basis = torch.linspace(-1, 1, 2048 * 128).reshape(2048, 128)
    familiarity = {"mean": torch.rand(128), "precision": torch.rand(128, 128)}
    exact = ModelBundle(seeded_network(2, seed=5), UNTRAINED_CARD, basis, familiarity)
    rounded = exact.as_stored()
    exact.save(tmp_path / "full.safetensors")
    loaded = load_bundle(tmp_path / "full.safetensors")
    assert loaded.hash == rounded.hash == rounded.as_stored().hash != exact.hash
    assert loaded.basis is not None
    assert loaded.familiarity is not None
    assert torch.equal(loaded.basis, basis.half().float())
    assert set(loaded.familiarity) == {"mean", "precision"}
    assert torch.equal(loaded.familiarity["mean"], familiarity["mean"])
    with pytest.raises(ValueError, match="16 or 10 bits, not 8"):
        exact.save(tmp_path / "other.safetensors", bits=8)
    assert [path.name for path in tmp_path.iterdir()] == ["full.safetensors"]


def test_hashes_follow_the_statistics(bundle: ModelBundle) -> None:
    with_basis = ModelBundle(bundle.network, bundle.card, torch.zeros((2048, 128)))
    with_both = ModelBundle(bundle.network, bundle.card, torch.zeros((2048, 128)), {"mean": torch.zeros(128)})
    assert len({bundle.hash, with_basis.hash, with_both.hash}) == 3
    assert with_basis.trunk_hash != bundle.trunk_hash  # stored layer4 maps are projected on the basis
    assert with_basis.trunk_hash == with_both.trunk_hash


@pytest.mark.parametrize(
    ("field", "value", "changes_hash", "changes_trunk"),
    [
        ("mpp", 0.25, True, True),
        ("tile_px", 256, True, True),
        ("mean", (0.5, 0.5, 0.5), True, True),
        ("std", (0.5, 0.5, 0.5), True, True),
        ("temperature", 2.0, True, False),
        (
            "classes",
            (ClassInfo(name="a", color=(0, 0, 0)), ClassInfo(name="b", color=(0, 0, 0))),
            True,
            False,
        ),
        ("summary", "in other words", False, False),
        ("operating_threshold", 0.9, False, False),
    ],
)
def test_hash_follows_what_changes_outputs(
    bundle: ModelBundle, field: str, value: object, changes_hash: bool, changes_trunk: bool
) -> None:
    other = ModelBundle(bundle.network, bundle.card.model_copy(update={field: value}))
    assert (other.hash != bundle.hash) == changes_hash
    assert (other.trunk_hash != bundle.trunk_hash) == changes_trunk


@pytest.mark.parametrize(("part", "same_trunk"), [("head.fc3.bias", True), ("trunk.bn1.running_var", False)])
def test_hash_follows_every_weight(bundle: ModelBundle, part: str, same_trunk: bool) -> None:
    network = untrained().network
    network.state_dict()[part][0] += 1e-3
    other = ModelBundle(network, bundle.card)
    assert other.hash != bundle.hash
    assert (other.trunk_hash == bundle.trunk_hash) == same_trunk


@LOADERS
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("head.fc2.bias"), r"the tensor head\.fc2\.bias is missing"),
        (lambda t: t.pop("trunk.layer1.0.bn3.bias"), r"the tensor trunk\.layer1\.0\.bn3\.bias is missing"),
        (_put("head.fc4.bias", torch.zeros(2)), r"the tensor head\.fc4\.bias is not part of DALAResNet50"),
        (_put("head.fc3.weight", torch.zeros(3, 128)), r"head\.fc3\.weight has shape \(3, 128\), expected \(2, 128\)"),
        (_put("trunk.bn1.bias", torch.zeros(3)), r"trunk\.bn1\.bias has shape \(3,\), expected \(64,\)"),
        (_put("basis", torch.zeros(2048, 64)), r"basis has shape \(2048, 64\), expected \(2048, 128\)"),
        (_put("basis", torch.full((2048, 128), torch.nan)), r"basis holds NaN"),
        (_put("replay.labels", torch.zeros(2, dtype=torch.int64)), r"replay\.features and replay\.labels belong"),
        (_first_is("trunk.layer3.0.conv1.weight", float("nan")), r"trunk\.layer3\.0\.conv1\.weight holds NaN"),
        (_first_is("trunk.bn1.running_var", float("inf")), r"trunk\.bn1\.running_var holds NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    saved: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], reason: str, load: Callable[..., object]
) -> None:
    tensors = load_file(saved)
    change(tensors)
    path = tmp_path / "bad.safetensors"
    save_file(tensors, path, _unsealed(saved))
    with pytest.raises(BundleError, match=rf"^bad\.safetensors: {reason}") as error:
        load(path)
    assert "\n" not in str(error.value)


@LOADERS
def test_truncated_bundle_is_refused(saved: Path, tmp_path: Path, load: Callable[..., object]) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:1_000_000])
    with pytest.raises(BundleError, match=r"^cut\.safetensors: the file is truncated"):
        load(path)


@LOADERS
def test_missing_card_is_refused(saved: Path, tmp_path: Path, load: Callable[..., object]) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(load_file(saved), path)
    with pytest.raises(BundleError, match=r"^bare\.safetensors: it has no model card"):
        load(path)


def test_replayed_features_go_with_the_bundle_and_change_no_hash(bundle: ModelBundle, tmp_path: Path) -> None:
    replay = Replay(torch.rand(5, 2048).half(), torch.tensor([0, 1, 0, 1, 1]))
    rich = ModelBundle(bundle.network, bundle.card, replay=replay)
    assert rich.hash == bundle.hash
    assert rich.trunk_hash == bundle.trunk_hash
    assert rich.as_stored().replay is replay
    rich.save(tmp_path / "rich.safetensors")
    for load in (load_bundle, load_head):
        loaded = load(tmp_path / "rich.safetensors")
        assert loaded.replay is not None
        assert torch.equal(loaded.replay.features, replay.features)
        assert torch.equal(loaded.replay.labels, replay.labels)
        assert loaded.hash == bundle.hash


@pytest.mark.parametrize(
    ("features", "labels", "reason"),
    [
        (torch.zeros(3, 2048), torch.zeros(3, dtype=torch.int64), r"replay\.features is float32 \(3, 2048\), expected"),
        (torch.zeros(3, 64).half(), torch.zeros(3, dtype=torch.int64), r"replay\.features is float16 \(3, 64\)"),
        (torch.zeros(3, 2048).half(), torch.zeros(2, dtype=torch.int64), r"replay\.labels is int64 \(2,\), expected"),
        (torch.zeros(3, 2048).half(), torch.zeros(3), r"replay\.labels is float32"),
        (torch.full((1, 2048), torch.inf).half(), torch.tensor([0]), r"replay\.features holds NaN or inf"),
        (torch.zeros(2, 2048).half(), torch.tensor([0, 2]), r"replay\.labels must be 0 to 1"),
        (torch.zeros(2, 2048).half(), torch.tensor([-1, 0]), r"replay\.labels must be 0 to 1"),
    ],
)
def test_replayed_features_that_do_not_fit_are_refused(
    bundle: ModelBundle, features: Tensor, labels: Tensor, reason: str
) -> None:
    with pytest.raises(BundleError, match=f"^untrained: {reason}"):
        ModelBundle(bundle.network, bundle.card, replay=Replay(features, labels))


def test_card_and_network_must_agree(bundle: ModelBundle) -> None:
    third = ClassInfo(name="third", color=(0, 0, 0))
    card = bundle.card.model_copy(update={"classes": (*bundle.card.classes, third)})
    with pytest.raises(BundleError, match="the card has 3 classes, the network 2"):
        ModelBundle(bundle.network, card)


@pytest.mark.parametrize(("value", "reason"), [(1e6, "beyond 65504"), (float("nan"), "NaN")])
def test_saving_refuses_what_it_could_not_load(tmp_path: Path, value: float, reason: str) -> None:
    broken = untrained()
    with torch.no_grad():
        broken.network.head.fc3.weight[0, 0] = value
    target = tmp_path / "old.safetensors"
    target.write_bytes(b"old")
    with pytest.raises(BundleError, match=rf"head\.fc3\.weight.*{reason}"):
        broken.save(target)
    assert target.read_bytes() == b"old"


def test_the_untrained_model_is_the_same_every_time(bundle: ModelBundle) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    loaded = load_model("untrained")
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.hash == bundle.hash
    assert loaded.card.warning
    assert loaded.path is None


def test_load_model_by_path_and_unknown_name(bundle: ModelBundle, saved: Path) -> None:
    assert load_model(str(saved)).hash == bundle.hash
    with pytest.raises(BundleError, match=r"models: breakhis-ucsb, teaching-slide, untrained$"):
        load_model("nothing like it")


def test_pixels_in_and_probabilities_out(bundle: ModelBundle) -> None:
    tiles = torch.randint(0, 256, (2, 64, 32, 3), dtype=torch.uint8)
    found = bundle.normalize(tiles)
    mean, std = torch.tensor(bundle.card.mean), torch.tensor(bundle.card.std)
    torch.testing.assert_close(found, ((tiles.double() / 255 - mean) / std).permute(0, 3, 1, 2).float())
    assert found.is_contiguous(memory_format=torch.channels_last)
    warm = ModelBundle(bundle.network, bundle.card.model_copy(update={"temperature": 2.0}))
    logits = torch.tensor([[0.0, 2.0]])
    torch.testing.assert_close(warm.probabilities(logits), torch.softmax(torch.tensor([[0.0, 1.0]]), 1))


@pytest.mark.skipif(sys.platform != "linux", reason="RTLD_DEEPBIND is glibc's")
def test_whoever_looks_for_triton_gets_its_library_first() -> None:
    pytest.importorskip("triton")
    code = (
        "import napari_dala, importlib.util, pathlib, sys; maps = pathlib.Path('/proc/self/maps'); "
        "assert 'libtriton' not in maps.read_text(); importlib.util.find_spec('triton'); "
        "assert 'libtriton' in maps.read_text(); "
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ten_bits_are_a_model_of_their_own(tmp_path: Path) -> None:
    familiarity = {"precision": torch.rand(128, 128)}
    exact = ModelBundle(seeded_network(2, seed=5), UNTRAINED_CARD, torch.rand((2048, 128)), familiarity)
    rounded = exact.as_stored(bits=10)
    assert rounded.as_stored(bits=10).hash == rounded.as_stored(bits=16).hash == rounded.hash
    exact.save(tmp_path / "small.safetensors", bits=10)
    rounded.save(tmp_path / "full.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 0.64 * (tmp_path / "full.safetensors").stat().st_size
    for name in ("small", "full"):
        path = tmp_path / f"{name}.safetensors"
        assert load_bundle(path).hash == load_head(path).hash == rounded.hash
        assert load_head(path).trunk_hash == rounded.trunk_hash
    assert torch.equal(rounded.familiarity["precision"], familiarity["precision"].half().float())
    before, after = (weights_of(one.network) for one in (exact, rounded))
    for name, tensor in before.items():
        if tensor.ndim < 2:
            assert torch.equal(after[name], tensor)
        else:
            most = tensor.flatten(1).abs().amax(1, keepdim=True)
            assert ((after[name] - tensor).flatten(1).abs() <= most / 505 / 2 * 1.5 * 1.001).all(), name


def test_torn_ten_bits_are_said(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    untrained().save(path, bits=10)
    tensors = load_file(path)
    del tensors["trunk.conv1.weight.scale"]
    save_file(tensors, path, _unsealed(path))
    with pytest.raises(BundleError, match=r"small.safetensors: trunk.conv1.weight is packed"):
        load_bundle(path)
