"""Models… in the real window: importing a file, downloading ImageNet's weights, and what Learn says of a trunk."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtWidgets import QFileDialog, QToolButton

from napari_dala.model.card import TRUNK_ONLY_WARNING, read_card
from napari_dala.model.fetch import PUBLISHED, PublishedWeights, place_of
from napari_dala.plugin.learn.panel import FROM_SCRATCH
from napari_dala.plugin.parts.fetch_dialog import FetchDialog
from napari_dala.plugin.parts.import_dialog import ImportDialog
from napari_dala.plugin.parts.models_dialog import ModelsDialog
from napari_dala.workspace import models_folder
from tests.model.test_fetch import serving
from tests.plugin.buttons import press
from tests.plugin.conftest import PATIENCE_MS

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = """
import sys
import timm
import torch
from torchvision.models import resnet50
from napari_dala.model.bundle import untrained

state = resnet50().state_dict()
torch.save(state, f"{sys.argv[1]}/bt_rn50_ep200.torch")
names = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in state.items()}
torch.save(names, f"{sys.argv[1]}/dino.pth")
untrained().save(f"{sys.argv[1]}/bundle.safetensors")
torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), f"{sys.argv[1]}/vit.pth")
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of weights; made in another process: no test that opens a window may import torch."""
    folder = tmp_path_factory.mktemp("weights")
    subprocess.run([sys.executable, "-c", WEIGHTS, str(folder)], check=True)
    return folder


@pytest.fixture
def dialog(docks: Any, qtbot: Any) -> ModelsDialog:
    """The window Models, opened by its button."""
    buttons = [one for one in docks.analyze.findChildren(QToolButton) if one.text() == "Models…"]
    press(qtbot, buttons[0])
    return docks.analyze.model_box.findChild(ModelsDialog)


def asked(dialog: ModelsDialog, qtbot: Any, monkeypatch: pytest.MonkeyPatch, file: Path) -> ImportDialog:
    """Press Import… and choose a file; the window that asks further."""
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(file), ""))
    press(qtbot, dialog.import_button)
    return dialog.findChild(ImportDialog)


def typed(qtbot: Any, line: Any, text: str) -> None:
    line.selectAll()
    qtbot.keyClicks(line, text)


def test_a_trunk_is_imported_and_offered_as_a_start(
    docks: Any, annotate: Any, dialog: ModelsDialog, qtbot: Any, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    form = asked(dialog, qtbot, monkeypatch, weights / "bt_rn50_ep200.torch")
    assert (form.name.text(), form.preset.currentText(), form.mpp.value()) == ("bt_rn50_ep200", "lunit", 0.5)
    typed(qtbot, form.name, "Barlow Twins")
    typed(qtbot, form.classes, "tumour, stroma,")
    press(qtbot, form.import_button)
    qtbot.waitUntil(lambda: "name must not be empty" in form.error.text(), timeout=PATIENCE_MS)
    assert form.import_button.isEnabled()
    typed(qtbot, form.classes, "tumour, stroma")
    with qtbot.waitSignal(form.imported, timeout=PATIENCE_MS):
        press(qtbot, form.import_button)
        assert "Reading the file" in form.doing.text()
        assert not form.import_button.isEnabled()
    card = read_card(models_folder() / "Barlow Twins.safetensors")
    assert (card.class_names, card.trunk_only) == (("tumour", "stroma"), True)
    assert card.mean == (0.70322989, 0.53606487, 0.66096631)
    assert dialog.models.currentItem().text() == "Barlow Twins   (a trunk: must learn first)"
    assert "must learn first" in dialog.about.text()
    assert docks.analyze.model_box.currentText() == "Barlow Twins"
    assert docks.analyze.model_warning.text() == TRUNK_ONLY_WARNING.replace("untrained", "Untrained", 1)
    learn = annotate.learn
    assert learn.model_box.currentText() == "Barlow Twins", "Learn offers it as a start"
    assert learn.start_text.text() == FROM_SCRATCH
    learn.model_box.setCurrentText("breakhis-ucsb")
    assert learn.start_text.isHidden()


def test_another_network_is_chosen_and_imported(
    dialog: ModelsDialog, qtbot: Any, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    form = asked(dialog, qtbot, monkeypatch, weights / "vit.pth")
    press(qtbot, form.import_button)
    advice = "a vision transformer (ViT); a ResNet-50 is what can be imported"
    qtbot.waitUntil(lambda: advice in form.error.text(), timeout=PATIENCE_MS)
    typed(qtbot, form.trunk.lineEdit(), "h-optimus-0")
    assert form.preset.currentText() == "h-optimus"
    typed(qtbot, form.trunk.lineEdit(), "timm/vit_tiny_patch16_224")
    assert form.preset.currentText() == "imagenet"
    with qtbot.waitSignal(form.imported, timeout=PATIENCE_MS):
        press(qtbot, form.import_button)
    card = read_card(models_folder() / "vit.safetensors")
    assert (card.architecture, card.channels, card.cell_px) == ("timm/vit_tiny_patch16_224", 192, 16)
    assert card.trunk_only


def test_what_cannot_be_imported_is_said_where_it_was_asked(
    dialog: ModelsDialog, qtbot: Any, monkeypatch: pytest.MonkeyPatch, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    assert asked(dialog, qtbot, monkeypatch, tmp_path / "model.onnx") is None
    assert "model.onnx: this is an ONNX network" in dialog.error.text()
    form = asked(dialog, qtbot, monkeypatch, weights / "dino.pth")
    assert dialog.error.isHidden()
    press(qtbot, form.import_button)
    several = "choose one with --prefix (the field Prefix): student, teacher"
    qtbot.waitUntil(lambda: several in form.error.text(), timeout=PATIENCE_MS)
    typed(qtbot, form.prefix, "student")
    with qtbot.waitSignal(form.imported, timeout=PATIENCE_MS):
        press(qtbot, form.import_button)
    assert [one.name for one in models_folder().glob("*.safetensors")] == ["dino.safetensors"]


def test_a_bundle_is_asked_its_name_only(
    dialog: ModelsDialog, qtbot: Any, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    form = asked(dialog, qtbot, monkeypatch, weights / "bundle.safetensors")
    assert form.classes.parent() is None
    typed(qtbot, form.name, "untrained")
    press(qtbot, form.import_button)
    assert "built-in" in form.error.text()
    typed(qtbot, form.name, "from a colleague")
    with qtbot.waitSignal(form.imported, timeout=PATIENCE_MS):
        press(qtbot, form.import_button)
        press(qtbot, form.cancel_button)
        assert form.isHidden(), "it comes into the list all the same"
    assert (models_folder() / "from a colleague.safetensors").read_bytes() == (
        weights / "bundle.safetensors"
    ).read_bytes()
    assert dialog.models.currentItem().text() == "from a colleague"


@pytest.fixture
def server(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve a file made here as if it were torchvision's: in some seconds, and broken off after 2 MB."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    content = (weights / "bt_rn50_ep200.torch").read_bytes()
    with (
        serving(content=content, breaks_after=2_000_000) as (broken, _),
        serving(content=content, delay_s=0.05) as (url, ranges),
    ):
        there = PublishedWeights(url, hashlib.sha256(content).hexdigest(), len(content), "A file of this test.")
        cut = PublishedWeights(broken, there.sha256, there.size, there.about)
        yield there, cut, ranges


def test_imagenets_weights_are_downloaded_and_imported(
    dialog: ModelsDialog, qtbot: Any, monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    there, cut, ranges = server
    monkeypatch.setitem(PUBLISHED, "imagenet-resnet50", cut)
    press(qtbot, dialog.fetch_button)
    fetching = dialog.findChild(FetchDialog)
    assert fetching.source.text() == cut.url
    assert fetching.place.text() == str(place_of(cut))
    press(qtbot, fetching.download_button)
    qtbot.waitUntil(lambda: "the connection broke" in fetching.error.text(), timeout=PATIENCE_MS)
    assert fetching.bar.value() == 1, "MB that are there"
    with qtbot.waitSignal(fetching.destroyed):
        press(qtbot, fetching.cancel_button)
    monkeypatch.setitem(PUBLISHED, "imagenet-resnet50", there)
    press(qtbot, dialog.fetch_button)
    fetching = dialog.findChild(FetchDialog)
    steps: list[int] = []
    fetching.bar.valueChanged.connect(steps.append)
    with qtbot.waitSignal(fetching.fetched, timeout=PATIENCE_MS):
        press(qtbot, fetching.download_button)
    assert ranges == ["bytes=2000000-"], "it went on where it broke off"
    assert len(steps) > 20
    form = dialog.findChild(ImportDialog)
    assert (form.name.text(), form.preset.currentText()) == ("imagenet-resnet50", "imagenet")
    with qtbot.waitSignal(form.imported, timeout=PATIENCE_MS):
        press(qtbot, form.import_button)
    assert read_card(models_folder() / "imagenet-resnet50.safetensors").trunk_only


@pytest.mark.parametrize("way", ["cancelled", "its parent closed"])
def test_a_download_ends_with_its_window(
    dialog: ModelsDialog, qtbot: Any, monkeypatch: pytest.MonkeyPatch, server: Any, way: str
) -> None:
    there, _, _ = server
    monkeypatch.setitem(PUBLISHED, "imagenet-resnet50", there)
    press(qtbot, dialog.fetch_button)
    fetching = dialog.findChild(FetchDialog)
    press(qtbot, fetching.download_button)
    qtbot.waitUntil(lambda: fetching.bar.value() > 2, timeout=PATIENCE_MS)
    with qtbot.waitSignal(fetching.destroyed):
        press(qtbot, fetching.cancel_button if way == "cancelled" else dialog.close_button)
    part = place_of(there).with_name(f"{place_of(there).name}.part")
    qtbot.wait(500)
    size = part.stat().st_size
    qtbot.wait(500)
    assert 0 < part.stat().st_size == size < there.size
    assert not place_of(there).exists()
