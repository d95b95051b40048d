from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from napari_dala.errors import BundleError
from napari_dala.model.card import UNTRAINED_CARD, ModelCard, read_card
from napari_dala.model.catalog import BUILT_IN, find_model, installed_path, list_models
from napari_dala.workspace import models_folder

if TYPE_CHECKING:
    from pathlib import Path

FIELDS: dict[str, Any] = json.loads(UNTRAINED_CARD.model_dump_json())
PINK = {"name": "pink", "color": [255, 0, 255]}


def _file(path: Path, card: str | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.zeros(3, np.float32)}, path, {"card": card} if card is not None else {"other": "1"})
    return path


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    card = UNTRAINED_CARD.model_copy(update={"trained": True, "training": {"slides": [1, 2], "note": "ä"}})
    assert read_card(_file(tmp_path / "a.safetensors", card.model_dump_json())) == card


def test_what_an_untrained_card_says() -> None:
    assert UNTRAINED_CARD.warning == "untrained: random weights, its numbers mean nothing"
    assert UNTRAINED_CARD.model_copy(update={"trained": True}).warning is None
    assert UNTRAINED_CARD.intended_use == "Research use only. Not for diagnosis."
    assert UNTRAINED_CARD.class_names == ("benign", "malignant")


def test_target_class_is_the_last_by_default() -> None:
    fields = {key: value for key, value in FIELDS.items() if key != "target_class"}
    assert ModelCard.model_validate(fields).target_class == 1
    assert ModelCard.model_validate(fields | {"classes": [*FIELDS["classes"], PINK]}).target_class == 2
    assert ModelCard.model_validate(fields | {"target_class": 0}).target_class == 0


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"classes": [PINK]}, "classes"),
        ({"classes": [PINK, PINK]}, "class names must differ"),
        ({"classes": [PINK, {"name": "x", "color": [0, 0, 256]}]}, r"classes\.1\.color\.2"),
        ({"target_class": 2}, "target_class must be 0 to 1"),
        ({"tile_px": 225}, "tile_px"),
        ({"tile_px": 0}, "tile_px"),
        ({"mpp": 0}, "mpp"),
        ({"mpp": "NaN"}, "mpp"),
        ({"mpp": 0.00025}, "give micrometres per pixel"),
        ({"mpp": 250.0}, "give micrometres per pixel"),
        ({"tile_px": 4096}, "tile_px"),
        ({"temperature": 1e-5}, "temperature"),
        ({"temperature": 1e9}, "temperature"),
        ({"operating_threshold": 0}, "operating_threshold"),
        ({"operating_threshold": 1}, "operating_threshold"),
        ({"classes": [PINK, PINK | {"name": " "}]}, "a class name must not be empty"),
        ({"classes": [PINK, PINK | {"name": "x" * 101}]}, r"classes\.1\.name"),
        ({"classes": 3}, "classes"),
        ({"std": [1, 0, 1]}, r"std\.1"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"temperature": 0}, "temperature"),
        ({"operating_threshold": 1.5}, "operating_threshold"),
        ({"architecture": "vgg16"}, "architecture"),
        ({"name": ""}, "name"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"schema_version": 2}, "update napari-dala"),
    ],
)
def test_bad_cards_are_refused(tmp_path: Path, change: dict[str, Any], where: str) -> None:
    path = _file(tmp_path / "bad.safetensors", json.dumps(FIELDS | change))
    with pytest.raises(BundleError, match=rf"^bad\.safetensors: its model card .*{where}") as error:
        read_card(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("card", "reason"),
    [(None, "no model card"), ("{", "not JSON"), ("[1]", "not valid"), ("9" * 400, "a number of 400 digits")],
)
def test_no_card_or_not_json(tmp_path: Path, card: str | None, reason: str) -> None:
    with pytest.raises(BundleError, match=rf"^bad\.safetensors: .*{reason}"):
        read_card(_file(tmp_path / "bad.safetensors", card))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04 and so on, a zip", "PyTorch pickle; use `dala models import odd.bin`"),
        (b"\x80\x02\x8a\nl\xfcF\x9cF\xf9 j\xa8P\x19.", "PyTorch pickle"),
        (b"a line of text, not a model\n" * 9, "not a safetensors file"),
        (b"\x10", "not a safetensors file"),
    ],
)
def test_files_that_are_no_bundle(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "odd.bin"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"^odd\.bin: .*{reason}"):
        read_card(path)


def test_truncated_missing_and_folder(tmp_path: Path) -> None:
    path = _file(tmp_path / "cut.safetensors", UNTRAINED_CARD.model_dump_json())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BundleError, match=r"^cut\.safetensors: the file is truncated"):
        read_card(path)
    with pytest.raises(BundleError, match=r"absent\.safetensors: there is no such file"):
        read_card(tmp_path / "absent.safetensors")
    with pytest.raises(BundleError, match="this is a folder"):
        read_card(tmp_path)


def test_listing_survives_a_broken_file(workspace: Path) -> None:
    good = _file(models_folder() / "good.safetensors", UNTRAINED_CARD.model_dump_json())
    broken = models_folder() / "broken.safetensors"
    broken.write_bytes(b"no model")
    (models_folder() / ".half-written.safetensors").write_bytes(b"")
    (models_folder() / "notes.txt").write_text("mine")
    entries = {entry.name: entry for entry in list_models()}
    assert list(entries) == [*BUILT_IN[1:], "broken", "good"]
    assert entries["untrained"].card is UNTRAINED_CARD
    assert entries["untrained"].path is None
    assert entries["good"].card == UNTRAINED_CARD
    assert entries["good"].path == good
    assert entries["broken"].card is None
    assert entries["broken"].problem == "broken.safetensors: this is not a safetensors file"


def test_listing_an_empty_workspace() -> None:
    assert [entry.name for entry in list_models()] == list(BUILT_IN[1:])


def test_finding_by_name_and_path(workspace: Path, tmp_path: Path) -> None:
    installed = _file(models_folder() / "mine.safetensors", UNTRAINED_CARD.model_dump_json())
    elsewhere = _file(tmp_path / "other.safetensors", UNTRAINED_CARD.model_dump_json())
    assert find_model("default") == find_model("breakhis-ucsb")
    assert read_card(find_model("default")).trained
    assert find_model("untrained") is None
    assert find_model("mine") == installed
    assert find_model(elsewhere) == find_model(str(elsewhere)) == elsewhere
    known = ", ".join(BUILT_IN[1:])
    with pytest.raises(BundleError, match=rf"^theirs: there is no model or file of this name; models: {known}, mine$"):
        find_model("theirs")
    with pytest.raises(BundleError, match="no model or file"):
        find_model("../models/mine")


@pytest.mark.parametrize("name", [*BUILT_IN, "", "../up", "a/b", ".hidden", "a\nb"])
def test_names_that_cannot_be_installed(name: str) -> None:
    with pytest.raises(BundleError):
        installed_path(name)


def test_name_beyond_ascii() -> None:
    assert installed_path("Lunge 2024 β").name == "Lunge 2024 β.safetensors"


def test_a_card_is_frozen() -> None:
    with pytest.raises(ValidationError):
        UNTRAINED_CARD.mpp = 1.0  # type: ignore[misc]


def test_cards_need_no_torch() -> None:
    code = (
        "import sys; from napari_dala.model import card, catalog; catalog.list_models(); "
        "assert not {'torch', 'torchvision', 'triton'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
