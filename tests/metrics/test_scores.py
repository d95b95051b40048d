from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from imblearn.metrics import geometric_mean_score, make_index_balanced_accuracy
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    recall_score,
    roc_auc_score,
)

from napari_dala.metrics.bootstrap import FIGURES, draws
from napari_dala.metrics.scores import Scores, predicted_classes, score
from tests.cost import cost_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.str_]]

TABLES = [  # confusion matrices
    [[50, 10], [5, 35]],
    [[990, 10], [9, 1]],
    [[0, 7], [3, 0]],
    [[8, 0], [0, 9]],
    [[30, 3, 2], [4, 20, 6], [1, 1, 8]],
    [[5, 0, 0, 1], [0, 6, 2, 0], [3, 0, 0, 4], [1, 1, 1, 90]],
]


def samples(classes: int, n: int, patients: int, seed: int = 0, decimals: int | None = None) -> Samples:
    """Probabilities that lean to the truth, patients of one class each; few `decimals` make ties."""
    rng = np.random.default_rng(seed)
    patient = np.concatenate([np.arange(patients), rng.integers(patients, size=n - patients)])
    truth = patient % classes
    logit = rng.normal(size=(n, classes)) + rng.normal(size=(patients, classes))[patient]
    logit[np.arange(n), truth] += 1
    probability = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)
    if decimals is not None:
        probability = np.round(probability, decimals)
        probability[:, -1] = np.round(1 - probability[:, :-1].sum(1), decimals).clip(0)
        probability /= probability.sum(1, keepdims=True)
    return truth, probability, np.char.add("p", patient.astype(str))


def by_the_libraries(truth: NDArray[np.intp], probability: NDArray[np.float64]) -> list[float]:
    """FIGURES and recalls as scikit-learn and imbalanced-learn compute them; ECE by its definition."""
    count = probability.shape[1]
    binary = count == 2
    predicted = probability.argmax(1)
    average = "binary" if binary else None
    iba = make_index_balanced_accuracy(alpha=0.1, squared=True)(geometric_mean_score)
    confidence, right = probability.max(1), predicted == truth
    ece = 0.0
    for low, high in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return [
        accuracy_score(truth, predicted),
        f1_score(truth, predicted, average="binary" if binary else "macro", labels=range(count)),
        float(np.mean(iba(truth, predicted, average=average, labels=range(count)))),
        geometric_mean_score(truth, predicted),
        balanced_accuracy_score(truth, predicted),
        roc_auc_score(truth, probability[:, 1] if binary else probability, multi_class="ovr"),
        ece,
        brier_score_loss(truth, probability[:, 1] if binary else probability, labels=range(count)),
        *recall_score(truth, predicted, average=None, labels=range(count)),
    ]


def values(scores: Scores, part: str = "value") -> list[float]:
    return [getattr(estimate, part) for estimate in [*(getattr(scores, name) for name in FIGURES), *scores.recall]]


@pytest.mark.parametrize("table", TABLES)
def test_known_tables(table: list[list[int]]) -> None:
    confusion = np.array(table)
    truth, predicted = (np.repeat(index.ravel(), confusion.ravel()) for index in np.indices(confusion.shape))
    probability = np.full((len(truth), len(table)), 0.2 / len(table))
    probability[np.arange(len(truth)), predicted] += 0.8
    found = score(truth, probability, n_boot=0)
    assert np.array_equal(found.confusion, confusion)
    assert np.array_equal(confusion_matrix(truth, predicted), confusion)
    assert values(found.scores) == pytest.approx(by_the_libraries(truth, probability), abs=1e-12)


def test_a_table_by_hand() -> None:
    truth = [0] * 60 + [1] * 40
    probability = np.array([[0.9, 0.1]] * 50 + [[0.2, 0.8]] * 10 + [[0.6, 0.4]] * 5 + [[0.3, 0.7]] * 35)
    found = score(truth, probability, n_boot=0).scores
    sensitivity, specificity = 35 / 40, 50 / 60
    assert found.gmean.value == pytest.approx((sensitivity * specificity) ** 0.5)
    assert found.iba.value == pytest.approx((1 + 0.1 * (sensitivity - specificity)) * sensitivity * specificity)
    assert found.f1.value == pytest.approx(70 / 85)
    # 0.9: 50 of 50 right; 0.8: 0 of 10; 0.6 falls into (8/15, 9/15]: 0 of 5; 0.7: 35 of 35
    assert found.ece.value == pytest.approx((50 * 0.1 + 10 * 0.8 + 5 * 0.6 + 35 * 0.3) / 100)
    assert found.brier.value == pytest.approx((50 * 0.01 + 10 * 0.64 + 5 * 0.36 + 35 * 0.09) / 100)
    assert found.auroc.value == pytest.approx((50 * 40 + 10 * 0) / 2400)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("seed", range(3))
