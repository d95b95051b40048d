"""Installing a bundle without torch: the file is copied byte by byte under a free name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from napari_dala.errors import BundleError
from napari_dala.model.card import UNTRAINED_CARD, read_card
from napari_dala.model.catalog import BUILT_IN, free_name, install_file, list_models

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
        assert (workspace / "models" / f"{name}.safetensors").read_bytes() == bundle.read_bytes()
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
    assert read_card(other.path) == UNTRAINED_CARD.model_copy(update={"operating_threshold": 0.25})
    assert np.array_equal(load_file(other.path)["weight"], load_file(bundle)["weight"])
