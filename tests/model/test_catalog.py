"""The models of a workspace without torch: installed under a free name, renamed and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from napari_dala.errors import BundleError
from napari_dala.model.card import UNTRAINED_CARD, read_card
from napari_dala.model.catalog import (
    BUILT_IN,
    ModelEntry,
    free_name,
    install_file,
    list_models,
    page_of,
    remove_model,
    rename_model,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.safetensors"
    save_file({"weight": np.arange(1000.0)}, path, {"card": UNTRAINED_CARD.model_dump_json()})
    return path


def test_each_copy_gets_a_name_of_its_own(bundle: Path, workspace: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other workspace"
    names = [install_file(bundle, "teacher quick 2026-11-23").name for _ in range(3)]
    assert names == ["teacher quick 2026-11-23", "teacher quick 2026-11-23 2", "teacher quick 2026-11-23 3"]
    assert {entry.name for entry in list_models()} == {*BUILT_IN[1:], *names}
    for name in names:
        path = workspace / "models" / f"{name}.safetensors"
        assert read_card(path) == UNTRAINED_CARD.model_copy(update={"name": name}), "the card says the model's name"
        assert np.array_equal(load_file(path)["weight"], load_file(bundle)["weight"])
    assert install_file(bundle, names[0], elsewhere).path == elsewhere / "models" / f"{names[0]}.safetensors"
    assert free_name("untrained") == "untrained 2"
    assert free_name("default", elsewhere) == "default 2"


def test_what_is_no_bundle_is_refused(bundle: Path, workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        install_file(tmp_path / "gone.safetensors", "gone")
    with bundle.open("rb+") as file:
        file.truncate(500)
    with pytest.raises(BundleError, match=r"bundle\.safetensors"):
        install_file(bundle, "cut")
    assert not list(workspace.rglob("*.safetensors"))


def test_a_workspace_that_cannot_be_written_is_named(bundle: Path, workspace: Path) -> None:
    (workspace / "models").touch()
    with pytest.raises(BundleError, match=r"models.*cannot be written"):
        install_file(bundle, "teacher")


def test_a_model_is_installed_with_another_threshold(tmp_path: Path, bundle: Path) -> None:
    other = install_file(bundle, "mine", tmp_path, threshold=0.25)
    assert other.path is not None
    assert other.card is not None
    assert other.card.operating_threshold == 0.25
    assert read_card(other.path) == UNTRAINED_CARD.model_copy(update={"name": "mine", "operating_threshold": 0.25})
    assert np.array_equal(load_file(other.path)["weight"], load_file(bundle)["weight"])


@pytest.fixture
def mine(bundle: Path, workspace: Path) -> ModelEntry:
    """A model of the workspace that has a page."""
    page = bundle.with_name("check.html")
    page.write_text("<h1>How good is it?</h1>")
    return install_file(bundle, "mine", page=page)


def test_a_model_is_renamed_with_its_page_and_stays_the_same(mine: ModelEntry, workspace: Path) -> None:
    other = rename_model(mine, " Breast second try ")
    assert other.name == "Breast second try"
    assert other.card == UNTRAINED_CARD.model_copy(update={"name": other.name})
    assert mine.card is not None
    assert other.made("0" * 64, mine.card), "what it found on slides is still its own"
    assert page_of(other).read_text() == "<h1>How good is it?</h1>"
    assert sorted(path.name for path in (workspace / "models").iterdir()) == [
        "Breast second try.html",
        "Breast second try.safetensors",
    ]
    assert rename_model(other, other.name) == other


def test_a_model_is_removed_with_its_page(mine: ModelEntry, workspace: Path) -> None:
    remove_model(mine)
    assert not list((workspace / "models").iterdir())


@pytest.mark.parametrize("name", ["untrained", "taken", "a/b", "", ".hidden"])
def test_a_name_that_cannot_be_changes_nothing(mine: ModelEntry, bundle: Path, workspace: Path, name: str) -> None:
    install_file(bundle, "taken")
    before = {path.name: path.read_bytes() for path in (workspace / "models").iterdir()}
    with pytest.raises(BundleError):
        rename_model(mine, name)
    assert {path.name: path.read_bytes() for path in (workspace / "models").iterdir()} == before


def test_built_in_models_stay(workspace: Path) -> None:
    for entry in list_models():
        for change in (lambda one: rename_model(one, "other"), remove_model):
            with pytest.raises(BundleError, match="came with the program"):
                change(entry)
    assert {entry.name for entry in list_models()} == set(BUILT_IN[1:])


def test_a_model_that_another_is_built_on_stays(mine: ModelEntry, workspace: Path) -> None:
    card = UNTRAINED_CARD.model_dump_json()
    save_file(
        {"w": np.zeros(1)}, workspace / "models" / "on it.safetensors", {"card": card, "trunk_of": mine.path.name}
    )
    for change in (lambda one: rename_model(one, "other"), remove_model):
        with pytest.raises(BundleError, match="on it"):
            change(mine)
    assert mine.path.is_file()


def test_a_damaged_model_is_not_sealed_anew(mine: ModelEntry, bundle: Path, workspace: Path) -> None:
    content = bytearray(mine.path.read_bytes())
    content[-1] ^= 1
    mine.path.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        rename_model(mine, "other")
    assert [path.name for path in mine.path.parent.glob("*.safetensors")] == ["mine.safetensors"]
    remove_model(mine)
    assert not mine.path.exists()


def test_a_model_is_known_by_its_hash_and_without_one_by_its_card(bundle: Path, tmp_path: Path) -> None:
    said = tmp_path / "models" / "said.safetensors"
    said.parent.mkdir()
    save_file({"w": np.zeros(1)}, said, {"card": UNTRAINED_CARD.model_dump_json(), "hash": "a" * 64})
    *_, entry = list_models(tmp_path)
    assert entry.made("a" * 64, UNTRAINED_CARD)
    assert not entry.made("b" * 64, UNTRAINED_CARD), "weights differ, whatever the card says"
    old = install_file(bundle, "old", tmp_path, threshold=0.2)
    assert old.made("b" * 64, UNTRAINED_CARD)
    assert not old.made("b" * 64, UNTRAINED_CARD.model_copy(update={"training": {"seed": 1}}))
