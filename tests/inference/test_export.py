"""An exported model gives the card's probabilities to a process that has never heard of this project."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from napari_dala.errors import BundleError
from napari_dala.inference import export
from napari_dala.inference.export import TOLERANCE, export_model
from napari_dala.inference.predictor import Prediction, Predictor
from napari_dala.model.bundle import ModelBundle, load_model, seeded_network
from napari_dala.model.card import UNTRAINED_CARD, ClassInfo
from napari_dala.model.export.formats import ExportFormat
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NO_DALA = "\nassert not any(name.startswith('napari_dala') for name in sys.modules)\n"
TORCHSCRIPT = """
import json, sys, warnings
import numpy as np, torch

warnings.simplefilter("ignore")  # TorchScript is deprecated
folder, tiles = sys.argv[1], np.load(sys.argv[2])
about = {"model.json": ""}
network = torch.jit.load(f"{folder}/model.pt", _extra_files=about)
images = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255
with torch.no_grad():
    parts = [network(part) for part in (images[:1], images[1:])]
np.savez(sys.argv[3], probability=torch.cat(parts))
print(about["model.json"].decode())
"""
ONNX = """
import json, sys
import numpy as np, onnxruntime

folder, tiles = sys.argv[1], np.load(sys.argv[2])
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
images = tiles.transpose(0, 3, 1, 2).astype(np.float32) / 255
parts = [session.run(None, {"image": part}) for part in (images[:1], images[1:])]
probability, cam = (np.concatenate(one) for one in zip(*parts))
assert np.array_equal(session.run(["probability"], {"image": images[:1]})[0], probability[:1])
np.savez(sys.argv[3], probability=probability, cam=cam)
print(json.dumps(session.get_modelmeta().custom_metadata_map))
assert "torch" not in sys.modules
"""
# As WSInfer 0.6.1 does it (`wsinfer.modellib`): its zoo checks the configuration and reads it, torchvision's transforms
# of the same names prepare a patch, the network's softmax is the probability. QuPath's extension does the same in Java.
WSINFER = """
import json, sys, warnings
import numpy as np, torch
from PIL import Image
from torchvision import transforms
from wsinfer_zoo.client import HF_CONFIG_NAME, HF_TORCHSCRIPT_NAME, ModelConfiguration

warnings.simplefilter("ignore")
folder, tiles = sys.argv[1], np.load(sys.argv[2])
config = ModelConfiguration.from_dict(json.load(open(f"{folder}/{HF_CONFIG_NAME}")))
prepare = transforms.Compose([getattr(transforms, step.name)(**(step.arguments or {})) for step in config.transform])
network = torch.jit.load(f"{folder}/{HF_TORCHSCRIPT_NAME}", map_location="cpu")
images = torch.stack([prepare(Image.fromarray(tile)) for tile in tiles])
with torch.no_grad():
    parts = [torch.softmax(network(part), dim=1) for part in (images[:1], images[1:])]
np.savez(sys.argv[3], probability=torch.cat(parts))
print(json.dumps({"class_names": config.class_names, "slide_px": config.get_slide_patch_size(0.25)}))
"""
PROGRAMS = {ExportFormat.TORCHSCRIPT: TORCHSCRIPT, ExportFormat.ONNX: ONNX, ExportFormat.WSINFER: WSINFER}


class Case(NamedTuple):
    """A model, tiles of slides, and what the model says of them here."""

    bundle: ModelBundle
    tiles: NDArray[np.uint8]
    here: Prediction


def tiles_of(path: Path, bundle: ModelBundle) -> NDArray[np.uint8]:
    """Return the diagonal of a slide's tiles."""
    with open_slide(path) as slide:
        grid = TileGrid.over(slide, bundle.card.tile_px, bundle.card.mpp)
        return np.stack([read_tiles(slide, grid, at, at, 1, 1) for at in range(min(grid.shape))])


@pytest.fixture(scope="module")
def shipped(mosaic: Path) -> Case:
    """The default model, and tiles of real tissue."""
    bundle = load_model("default")
    tiles = tiles_of(mosaic, bundle)
    return Case(bundle, tiles, Predictor(bundle, "cpu", "fp32")(tiles))


@pytest.fixture(scope="module")
def unusual(drawn_slide: Path) -> Case:
    """A model of three classes, small tiles and its own scale, temperature and normalisation, and drawn tissue."""
    classes = tuple(ClassInfo(name=name, color=(0, 0, 0)) for name in ("naïve", "in situ", "invasive"))
    card = UNTRAINED_CARD.model_copy(
        update={
            "name": "unusual",
            "classes": classes,
            "target_class": 2,
            "tile_px": 96,
            "mpp": 1.3,
            "mean": (0.7, 0.6, 0.65),
            "std": (0.2, 0.3, 0.25),
            "temperature": 0.8,
            "trained": True,
            "training": {"patients_trained": ["key-of-a-patient"], "slides": ["jane-doe.svs"]},
        }
    )
    bundle = ModelBundle(seeded_network(3, seed=4), card).as_stored()
    tiles = tiles_of(drawn_slide, bundle)
    return Case(bundle, tiles, Predictor(bundle, "cpu", "fp32")(tiles))


