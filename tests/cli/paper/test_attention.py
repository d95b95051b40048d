from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from napari_dala.metrics.anonymous import patient_key
from napari_dala.model.bundle import untrained
from tests.noise import noise_folders

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of coloured noise, six patients each, one photograph of each."""
    return noise_folders(tmp_path_factory.mktemp("photographs") / "noise", 6, 1, (32, 32))


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Random networks for tiles of 32 px, each of which says that it was trained on half of the patients."""
    paths = []
    for fold in range(2):
        bundle = untrained()
        patients = [f"{name}-{number}" for name in ("benign", "malignant") for number in range(6) if number % 2 != fold]
        training = {"patients_trained": [patient_key(name) for name in patients]}
        update = {"tile_px": 32, "name": f"fold {fold}", "training": training}
        bundle.card = bundle.card.model_copy(update=update)
        paths.append(tmp_path_factory.mktemp("models") / f"{fold}.safetensors")
        bundle.save(paths[-1])
    return paths


def test_each_bundle_looks_at_its_own_left_out_patients(run, photographs: Path, folds: list[Path], tmp_path) -> None:
    out = tmp_path / "out"
    data = ("--dataset", "folder", "--root", photographs, "--mpp", 0.5)
    code, printed, err = run("attention", *folds, *data, "--out", out, "--device", "cpu")
    assert code == 0, err
    assert "bundle 1, fold 0: 6 photographs of 6 patients" in printed
    stored = json.loads((out / "attention.json").read_text())
    assert [row["photographs"] for row in stored["bundles"]] == [6, 6]
    assert list(stored["scores"]) == ["as trained", "each gate its mean", "one number for all channels", "off (a = 0)"]
    for name, found in stored["difference_from_trained"].items():
        for figure in ("recall benign", "recall malignant", "gmean", "auroc"):
            expected = stored["scores"][name][figure]["value"] - stored["scores"]["as trained"][figure]["value"]
            assert found[figure]["value"] == pytest.approx(expected)
    assert str(photographs.parent) not in json.dumps(stored)
    assert not any("trained on" in note and "too good" in note for note in stored["notes"])
    with (out / "channels.csv").open() as file:
        channels = list(csv.DictReader(file))
    assert len(channels) == 2 * 2048
    assert sum(float(row["share_of_malignant"]) for row in channels) == pytest.approx(2, abs=1e-3)
    with (out / "tiles.csv").open() as file:
        tiles = list(csv.DictReader(file))
    assert len(tiles) == 2 * 10 * 5
    page = (out / "attention.html").read_text()
    assert page.count("data:image/png") == 3
    assert "says nothing of where" in page
    assert "src='http" not in page
    for name in ("variants.csv", "gates.png", "gate-replaced.svg", "contributions.png"):
        assert (out / name).stat().st_size, name


@pytest.mark.parametrize("everything", [False, True])
def test_patients_that_a_bundle_was_trained_on_are_asked_for(run, photographs: Path, tmp_path, everything) -> None:
    bundle = untrained()
    bundle.card = bundle.card.model_copy(update={"tile_px": 32})
    bundle.save(tmp_path / "one.safetensors")
    data = ("--dataset", "folder", "--root", photographs, "--mpp", 0.5, "--device", "cpu")
    asked = ("attention", tmp_path / "one.safetensors", *data, "--out", tmp_path / "out")
    code, printed, err = run(*asked, *(["--all"] if everything else []))
    if everything:
        assert code == 0, err
        assert "does not name the patients" in " ".join(printed.split())
    else:
        assert (code, err.strip().count("\n")) == (2, 0)
        assert "--all" in err
        assert not (tmp_path / "out").exists()
