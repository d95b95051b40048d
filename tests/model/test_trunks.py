"""Any trunk: its name, its map, its Grad-CAM, its file, what comes of a file that does not fit."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from skimage.data import immunohistochemistry
from torchvision import models

from napari_dala.errors import BundleError
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import ModelBundle, load_bundle
from napari_dala.model.bundle_file import trunk_to_share
from napari_dala.model.bundle_head import load_head
from napari_dala.model.card import UNTRAINED_CARD, ModelCard
from napari_dala.model.card_page import card_page, card_table
from napari_dala.model.catalog import install_file, list_models
from napari_dala.model.convert import install_model
from napari_dala.model.gradcam import grad_cam
from napari_dala.model.importing.request import ImportRequest
from napari_dala.model.trunks.building import build_network, library_network, map_size
from napari_dala.model.trunks.importing import import_trunk
from napari_dala.model.trunks.names import NAMED, architecture_of, is_architecture
from napari_dala.model.weights import weights_of
from napari_dala.validation import checked
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.model.conftest import PeerGradCAM

SETTINGS: dict[str, Any] = {
    "classes": UNTRAINED_CARD.class_names,
    "mpp": 0.5,
    "name": "mine",
    "tile_px": 64,
    "preset": "imagenet",
}
TINY = "timm/vit_tiny_patch16_224"
TEACHER = "teacher.backbone"
KINDS = {  # tile side, channels, cell side
    "resnet50": (64, 2048, 32),
    "seresnet50": (64, 2048, 32),
    "densenet121": (64, 1024, 32),
    "swin_t": (64, 768, 32),
    "vit_b_16": (64, 768, 16),
    "dinov2_vitb14": (56, 768, 14),
    TINY: (64, 192, 16),
    "timm/swin_tiny_patch4_window7_224": (64, 768, 32),
    "timm/test_efficientnet": (64, 256, 32),
    "timm/test_vit2": (64, 64, 16),  # whose own pooling has a norm that no map needs
}


def brought(path: Path, trunk: str, **asked: Any) -> ModelBundle:
    """A bundle with the trunk of a file that a user brings."""
    return import_trunk(checked(ImportRequest, BundleError, file=path, trunk=trunk, **asked))


def tiles_of(side: int, count: int = 2) -> np.ndarray:
    """Tiles of a real photograph of stained tissue, (count, side, side, 3) uint8."""
    photograph = immunohistochemistry()
    corners = [(60 * number % 300, 90 * number % 300) for number in range(count)]
    return np.stack([photograph[y : y + side, x : x + side] for y, x in corners])


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small ViT as a self-supervised training leaves them: student and teacher, with a classifier."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    student, teacher = (timm.create_model("vit_tiny_patch16_224").state_dict() for _ in range(2))
    named = {f"student.backbone.{name}": tensor for name, tensor in student.items()}
    torch.save({"model": named | {f"teacher.backbone.{name}": tensor for name, tensor in teacher.items()}}, path)
    return path


@pytest.fixture(scope="module")
def tiny(tiny_file: Path) -> ModelBundle:
    """A bundle on it. Tests do not change it."""
    return brought(tiny_file, TINY, **SETTINGS, prefix=TEACHER, licence="For research alone.")


@pytest.mark.parametrize("name", KINDS)
def test_grad_cam_of_every_trunk_equals_the_peers(name: str, peer_grad_cam: PeerGradCAM) -> None:
    side, channels, cell_px = KINDS[name]
    architecture = architecture_of(name)
    assert map_size(architecture, side) == (channels, cell_px)
    torch.manual_seed(1)
    network = build_network(architecture, channels, side, 3).eval()
    network.trunk.requires_grad_(False)
    card = UNTRAINED_CARD.model_copy(
        update={"architecture": architecture, "channels": channels, "cell_px": cell_px, "tile_px": side}
    )
    card = card.model_copy(update={"classes": (*card.classes, card.classes[0].model_copy(update={"name": "third"}))})
    images = ModelBundle(network, card).normalize(torch.from_numpy(tiles_of(side)))
    logits, cams = grad_cam(network, images)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(images), rtol=1e-4, atol=1e-4)
    assert cams.shape == (2, 3, side // cell_px, side // cell_px)
    most = 0.0
    for index in range(3):
        expected = peer_grad_cam(network, network.attention, images, index)
        most = max(most, float(expected.max()))
        scale = expected.amax((1, 2), keepdim=True).clamp_min(1e-12)
        torch.testing.assert_close(cams[:, index] / scale, expected / scale, rtol=0, atol=1e-4)
    assert most > 0, "flat maps would make the comparison empty"


def test_the_patch_tokens_are_the_map(tiny: ModelBundle, tiny_file: Path) -> None:
    teacher = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64)
    weights = {
        name.removeprefix("teacher.backbone."): tensor.half().float() if tensor.ndim > 1 else tensor
        for name, tensor in torch.load(tiny_file, weights_only=True)["model"].items()
        if name.startswith("teacher.") and ".head." not in name
    }
    teacher.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(weights, teacher))
    images = tiny.normalize(torch.from_numpy(tiles_of(64)))
    with torch.no_grad():
        tokens = teacher.eval().forward_features(images)
        found = tiny.network.features(images)
    assert found.shape == (2, 192, 4, 4)
    torch.testing.assert_close(found[:, :, 1, 2], tokens[:, 1 + 4 + 2], rtol=1e-2, atol=2e-2)  # embeddings are rounded
    assert tokens.shape[1] == 1 + 16


def test_a_card_tells_where_its_trunk_is_from(tiny: ModelBundle, tiny_file: Path) -> None:
    card = tiny.card
    assert (card.architecture, card.channels, card.cell_px, card.trained) == (TINY, 192, 16, False)
    assert card.trunk_source is not None
    assert (card.trunk_source.file, card.trunk_source.licence) == (tiny_file.name, "For research alone.")
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
    for page in (card_page(card), card_table(card)):
        assert "For research alone." in page
        assert card.trunk_source.sha256 in page
    plain = card_table(UNTRAINED_CARD)
    assert "2048 channels, a cell of 32 px" in plain


def test_a_bundle_of_any_trunk_goes_through_a_file(tiny: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    tiny.save(path)
    whole, head = load_bundle(path), load_head(path)
    assert whole.hash == head.hash == tiny.hash
    assert whole.trunk_hash == head.trunk_hash == tiny.trunk_hash
    assert not any(part.is_meta for part in (*whole.network.parameters(), *whole.network.buffers()))
    other = ModelBundle(tiny.network, tiny.card.model_copy(update={"architecture": f"{TINY}?init_values=1e-05"}))
    assert other.trunk_hash != tiny.trunk_hash
    code = (
        "import sys; from napari_dala.model.bundle_head import load_head; print(load_head(sys.argv[1]).hash); "
        "assert not {'torchvision', 'timm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout.strip() == tiny.hash, done.stderr


@pytest.mark.parametrize("name", ["swin_t", "timm/swin_tiny_patch4_window7_224", "timm/test_vit2"])
def test_what_no_weight_fills_is_made_anew(name: str, tmp_path: Path) -> None:
    architecture = architecture_of(name)
    save_file(weights_of(library_network(architecture, 64)), tmp_path / "net.safetensors")
    found = brought(tmp_path / "net.safetensors", name, **SETTINGS)
    found.save(tmp_path / "bundle.safetensors")
    loaded = load_bundle(tmp_path / "bundle.safetensors")
    assert loaded.hash == found.hash
    assert not any(part.is_meta for part in loaded.network.buffers())
    images = loaded.normalize(torch.from_numpy(tiles_of(64)))
    with torch.no_grad():
        assert torch.equal(loaded.network(images), found.network(images))


@pytest.mark.parametrize("name", ["tiny", "densenet121"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tile_is_the_same_bits_in_any_company(name: str, precision: str, tiny: ModelBundle, tmp_path: Path) -> None:
    bundle = tiny
    if name == "densenet121":
        torch.manual_seed(2)
        save_file(models.densenet121(weights=None).state_dict(), tmp_path / "net.safetensors")
        bundle = brought(tmp_path / "net.safetensors", name, **SETTINGS)
    predictor = Predictor(bundle, "cpu", precision)
    tiles = tiles_of(64, predictor.batch_size + 1)
    whole, turned, alone = (predictor(some) for some in (tiles, tiles[::-1].copy(), tiles[2:3]))
    for part in ("probability", "cam", "features"):
        values = getattr(whole, part)
        assert np.array_equal(values, getattr(turned, part)[::-1]), part
        assert np.array_equal(values[2:3], getattr(alone, part)), part
    assert np.isfinite(whole.features).all()


def test_another_size_of_tile_is_refused_where_the_trunk_takes_none(tiny: ModelBundle) -> None:
    with pytest.raises(BundleError, match=r"takes squares of 64 px, not 128 x 96 px; use `dala analyze`"):
        tiny.network(torch.zeros(1, 3, 96, 128))


def test_names_people_use() -> None:
    assert all(is_architecture(architecture) for architecture in NAMED.values())
    assert architecture_of("resnet50") == "dalaresnet50"
    assert architecture_of(TINY) == TINY
    with pytest.raises(
        BundleError, match=r"^nothing: there is no trunk of this name; there are resnet50, .*timm/NAME$"
    ):
        architecture_of("nothing")


@pytest.mark.parametrize(
    ("name", "channels", "cell_px", "millions"),
    [
        ("uni", 1024, 16, 303),
        ("uni2-h", 1536, 14, 681),
        ("virchow", 1280, 14, 631),
        ("virchow2", 1280, 14, 631),
        ("h-optimus-0", 1536, 14, 1135),
        ("phikon", 768, 16, 86),
        ("phikon-v2", 1024, 16, 303),
        ("ctranspath", 768, 32, 27.5),
    ],
)
def test_the_networks_of_pathology_have_the_size_their_authors_say(
    name: str, channels: int, cell_px: int, millions: float
) -> None:
    assert map_size(NAMED[name], 224) == (channels, cell_px)
    with torch.device("meta"):
        network = library_network(NAMED[name], 224)
    assert sum(part.numel() for part in network.parameters()) / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize(
    "architecture",
    [
        "hf-hub:someone/something",
        "timm/hf-hub:someone/something",
        "timm/../../vit",
        "timm/vit_tiny_patch16_224?pretrained=true",
        "timm/vit_tiny_patch16_224?depth=1e9",
        "timm/vit_tiny_patch16_224?checkpoint_path=x",
        "timm/vit_tiny_patch16_224?mlp_layer=create_act",
        "timm/vit_tiny_patch16_224?depth=[1]",
        "timm/vit_tiny_patch16_224?depth=NaN",
        "resnet50",
        "",
    ],
)
def test_a_card_names_no_trunk_from_elsewhere(architecture: str) -> None:
    assert not is_architecture(architecture)
    with pytest.raises(ValueError, match="there is no trunk"):
        ModelCard.model_validate(UNTRAINED_CARD.model_dump() | {"architecture": architecture})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tile_px": 100}, "tile_px must be a multiple of 32, found 100"),
        ({"channels": 1024}, "channels and cell_px of dalaresnet50 are 2048 and 32"),
        ({"architecture": TINY, "cell_px": 14, "tile_px": 64}, "tile_px must be a multiple of 14"),
    ],
)
def test_a_card_that_does_not_fit_itself(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ModelCard.model_validate(UNTRAINED_CARD.model_dump() | changes)


@pytest.mark.parametrize(
    ("trunk", "options", "reason"),
    [
        ("densenet121", {}, r"tiny\.pth: it holds no single network of this kind"),
        ("timm/vit_small_patch16_224", {}, r"tiny\.pth: .* has shape \(.*192.*\), expected \(.*384.*\)"),
        ("timm/nothing", {}, "has no network nothing"),
        (TINY, {"tile_px": 100}, "100 px"),
        (f"{TINY}?num_heads=0", {}, "timm cannot build it for tiles of 64 px"),
        (TINY, {"mpp": 900.0}, r"mpp: 900 is no plausible resolution"),
        ("uni", {}, r"tiny\.pth: the tensor .* is missing"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(tiny_file: Path, trunk: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BundleError, match=reason) as raised:
        brought(tiny_file, trunk, **SETTINGS | {"prefix": TEACHER} | options)
    assert "\n" not in str(raised.value)


def as_transformers_has_it(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A ViT of timm's under the names that its class in transformers gives."""
    names = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.fc1": "intermediate.dense"}
    names |= {"mlp.fc2": "output.dense", "attn.proj": "attention.output.dense"}
    found = {"embeddings.cls_token": state["cls_token"], "embeddings.position_embeddings": state["pos_embed"]}
    for name, tensor in state.items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            layer = f"encoder.layer.{number}"
            if part == "attn.qkv":
                for one, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    found[f"{layer}.attention.attention.{one}.{kind}"] = third
            else:
                found[f"{layer}.{names[part]}.{kind}"] = tensor
        elif name.startswith("patch_embed.proj."):
            found[name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")] = tensor
        elif name.startswith("norm."):
            found[f"layer{name}"] = tensor
    return {f"vit.{name}": tensor for name, tensor in found.items()} | {"pooler.dense.bias": torch.zeros(3)}


def test_the_names_of_transformers_are_understood(tiny: ModelBundle, tmp_path: Path) -> None:
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()
    theirs = {name: tensor.clone() for name, tensor in as_transformers_has_it(state).items()}
    save_file(theirs, tmp_path / "theirs.safetensors")
    save_file(state, tmp_path / "timms.safetensors")
    one, other = (brought(tmp_path / f"{whose}.safetensors", TINY, **SETTINGS) for whose in ("theirs", "timms"))
    assert one.trunk_hash == other.trunk_hash != tiny.trunk_hash
    del theirs["vit.encoder.layer.3.attention.attention.key.weight"]
    save_file(theirs, tmp_path / "cut.safetensors")
    with pytest.raises(BundleError, match=r"cut\.safetensors: blocks\.3\.attn\.qkv\.weight has shape"):
        brought(tmp_path / "cut.safetensors", TINY, **SETTINGS)


def test_ctranspaths_file_has_its_stages_numbered_as_swins_authors_did(tmp_path: Path) -> None:
    """Its own stem, downsampling at the end of a stage, and buffers that timm makes itself now."""
    state = library_network(NAMED["ctranspath"], 64).state_dict()
    old = {"head.weight": torch.zeros(2, 768), "layers.0.blocks.1.attn_mask": torch.zeros(4, 49, 49)}
    for name, tensor in state.items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        old[".".join(parts)] = tensor
    save_file(old, tmp_path / "ctranspath.safetensors")
    found = brought(tmp_path / "ctranspath.safetensors", "ctranspath", **SETTINGS)
    assert (found.card.channels, found.card.cell_px) == (768, 32)
    trunk = found.network.trunk.state_dict()
    for name in ("patch_embed.proj.0.weight", "layers.2.downsample.norm.weight", "layers.3.blocks.1.mlp.fc2.bias"):
        torch.testing.assert_close(trunk[f"body.{name}"], state[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("names", "prefix", "taken"),
    [
        (("student.backbone.", "teacher.backbone."), None, "model.student.backbone, model.teacher.backbone"),
        (("student.backbone.", "teacher.backbone."), "student.backbone", 0),
        (("", "model_ema."), ".", 0),
        (("", "model_ema."), None, "., model_ema"),
        (("backbone.", "semantic_backbone."), None, "backbone, semantic_backbone"),
        (("encoder_q.", "encoder_k."), None, 0),
        (("base_encoder.", "momentum_encoder."), None, 0),
        (("backbone.", "momentum_backbone."), "momentum_backbone", 1),
    ],
)
def test_which_of_two_networks_is_taken(
    names: tuple[str, str], prefix: str | None, taken: int | str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    states = [timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict() for _ in names]
    both = {begin + name: each for begin, state in zip(names, states, strict=True) for name, each in state.items()}
    torch.save({"model": both} if "student.backbone." in names else both, tmp_path / "two.pth")
    if isinstance(taken, str):
        with pytest.raises(BundleError, match=rf"two\.pth: it holds no single .*it holds {re.escape(taken)}\)"):
            brought(tmp_path / "two.pth", TINY, **SETTINGS, prefix=prefix)
        return
    found = brought(tmp_path / "two.pth", TINY, **SETTINGS, prefix=prefix)
    weight = "blocks.0.mlp.fc1.weight"
    torch.testing.assert_close(
        found.network.trunk.state_dict()[f"body.{weight}"], states[taken][weight], rtol=1e-3, atol=1e-4
    )
    assert found.card.training.get("taken_from", "").endswith(names[taken].strip("."))


def test_two_networks_of_transformers_are_told_apart(tmp_path: Path) -> None:
    torch.manual_seed(1)
    states = [timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict() for _ in range(2)]
    save_file(
        {
            f"{who}.{name}": tensor.clone()
            for who, state in zip(("one", "two"), states, strict=True)
            for name, tensor in as_transformers_has_it(state).items()
        },
        tmp_path / "both.safetensors",
    )
    with pytest.raises(BundleError, match=r"it holds one\.vit, two\.vit"):
        brought(tmp_path / "both.safetensors", TINY, **SETTINGS)
    found = brought(tmp_path / "both.safetensors", TINY, **SETTINGS, prefix="two.vit")
    weight = "blocks.0.attn.qkv.weight"
    torch.testing.assert_close(
        found.network.trunk.state_dict()[f"body.{weight}"], states[1][weight], rtol=1e-3, atol=1e-4
    )


def test_a_card_that_says_other_cells_is_no_bundle(tiny: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    replace(tiny, card=tiny.card.model_copy(update={"cell_px": 32})).save(path)
    with pytest.raises(BundleError, match="cells of 32 px, its trunk has 192 and 16"):
        load_bundle(path)


def test_a_model_called_bundle_shares_its_trunk_with_what_learns_on_it(
    tiny: ModelBundle, tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's result has that name too."""
    parent = install_model(tiny, "bundle")
    (tmp_path / "result").mkdir()
    child = tmp_path / "result" / parent.name
    tiny.save(child, trunk_of=parent.name)
    assert load_bundle(child).hash == tiny.as_stored().hash
    copied = install_model(child, "learned")
    assert load_bundle(copied).hash == tiny.as_stored().hash
    alone = install_model(child, "alone", tmp_path / "elsewhere")
    monkeypatch.setenv("DALA_WORKSPACE", str(tmp_path / "nothing"))
    assert load_bundle(alone).hash == tiny.as_stored().hash, "copied where its trunk is not, it has its own"


def test_a_damaged_bundle_of_another_trunk(tiny: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    tiny.save(path)
    cut = load_file(path)
    del cut["trunk.body.norm.weight"]
    save_file(cut, path, {"card": tiny.card.model_dump_json()})
    with pytest.raises(BundleError, match=r"tiny\.safetensors: the tensor trunk\.body\.norm\.weight is missing"):
        load_bundle(path)
    for wrong in ("head.fc1.weight", "attention.fc.bias"):
        save_file(cut | {wrong: torch.zeros(3)}, path, {"card": tiny.card.model_dump_json()})
        with pytest.raises(BundleError, match=wrong):
            load_head(path)


def test_a_large_trunk_is_not_copied(
    tiny: ModelBundle, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = install_model(tiny)
    assert trunk_to_share(parent) is None  # small: a copy makes a model whole by itself
    monkeypatch.setattr("napari_dala.model.bundle_file._LARGE", 1 << 20)
    assert trunk_to_share(None) is None
    assert trunk_to_share(tmp_path / "elsewhere.safetensors") is None
    assert trunk_to_share(parent) == "mine.safetensors"
    result = tmp_path / "job" / "bundle.safetensors"
    result.parent.mkdir()
    head = load_head(parent)
    child = head.with_head(head.network, head.card.model_copy(update={"name": "child"}), None)
    child.save(result, trunk_of=trunk_to_share(parent))
    assert result.stat().st_size < parent.stat().st_size / 5
    assert load_bundle(result).hash == child.hash
    installed = install_file(result, "child", workspace)
    assert installed.path is not None
    assert trunk_to_share(installed.path) is None or trunk_to_share(installed.path) == "mine.safetensors"
    assert load_head(installed.path).trunk_hash == tiny.trunk_hash
    assert {"child", "mine"} <= {entry.name for entry in list_models()}

    other = tiny.network.trunk.state_dict()
    other["body.norm.bias"] += 1
    ModelBundle(tiny.network, tiny.card).save(models_folder() / "mine.safetensors")
    with pytest.raises(
        BundleError, match=r"mine\.safetensors has another trunk now than the one this model was made on"
    ):
        load_head(result)
    other["body.norm.bias"] -= 1
    parent.unlink()
    with pytest.raises(BundleError, match=r"its trunk is that of mine\.safetensors, which must lie in the same folder"):
        load_head(result)