def outside(folder: Path, to: ExportFormat, tiles: NDArray[np.uint8]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return what another program finds and reads in a folder, in a process without this project."""
    given, answer = folder.parent / "tiles.npy", folder.parent / "found.npz"
    np.save(given, tiles)
    command = [sys.executable, "-c", PROGRAMS[to] + NO_DALA, str(folder), str(given), str(answer)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with np.load(answer) as found:
        return dict(found), json.loads(printed)


class Exported(NamedTuple):
    """A model in a folder."""

    case: Case
    to: ExportFormat
    folder: Path
    difference: float


@pytest.fixture(scope="module", params=[(case, to) for case in ("shipped", "unusual") for to in ExportFormat], ids=str)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    name, to = request.param
    case: Case = request.getfixturevalue(name)
    folder = tmp_path_factory.mktemp("exported") / "out"
    folder.mkdir()  # an empty one may be there
    return Exported(case, to, folder, export_model(case.bundle, to, folder))


def test_another_program_finds_the_same(exported: Exported) -> None:
    (bundle, tiles, here), to, folder, difference = exported
    assert 0 <= difference <= TOLERANCE
    found, about = outside(folder, to, tiles)
    assert np.ptp(here.probability, axis=0).max() > 0.01, "tiles of one probability would show nothing"
    np.testing.assert_allclose(found["probability"], here.probability, atol=TOLERANCE)
    card = bundle.card
    if to == ExportFormat.WSINFER:
        assert about == {"class_names": list(card.class_names), "slide_px": round(card.tile_px * card.mpp / 0.25)}
        return
    assert json.loads(about["class_names"]) == list(card.class_names)
    assert (float(about["mpp"]), int(about["tile_px"]), about["hash"]) == (card.mpp, card.tile_px, bundle.hash)
    assert about["intended_use"] == card.intended_use
    if to == ExportFormat.ONNX:
        assert found["cam"].shape == here.cam.shape
        np.testing.assert_allclose(found["cam"], here.cam, atol=1e-4 * here.cam.max())


def test_a_page_says_in_words_what_is_there_and_nothing_of_patients(exported: Exported) -> None:
    (bundle, _, _), to, folder, _ = exported
    card, page = bundle.card, (folder / "README.md").read_text(encoding="utf-8")
    files = {to.file_name} | ({"config.json"} if to == ExportFormat.WSINFER else set())
    assert {path.name for path in folder.iterdir()} == files | {"README.md"}
    scale, classes = f"{card.tile_px} px at {card.mpp:g} µm/px", ", ".join(card.class_names)
    for words in (*files, bundle.hash, card.name, card.intended_use, scale, classes, "stays behind"):
        assert words in page
    assert max(map(len, page.splitlines())) <= 100
    patients = card.training["patients_trained"]
    any_of_them = re.compile("|".join(map(re.escape, (*patients, "jane-doe"))).encode())
    for path in folder.iterdir():
        assert not any_of_them.search(path.read_bytes())


def test_what_is_refused_leaves_everything_as_it_was(
    unusual: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, to = unusual.bundle, ExportFormat.WSINFER
    with pytest.raises(BundleError, match=r"its weights are random.*learn first"):
        export_model(load_model("untrained"), to, tmp_path / "untrained")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "torchscript_model.pt").write_bytes(b"another model")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "torchscript_model.pt"):
        with pytest.raises(BundleError, match="already"):
            export_model(bundle, to, taken)
        with pytest.raises(BundleError, match=r"cannot be written|already"):
            export_model(bundle, to, taken / "torchscript_model.pt" / "below")
    assert (tmp_path / "mine" / "torchscript_model.pt").read_bytes() == b"another model"
    monkeypatch.setattr(export, "find_spec", lambda _name: None)
    with pytest.raises(BundleError, match=r"pip install 'napari-dala\[export\]'"):
        export_model(bundle, ExportFormat.ONNX, tmp_path / "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


class OfOneTile(nn.Module):
    """A part that a converter takes for one of a single tile, which it was shown."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        first = maps.new_zeros(len(maps), 1, *maps.shape[2:])
        return torch.cat([first, maps], 1)[:, 1:]


@pytest.mark.parametrize("to", [ExportFormat.WSINFER, ExportFormat.ONNX])
@pytest.mark.parametrize(
    ("part", "why"), [(nn.Identity(), "probabilities differ by"), (OfOneTile(), "cannot be written as")]
)
def test_a_file_that_is_not_the_model_is_not_exported(
    part: nn.Module, why: str, to: ExportFormat, unusual: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a trunk of another make were folded wrongly, or a converter had a fault."""
    channels = unusual.bundle.card.channels
    wrong = nn.Sequential(nn.Conv2d(3, channels, 32, 32), part)  # converted sooner than a ResNet
    monkeypatch.setattr(export, "fold_batch_norm", lambda trunk: wrong)
    with pytest.raises(BundleError, match=why) as refused:
        export_model(unusual.bundle, to, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())