def test_random_tables(classes: int, decimals: int | None, seed: int) -> None:
    truth, probability, _ = samples(classes, 200, 40, seed, decimals)
    found = values(score(truth, probability, n_boot=0).scores)
    assert found == pytest.approx(by_the_libraries(truth, probability), abs=1e-12)


@pytest.mark.parametrize(
    ("classes", "patients", "decimals"),
    [(2, 18, None), (2, 18, 1), (3, 20, None), (2, 90, 1), (3, 90, None)],  # 90 of 120: each draw is ranked anew
)
def test_the_interval_is_that_of_a_brute_force_bootstrap(classes: int, patients: int, decimals: int | None) -> None:
    truth, probability, patient = samples(classes, 120, patients, 1, decimals)
    found = score(truth, probability, groups=patient, n_boot=60, seed=7)
    names, number = np.unique(patient, return_inverse=True)
    holds = np.array([[((number == p) & (truth == k)).any() for k in range(classes)] for p in range(len(names))])
    weights = np.concatenate(list(draws(holds, 60, np.random.default_rng(7)))).astype(int)
    assert weights.shape == (60, len(names))
    assert (weights.sum(1) == len(names)).all()
    each = []
    for weight in weights:
        taken = np.concatenate([np.flatnonzero(number == p) for p in range(len(names)) for _ in range(weight[p])])
        each.append(by_the_libraries(truth[taken], probability[taken]))
    assert values(found.scores, "low") == pytest.approx(np.quantile(each, 0.025, axis=0), abs=1e-9)
    assert values(found.scores, "high") == pytest.approx(np.quantile(each, 0.975, axis=0), abs=1e-9)


def test_every_draw_has_every_class() -> None:
    holds = np.eye(3, dtype=bool)[[0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]]
    weights = np.concatenate(list(draws(holds, 500, np.random.default_rng(0))))
    assert (weights @ holds > 0).all()
    assert (weights.sum(1) == 11).all()
    assert weights[:, 0].max() > 1


def test_patients_widen_the_interval_and_few_of_them_are_said() -> None:
    truth, probability, patient = samples(2, 600, 12)
    by_patient = score(truth, probability, groups=patient, n_boot=500, classes=("benign", "malignant"))
    by_image = score(truth, probability, n_boot=500)
    widths = [found.scores.accuracy.high - found.scores.accuracy.low for found in (by_patient, by_image)]
    assert widths[0] > 1.5 * widths[1]
    assert by_image.notes == ("patients unknown: the intervals take images for independent",)
    assert by_image.n_patients is None
    assert by_patient.notes == ()
    few = score(truth, probability, groups=np.where(truth == 0, patient, "one"), n_boot=10)
    assert few.notes == ("1: 1 patient only, so there are no intervals",)
    assert few.scores.accuracy.low is None
    of_three = np.where(truth == 0, patient, np.char.add("x", (np.arange(600) % 3).astype(str)))
    three = score(truth, probability, groups=of_three, n_boot=50)
    assert three.notes == ("1: 3 patients only, so the intervals are too narrow",)
    assert three.scores.accuracy.low is not None


def test_the_same_seed_gives_the_same_table() -> None:
    truth, probability, patient = samples(3, 90, 15)
    first, again, other = (score(truth, probability, groups=patient, n_boot=100, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.scores.accuracy.low != other.scores.accuracy.low


def test_no_interval_where_hardly_any_draw_has_every_class() -> None:
    truth = np.arange(300).repeat(3)
    found = score(truth, np.eye(300)[truth], groups=np.arange(900), n_boot=10)
    assert found.scores.accuracy.value == 1
    assert found.scores.accuracy.low is None
    assert "no intervals: a draw of patients almost never has every class" in found.notes


def test_patients_are_listed() -> None:
    probability = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]])
    found = score([0, 0, 1, 1, 1], probability, groups=["b", "b", "a", "b", "a"], n_boot=0, classes=("no", "yes"))
    rows = [(row.patient, row.label, row.n, row.accuracy) for row in found.patients]
    assert rows == [("a", "yes", 2, 1.0), ("b", "no", 2, 0.5), ("b", "yes", 1, 0.0)]


