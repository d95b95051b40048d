from __future__ import annotations

import csv
import json
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from skimage.io import imsave

from napari_dala.datasets.folders import load_dataset
from napari_dala.datasets.images import ImageDataset, joined_datasets
from napari_dala.datasets.splits import Split, holdout
from napari_dala.errors import BundleError, DalaError, DatasetError, JobError
from napari_dala.evaluation.photographs import evaluate
from napari_dala.metrics.anonymous import patient_key
from napari_dala.model.bundle import load_model, untrained
from napari_dala.results.model_check import ModelCheck
from napari_dala.training.learner import Learner, averaging, by_patient
from napari_dala.training.photographs.examples import Photographs
from napari_dala.training.photographs.fit import TrainResult, TrainSettings, train
from napari_dala.training.photographs.squares import FixedSquares, Squares
from tests.noise import noise_folders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = TrainSettings(epochs=2, batch_size=4, tile_px=64, imagenet=False, precision="fp32", accelerator="cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Batches this small gain nothing from a second thread, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    """Two classes of coloured noise, three patients each, two photographs of 96 x 72 px of each."""
    root = noise_folders(tmp_path_factory.mktemp("photographs") / "noise", 3, 2, (72, 96), 20)
    return load_dataset("folder", root).with_mpp(0.5)


def without_resolution(dataset: ImageDataset) -> ImageDataset:
    return replace(dataset, images=tuple(replace(image, mpp=None) for image in dataset.images))


@pytest.fixture(scope="module")
def split(dataset: ImageDataset) -> Split:
    return holdout(dataset.labels, dataset.patients, 0.34)


@pytest.fixture(scope="module")
def trained(dataset: ImageDataset, split: Split, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(dataset, split, SETTINGS, tmp_path_factory.mktemp("run") / "out", command="dala train", n_boot=50)


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_everything(trained: TrainResult, dataset: ImageDataset, split: Split) -> None:
    assert [row["epoch"] for row in rows(trained.folder, "metrics.csv")] == ["0", "1"]
    predictions = rows(trained.folder, "predictions.csv")
    assert [row["patient"] for row in predictions] == dataset.patients[split.test].tolist()
    result = json.loads((trained.folder / "result.json").read_text())
    assert result["epochs_done"] == 2
    assert result["held_out"]["n"] == len(split.test) == 4
    assert result["held_out"]["scores"]["accuracy"]["low"] is None  # of one patient a class
    assert "so there are no intervals" in " ".join(result["held_out"]["notes"])
    check = ModelCheck.open(trained.folder)
    assert [sample.name for sample in check.samples] == [row["image"] for row in predictions]
    assert "Counts only, no intervals: 2 photographs of 1 patient of benign" in check.too_few
    assert trained.by_set == {}
    assert "How good is noise-dalaresnet50?" in (trained.folder / "check.html").read_text()
    assert not (trained.folder / "checkpoints").exists()


def test_smaller_tiles_to_learn_from_and_fewer_looks(
    dataset: ImageDataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    inputs = Photographs.inputs
    monkeypatch.setattr(
        Photographs, "inputs", lambda self, batch: (sides.append(batch.shape[-1]), inputs(self, batch))[1]
    )
    recipe = SETTINGS.model_copy(update={"train_px": 32, "epochs": 3, "judge_every": 2, "augmentation": "strong"})
    result = train(dataset, split, recipe, tmp_path / "run", n_boot=10)
    assert set(sides[:2]) == {32}
    assert set(sides) == {32, 64}
    assert [row.val_loss is not None for row in result.epochs] == [False, True, False]
    assert load_model(result.weights).card.tile_px == 64
    with pytest.raises(ValueError, match="early stopping judges every epoch"):
        TrainSettings(early_stopping=2, judge_every=2)


def test_the_bundle_predicts_as_the_trained_network_did(
    trained: TrainResult, dataset: ImageDataset, split: Split
) -> None:
    bundle = load_model(trained.weights)
    evaluation = evaluate(bundle, dataset, device="cpu", n_boot=20)
    found = np.array([[float(row["prob_benign"])] for row in rows(trained.folder, "predictions.csv")])[:, 0]
    assert np.abs(evaluation.probabilities[split.test, 0] - found).max() < 1e-5
    assert any("trained on 4 of these 6 patients" in note for note in evaluation.table.notes)


def test_the_card_says_where_the_numbers_come_from(trained: TrainResult, dataset: ImageDataset, split: Split) -> None:
    card = load_model(trained.weights).card
    assert (card.trained, card.warning, card.tile_px, card.target_class) == (True, None, 64, 1)
    assert card.mpp == 0.5
    assert card.operating_threshold == 0.5  # four photographs do not give another
    assert card.training["command"] == "dala train"
    assert card.training["settings"] == SETTINGS.model_dump()
    held_out = sorted(map(patient_key, set(dataset.patients[split.test])))
    assert card.training["patients_held_out"] == held_out
    assert not set(held_out) & set(card.training["patients_trained"])  # type: ignore[arg-type]
    assert "benign-0" not in card.model_dump_json()  # no patient's name is passed on
    figures: Any = card.metrics["held_out"]
    assert figures["n_patients"] == 2
    assert card.parent is None


def test_the_bundle_has_the_basis_and_the_replay_of_its_training_tiles(
    trained: TrainResult, dataset: ImageDataset, split: Split
) -> None:
    bundle = load_model(trained.weights)
    assert bundle.basis is not None
    assert bundle.replay is not None
    assert torch.allclose(bundle.basis.T @ bundle.basis, torch.eye(128), atol=1e-2)  # stored in 16 bits
    squares = Squares(64, bundle.card.mean, bundle.card.std, 0.5)
    shown = [FixedSquares(dataset, split.train, squares)[place] for place in range(len(split.train))]
    with torch.no_grad():
        maps = bundle.network.features(squares.normalize(torch.cat([tiles for tiles, _ in shown])))
    means = maps.mean((2, 3))
    assert torch.allclose(bundle.replay.features.float(), means, atol=2e-3 * float(means.max()))
    assert bundle.replay.labels.tolist() == [label for tiles, label in shown for _ in tiles]


def test_an_interrupted_run_comes_to_the_same_end(
    trained: TrainResult, dataset: ImageDataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Learner.training_step

    def until_the_second_epoch(self: Learner, batch: Any, batch_idx: int) -> Any:
        if (self.current_epoch, batch_idx) == (1, 1):
            raise RuntimeError("the power went")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "training_step", until_the_second_epoch)
        with pytest.raises(RuntimeError, match="the power went"):
            train(dataset, split, SETTINGS, tmp_path, n_boot=0)
    assert len(rows(tmp_path, "metrics.csv")) == 1
    torch.randn(7)  # what was drawn since does not matter
    with pytest.raises(JobError, match="--resume"):
        train(dataset, split, SETTINGS, tmp_path)
    with pytest.raises(JobError, match="settings"):
        train(dataset, split, SETTINGS.model_copy(update={"lr": 1e-3}), tmp_path, resume=True)
    again = train(dataset, split, SETTINGS, tmp_path, resume=True, n_boot=0)
    assert len(again.epochs) == len(trained.epochs) == 2
    for here, there in zip(again.epochs, trained.epochs, strict=True):
        assert here.train_loss == pytest.approx(there.train_loss, abs=1e-4)
        assert here.val_loss == pytest.approx(there.val_loss, abs=1e-4)
    ours, theirs = (load_model(run.weights).network.state_dict() for run in (again, trained))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-3
    with pytest.raises(JobError, match="finished"):
        train(dataset, split, SETTINGS, tmp_path, resume=True)


def test_a_run_that_was_killed_before_its_result_is_finished_by_resuming(
    dataset: ImageDataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr("napari_dala.training.photographs.fit.drop_checkpoints", lambda folder: None)
        whole = train(dataset, split, SETTINGS, tmp_path / "run", n_boot=50)
    before = load_model(whole.weights).hash
    (whole.folder / "result.json").unlink()
    again = train(dataset, split, SETTINGS, whole.folder, resume=True, n_boot=50)
    assert again.epochs == whole.epochs
    assert load_model(again.weights).hash == before


def test_other_networks_and_recipes(dataset: ImageDataset, split: Split, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"balance": "sampler", "optimizer": "adamw", "schedule": "one-cycle", "early_stopping": 1, "epochs": 3}
    )
    settings = settings.model_copy(update={"lr": 1e-9})  # nothing is learned: batch norm alone moves the loss
    result = train(without_resolution(dataset), split, settings, tmp_path, model="densenet121", n_boot=0)
    with safe_open(result.weights, framework="pt") as file:
        assert file.metadata()["architecture"] == "densenet121"
    assert result.table is not None
    kept = json.loads((tmp_path / "result.json").read_text())["epoch_kept"]
    losses = [row.val_loss for row in result.epochs]
    assert losses[kept - 1] == min(losses)  # type: ignore[type-var]


@pytest.mark.parametrize("model", ["densenet121", "vit_b_16"])
def test_other_networks_become_bundles(dataset: ImageDataset, split: Split, tmp_path: Path, model: str) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1})
    result = train(dataset, split, settings, tmp_path / "run", model=model, n_boot=0)
    assert result.weights.name == "bundle.safetensors"
    bundle = load_model(result.weights)
    assert (bundle.card.architecture, bundle.card.trained) == (model, True)
    assert bundle.card.summary.startswith(f"{model} trained on")
    assert bundle.basis is not None
    assert bundle.replay is not None
    assert bundle.basis.shape[0] == bundle.card.channels == bundle.replay.features.shape[1]
    measured = evaluate(bundle, dataset, device="cpu", n_boot=0).probabilities[split.test]
    stored = [
        [float(row[f"prob_{name}"]) for name in dataset.classes] for row in rows(result.folder, "predictions.csv")
    ]
    np.testing.assert_allclose(measured, stored, atol=1e-5)  # figures are of the bundle as it is stored


def test_a_network_without_a_bundles_form_says_so(dataset: ImageDataset, split: Split, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1})
    result = train(dataset, split, settings, tmp_path / "run", model="vgg16-inception", n_boot=0)
    assert result.weights.name == "weights.safetensors"
    assert any("no bundle, only plain weights: vgg16-inception: its last layers see" in note for note in result.notes)


def test_without_anything_held_out(dataset: ImageDataset, tmp_path: Path) -> None:
    everything = Split(np.arange(len(dataset)), np.zeros(0, np.intp))
    settings = SETTINGS.model_copy(update={"epochs": 1})
    init = untrained()
    result = train(dataset, everything, settings, tmp_path, init=init, n_boot=0)
    assert result.table is None
    assert result.epochs[0].val_loss is None
    card = load_model(result.weights).card
    assert (card.metrics, card.parent) == ({}, init.hash)


def test_what_cannot_be_trained_says_so(dataset: ImageDataset, split: Split, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="--mpp"):
        train(without_resolution(dataset), split, SETTINGS.model_copy(update={"mpp": 0.5}), tmp_path / "a")
    with pytest.raises(BundleError, match="resnet51"):
        train(dataset, split, SETTINGS, tmp_path / "b", model="resnet51")
    with pytest.raises(DalaError, match="cuda" if not torch.cuda.is_available() else "no-such"):
        train(dataset, split, SETTINGS.model_copy(update={"accelerator": "cuda"}), tmp_path / "c")
    if find_spec("tensorboard") is None:
        with pytest.raises(JobError, match=r"pip install 'napari-dala\[tensorboard\]'"):
            train(dataset, split, SETTINGS.model_copy(update={"logger": "tensorboard"}), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_bundle_is_evaluated_at_its_own_resolution(dataset: ImageDataset) -> None:
    bundle = untrained()
    bundle.card = bundle.card.model_copy(update={"tile_px": 64, "mpp": 0.5})
    notes = evaluate(bundle, dataset, device="cpu", n_boot=20).table.notes
    assert any("untrained" in note for note in notes)
    assert any("does not name the patients" in note for note in notes)
    assert not any("photographs are" in note for note in notes)
    bundle.card = bundle.card.model_copy(update={"mpp": 1.0})  # a tile is 128 px of a photograph of 96 x 72
    notes = evaluate(bundle, dataset, device="cpu", n_boot=20).table.notes
    assert any("12 of 12 photographs are smaller than a tile" in note for note in notes)
    bundle.card = bundle.card.model_copy(update={"mpp": 0.3})
    notes = evaluate(bundle, dataset, device="cpu", n_boot=20).table.notes
    assert any("12 of 12 photographs are coarser than the model's 0.30 um/px" in note for note in notes)
    notes = evaluate(bundle, without_resolution(dataset), device="cpu", n_boot=20).table.notes
    assert any("a tile is a square of 72 px" in note for note in notes)
    with pytest.raises(DatasetError, match="benign, malignant"):
        evaluate(bundle, replace(dataset, classes=("benign", "other")))


@pytest.mark.parametrize(
    ("mpp", "message"),
    [(1.2, "shows 36 um of tissue, less than half a tile"), (0.2, "0.50 um/px, the model needs 0.20")],
)
def test_photographs_that_cannot_be_brought_to_the_scale_are_refused(
    dataset: ImageDataset, mpp: float, message: str
) -> None:
    bundle = untrained()
    bundle.card = bundle.card.model_copy(update={"tile_px": 64, "mpp": mpp})
    with pytest.raises(DatasetError, match=message) as caught:
        evaluate(bundle, dataset, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_bundle_is_judged_at_its_operating_threshold(dataset: ImageDataset) -> None:
    bundle = untrained()
    recalls = []
    for threshold in (0.0, 1.0):
        bundle.card = bundle.card.model_copy(update={"tile_px": 64, "mpp": 0.5, "operating_threshold": threshold})
        recalls.append([one.value for one in evaluate(bundle, dataset, device="cpu", n_boot=0).table.scores.recall])
    assert recalls == [[0.0, 1.0], [1.0, 0.0]]


def test_patients_of_a_class_are_drawn_alike_and_so_are_classes() -> None:
    labels, groups = np.array([0] * 9 + [1] * 3), np.array(["a"] * 8 + ["b"] + ["c", "d", "d"])
    chance = by_patient(labels, groups)
    assert chance.sum() == pytest.approx(1)
    share = {name: chance[groups == name].sum() for name in "abcd"}
    assert share == pytest.approx(dict.fromkeys("abcd", 0.25))


def test_the_average_follows_the_weights_and_their_statistics() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    average = averaging(network, 0.5)
    seen = []
    for value in (1.0, 3.0, 5.0):
        with torch.no_grad():
            network[0].weight.fill_(value)
            network[1].running_mean.fill_(value)
        average.update_parameters(network)
        seen.append(average.module[0].weight.item())
    # The first is taken as it is; of the next (1 + 1) / (10 + 1) and (1 + 2) / (10 + 2) are kept.
    assert seen == pytest.approx([1.0, 1 + 2 * 9 / 11, 5 - (5 - (1 + 2 * 9 / 11)) * 3 / 12])
    assert float(average.module[1].running_mean) == pytest.approx(seen[-1])


def test_the_averaged_weights_are_those_of_the_bundle(dataset: ImageDataset, split: Split, tmp_path: Path) -> None:
    recipe = SETTINGS.model_copy(update={"epochs": 1})
    weights = []
    for number, averaged in enumerate((0.0, 0.99)):
        settings = recipe.model_copy(update={"averaging": averaged})
        weights.append(load_model(train(dataset, split, settings, tmp_path / str(number), n_boot=0).weights))
    plain, averaged_bundle = (one.network.state_dict()["head.fc3.weight"] for one in weights)
    assert not torch.equal(plain, averaged_bundle)


def test_several_data_sets_in_one_training(dataset: ImageDataset, tmp_path: Path) -> None:
    """The second is finer and files its classes under other cases; its patients have the first one's names."""
    for image in dataset.images:
        pixels = np.asarray(Image.open(image.path)).repeat(2, 0).repeat(2, 1)
        path = tmp_path / "fine" / dataset.classes[image.label].upper() / image.patient / image.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        imsave(path, pixels)
    both = joined_datasets([dataset, load_dataset("folder", tmp_path / "fine").with_mpp(0.25)])
    assert both.classes == ("benign", "malignant")
    assert (len(both), both.name, both.mpp) == (24, "noise+fine", 0.5)
    assert len(set(both.patients)) == 12
    assert set(both.sources) == {"noise", "fine"}
    split = holdout(both.labels, both.patients, 0.34)
    result = train(both, split, SETTINGS.model_copy(update={"epochs": 1}), tmp_path / "run", n_boot=0)
    assert {name: table.n for name, table in result.by_set.items()} == {
        name: int((both.sources[split.test] == name).sum()) for name in ("noise", "fine")
    }
    assert sum(table.n for table in evaluate(load_model(result.weights), both, n_boot=0).by_set.values()) == 24
    card = load_model(result.weights).card
    assert (card.mpp, card.training["um_per_px"]) == (0.5, [0.25, 0.5])
    squares = Squares(64, card.mean, card.std, 0.5)
    one, other = (FixedSquares(both, [place], squares)[0][0] for place in (0, 12))
    assert one.shape == other.shape
    assert (one.float() - other.float()).abs().mean() < 12  # the same tissue at the same scale
