from __future__ import annotations

import csv
import json
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_dala.datasets.folders import load_dataset
from napari_dala.datasets.splits import Split, patient_folds
from napari_dala.errors import BundleError, JobError
from napari_dala.evaluation.compare.compare import Comparison, compare
from napari_dala.evaluation.compare.cost import Costs, costs
from napari_dala.evaluation.compare.plots import unbeaten
from napari_dala.evaluation.compare.report import as_markdown, write_report
from napari_dala.metrics.paired import paired_differences
from napari_dala.training.provenance import circumstances
from napari_dala.training.settings import TrainSettings
from tests.noise import noise_folders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_dala.datasets.images import ImageDataset

SETTINGS = TrainSettings(epochs=1, batch_size=4, tile_px=32, imagenet=False, precision="fp32", accelerator="cpu")
MODELS = ("densenet121", "resnet50")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Batches this small gain nothing from a second thread, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    """Two classes of coloured noise, three patients each, two photographs of 40 px of each; the names repeat."""
    root = noise_folders(tmp_path_factory.mktemp("photographs") / "noise", 3, 2, (40, 40))
    return load_dataset("folder", root)


@pytest.fixture(scope="module")
def splits(dataset: ImageDataset) -> dict[int, Split]:
    return dict(enumerate(patient_folds(dataset.labels, dataset.patients, 2, class_names=dataset.classes), start=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare") / "out"


@pytest.fixture(scope="module")
def compared(dataset: ImageDataset, splits: dict[int, Split], folder: Path) -> Comparison:
    return compare(dataset, splits, MODELS, SETTINGS, folder, command="dala compare", n_boot=100)


@pytest.fixture(scope="module")
def measured(compared: Comparison) -> Comparison:
    found = costs(MODELS, 2, 32, repeats=1)
    return replace(compared, costs=Costs(num_classes=2, tile_px=32, machine=circumstances(), of={"cpu": found}))


def again(
    compared: Comparison, splits: dict[int, Split], folder: Path, settings: TrainSettings = SETTINGS, **options: Any
) -> tuple[Comparison, list[str]]:
    states: list[str] = []
    result = compare(
        compared.dataset,
        splits,
        options.pop("models", MODELS),
        settings,
        folder,
        n_boot=100,
        on_run=lambda model, fold, state: states.append(f"{model} {fold} {state}"),
        **options,
    )
    return result, states


@pytest.fixture
def copy(compared: Comparison, folder: Path, tmp_path: Path) -> Path:
    """The finished runs, without their large files."""
    return shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors", "*.ckpt"))


def scores_of(comparison: Comparison) -> list[Any]:
    return [result.table.scores for result in comparison.results]


def test_each_photograph_is_judged_once_by_the_run_that_never_saw_it(
    compared: Comparison, dataset: ImageDataset, splits: dict[int, Split], folder: Path
) -> None:
    assert sorted(compared.indices) == list(range(len(dataset)))
    for result in compared.results:
        found = []
        for fold, split in splits.items():
            run = folder / result.model / f"fold-{fold}"
            with (run / "predictions.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert [row["patient"] for row in rows] == dataset.patients[split.test].tolist()
            found += [float(row["prob_malignant"]) for row in rows]
        assert result.probabilities[:, 1].tolist() == found
        right = result.probabilities.argmax(1) == dataset.labels[compared.indices]
        assert result.table.scores.accuracy.value == pytest.approx(right.mean())
        assert result.table.n_patients == 6
        assert sum(fold.n * fold.accuracy for fold in result.folds) == pytest.approx(right.sum())  # type: ignore[operator]
        seconds = [json.loads(path.read_text())["seconds"] for path in (folder / result.model).glob("*/result.json")]
        assert result.seconds == pytest.approx(sum(seconds), abs=0.1)
        assert all(len(run["train_loss"]) == 1 for run in result.curves)


def test_the_others_are_compared_with_the_first(compared: Comparison) -> None:
    first, other = compared.results
    assert first.differences == {}
    for name in ("accuracy", "gmean"):
        values = [getattr(result.table.scores, name).value for result in (other, first)]
        assert other.differences[name].value == pytest.approx(values[0] - values[1])
    images = compared.dataset
    truth, patients = images.labels[compared.indices], images.patients[compared.indices]
    again = paired_differences(truth, other.probabilities, first.probabilities, groups=patients, n_boot=100)
    assert other.differences == again  # with its intervals, by patient


def test_finished_runs_are_taken_over(compared: Comparison, splits: dict[int, Split], copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    result, states = again(compared, splits, copy)
    assert states == [f"{model} {fold} finished" for model in MODELS for fold in (1, 2)]
    assert scores_of(result) == scores_of(compared)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()} == before
    one, states = again(compared, {2: splits[2]}, copy, models=["resnet50"])
    assert states == ["resnet50 2 finished"]
    assert one.results[0].table.n == len(splits[2].test)


def test_a_setting_that_came_later_counts_as_its_default(
    compared: Comparison, splits: dict[int, Split], copy: Path
) -> None:
    for path in copy.rglob("config.json"):
        config = json.loads(path.read_text())
        del config["settings"]["label_smoothing"]
        config["settings"]["given_up_since"] = 1
        path.write_text(json.dumps(config))
    _, states = again(compared, splits, copy)
    assert all(state.endswith("finished") for state in states)
    with pytest.raises(JobError, match=r"settings \(label_smoothing\)"):
        again(compared, splits, copy, SETTINGS.model_copy(update={"label_smoothing": 0.1}))


def test_runs_of_another_configuration_are_not_taken(
    compared: Comparison, splits: dict[int, Split], copy: Path
) -> None:
    with pytest.raises(JobError, match=r"densenet121.fold-1: .*settings \(lr, seed\)"):
        again(compared, splits, copy, SETTINGS.model_copy(update={"lr": 1e-3, "seed": 1}))
    with pytest.raises(JobError, match="train, held_out"):
        again(compared, {1: splits[2], 2: splits[1]}, copy)


def test_an_interrupted_run_is_gone_on_with(
    compared: Comparison, splits: dict[int, Split], folder: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(folder / "densenet121", tmp_path / "densenet121").parent
    (out / "densenet121" / "fold-2" / "result.json").unlink()
    (out / "densenet121" / "fold-2" / "predictions.csv").unlink()
    result, states = again(compared, splits, out, models=["densenet121"])
    assert states == ["densenet121 1 finished", "densenet121 2 interrupted"]
    assert np.abs(result.results[0].probabilities - compared.results[0].probabilities).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("predictions.csv", "image,patient,label\n0.png,nobody,benign\n", "not the predictions"),
        ("result.json", "{", "damaged, not JSON"),
        ("result.json", "{}", "seconds is missing"),
        ("metrics.csv", "", "damaged"),
        ("config.json", "[]", "damaged"),
    ],
)
def test_damaged_runs_are_named(
    compared: Comparison, splits: dict[int, Split], copy: Path, name: str, content: str, expected: str
) -> None:
    (copy / "densenet121" / "fold-1" / name).write_text(content)
    with pytest.raises(JobError, match=rf"fold-1.{name}: .*{expected}.*remove the run") as raised:
        again(compared, {1: splits[1]}, copy, models=["densenet121"])
    assert "\n" not in str(raised.value)


def test_what_cannot_be_compared_is_said_before_anything_is_trained(
    dataset: ImageDataset, splits: dict[int, Split], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="resnet51"):
        compare(dataset, splits, ["resnet50", "resnet51"], SETTINGS, tmp_path)
    with pytest.raises(JobError, match="dala train"):
        compare(dataset, splits, ["resnet50"], SETTINGS.model_copy(update={"devices": 2}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_report_holds_the_figures(compared: Comparison, measured: Comparison, tmp_path: Path) -> None:
    written = write_report(measured, tmp_path)
    assert sorted(written) == sorted(tmp_path.iterdir())
    page = (tmp_path / "compare.md").read_text()
    first, other = compared.results
    for figure in (first.table.scores.gmean, other.table.scores.recall[1], first.table.scores.ece):
        assert str(figure) in page
    assert "    dala compare\n" in page
    assert "benign: 3 patients only" in page
    assert f"{measured.costs.of['cpu'][first.model].parameters / 1e6:.1f}" in page
    with (tmp_path / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == list(MODELS)
    assert float(rows[1]["gmean_difference"]) == other.differences["gmean"].value
    assert rows[0]["gmean_difference"] == ""
    stored = json.loads((tmp_path / "compare.json").read_text())
    assert stored["models"][1]["scores"]["scores"]["accuracy"]["value"] == other.table.scores.accuracy.value
    assert [fold["fold"] for fold in stored["models"][0]["folds"]] == [1, 2]
    assert str(tmp_path) not in page + json.dumps(stored)


def test_the_plots_are_pictures(measured: Comparison, tmp_path: Path) -> None:
    plots = [path for path in write_report(measured, tmp_path) if path.suffix in (".png", ".svg")]
    assert {path.stem for path in plots} == {"scores", "gmean-cost-cpu", "confusion", "reliability", "curves"}
    for path in plots:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
            continue
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        blue = (pixels == (31, 119, 180)).all(-1).sum()  # the first network's colour
        orange = (pixels == (255, 127, 14)).all(-1).sum()
        assert path.stem == "confusion" or (blue > 20 and orange > 20)


def test_without_intervals_the_page_is_whole(compared: Comparison, splits: dict[int, Split], copy: Path) -> None:
    bare = compare(compared.dataset, splits, MODELS, SETTINGS, copy, n_boot=0)
    page = as_markdown(bare)
    assert f"{bare.results[0].table.scores.accuracy.value:.3f}" in page
    assert "None" not in page


def test_only_what_is_finished_is_compared_where_that_is_asked(
    compared: Comparison, splits: dict[int, Split], copy: Path
) -> None:
    (copy / "densenet121" / "fold-2" / "result.json").unlink()
    before = sorted(copy.rglob("*"))
    result, states = again(compared, splits, copy, models=["densenet121", "resnet50", "vgg16"], finished_only=True)
    assert [one.model for one in result.results] == ["resnet50"]
    assert states == ["resnet50 1 finished", "resnet50 2 finished"]
    assert "not every fold is finished yet, so not compared: densenet121, vgg16" in result.notes
    assert sorted(copy.rglob("*")) == before
    with pytest.raises(JobError, match="no network has finished runs of all folds"):
        again(compared, splits, copy, models=["densenet121"], finished_only=True)
    smaller = SETTINGS.model_copy(update={"train_px": 64})  # which no ViT can be trained with
    with pytest.raises(JobError, match="no network has finished runs of all folds"):
        again(compared, splits, copy, smaller, models=["vit_b_16"], finished_only=True)
    with pytest.raises(BundleError, match="leave train_px out"):
        again(compared, splits, copy, smaller, models=["vit_b_16"])


@pytest.mark.parametrize(
    ("costs", "values", "front"),
    [
        ([1, 2, 3], [0.5, 0.6, 0.7], [0, 1, 2]),
        ([3, 2, 1], [0.5, 0.6, 0.7], [2]),
        ([1, 1, 2], [0.5, 0.6, 0.6], [1]),
        ([1, 2], [np.nan, 0.1], [1]),
        ([2, 1, 4, 3], [0.6, 0.5, 0.9, 0.4], [1, 0, 2]),
    ],
)
def test_the_front_has_what_nothing_cheaper_equals(costs: list[float], values: list[float], front: list[int]) -> None:
    assert unbeaten(np.array(costs, float), np.array(values)).tolist() == front