def test_threshold() -> None:
    probability = np.array([[0.6, 0.1, 0.3], [0.2, 0.5, 0.3], [0.1, 0.7, 0.2], [0.1, 0.1, 0.8]])
    assert predicted_classes(probability).tolist() == [0, 1, 1, 2]
    assert predicted_classes(probability, 0.3).tolist() == [2, 2, 1, 2]
    assert predicted_classes(probability, 0.9).tolist() == [
        0,
        1,
        1,
        0,
    ]  # the likeliest of the others, the first of equals
    found = [score([0, 1, 1, 2], probability, threshold=value, n_boot=0).scores for value in (None, 0.3)]
    assert [scores.accuracy.value for scores in found] == [1.0, 0.5]
    assert found[0].auroc == found[1].auroc
    assert found[0].ece == found[1].ece


def test_a_class_without_samples_is_left_out() -> None:
    truth, probability, _ = samples(2, 60, 20)
    wide = np.column_stack([probability, np.zeros(60)])
    found, narrow = score(truth, wide, n_boot=50), score(truth, probability, n_boot=50)
    assert found.scores.recall[2].value is None
    assert found.scores.gmean.value == narrow.scores.gmean.value
    assert found.scores.balanced_accuracy == narrow.scores.balanced_accuracy
    assert found.confusion[2] == (0, 0, 0)


def test_a_single_class_has_no_auroc() -> None:
    found = score([1, 1, 1], [[0.2, 0.8], [0.6, 0.4], [0.1, 0.9]], n_boot=20)
    assert found.scores.auroc.value is None
    assert found.scores.iba.value is None
    assert found.scores.accuracy.value == pytest.approx(2 / 3)
    json.dumps(found.as_json(), allow_nan=False)


def test_json() -> None:
    truth, probability, patient = samples(2, 60, 12)
    found = score(truth, probability, groups=patient, n_boot=50, classes=("benign", "malignant"))
    table = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert table["scores"]["recall"]["malignant"]["value"] == found.scores.recall[1].value
    assert (table["n"], table["n_patients"], table["resampled"], table["level"]) == (60, 12, "patients", 0.95)
    assert table["patients"][0]["patient"] == "p0"
    assert [field.name for field in dataclasses.fields(Scores)] == [*FIGURES, "recall"]


def test_an_interval_never_has_zero_width() -> None:
    truth = np.arange(60) % 2
    patient = truth + 2 * (np.arange(60) // 2 % 5)
    found = score(truth, np.eye(2)[truth] * 0.8 + 0.1, groups=patient, n_boot=200)
    assert (found.scores.gmean.value, found.scores.gmean.low, found.scores.recall[0].low) == (1, None, None)
    assert "a figure without an interval is the same in every draw: that does not make it certain" in found.notes


def test_two_thousand_draws_cost_less_than_fifty_by_a_library() -> None:
    truth, probability, patient = samples(2, 10_000, 82)
    once = partial(roc_auc_score, truth, probability[:, 1])
    assert cost_ratio(lambda: score(truth, probability, groups=patient), once) < 50  # 6 measured


@pytest.mark.parametrize(
    ("labels", "probabilities", "groups", "message"),
    [
        ([], np.zeros((0, 2)), None, "needed"),
        ([0, 1], [[0.5, 0.5]], None, "needed"),
        ([0], [[0.5, 0.5]], ["a", "b"], "needed"),
        ([2], [[0.5, 0.5]], None, "labels must be 0 to 1, found 2 to 2"),
        ([0], [[0.5, 0.7]], None, "add to 1"),
        ([0], [[1.5, -0.5]], None, "not be negative"),
        ([0], [[np.nan, 1]], None, "add to 1"),
    ],
)
def test_wrong_arguments(labels, probabilities, groups, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(labels, probabilities, groups=groups)


def test_imports_stay_light() -> None:
    code = (
        "import napari_dala.metrics.scores, napari_dala.datasets.splits, napari_dala.datasets.folders, sys\n"
        "print([name for name in ('torch', 'lightning', 'sklearn', 'imblearn', 'qtpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
