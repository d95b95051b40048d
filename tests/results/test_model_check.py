from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_score, roc_curve

from napari_dala.errors import JobError
from napari_dala.metrics.operating import at_sensitivity, at_threshold, best_gmean, operating_points
from napari_dala.results.model_check import ModelCheck, Sample
from napari_dala.results.report.check_page import write_check_page
from napari_dala.training.finetune.check import kept_threshold, refitted_temperature, tempered, verdict

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(2)
POSITIVE = RNG.random(200) < 0.4
SCORES = np.round(np.clip(RNG.normal(0.35 + 0.3 * POSITIVE, 0.2), 0.01, 0.99), 2)  # with ties


def check_of(labels: np.ndarray, malignant: np.ndarray, groups: list[str], **fields: object) -> ModelCheck:
    samples = tuple(
        Sample(label=int(label), probability=(1 - score, score), group=group, name=f"{number}.png")
        for number, (label, score, group) in enumerate(zip(labels, malignant.tolist(), groups, strict=True))
    )
    values = {"model": "m", "classes": ("benign", "malignant"), "target": 1, "of": "tiles", "unit": "region"}
    return ModelCheck.model_validate({**values, "threshold": 0.5, "temperature": 1.0, "samples": samples, **fields})


@pytest.fixture
def check() -> ModelCheck:
    return check_of(POSITIVE.astype(int), SCORES, [f"r{number % 8}" for number in range(200)])


def test_operating_points_are_those_of_scikit_learn() -> None:
    false, true, _ = roc_curve(POSITIVE, SCORES, drop_intermediate=False)
    found = {(round(1 - p.specificity, 9), round(p.sensitivity, 9)) for p in operating_points(POSITIVE, SCORES)}
    assert found == {(round(a, 9), round(b, 9)) for a, b in zip(false.tolist(), true.tolist(), strict=True)}
    for point in operating_points(POSITIVE, SCORES):
        found_again = at_threshold(POSITIVE, SCORES, point.threshold)
        assert (found_again.sensitivity, found_again.specificity) == pytest.approx(
            (point.sensitivity, point.specificity)
        )


def test_the_threshold_of_a_wished_sensitivity_is_the_highest() -> None:
    points = operating_points(POSITIVE, SCORES)
    for wished in (0.0, 0.5, 0.9, 0.95, 1.0):
        found = at_sensitivity(points, wished)
        assert found.sensitivity >= wished
        assert all(p.sensitivity < wished for p in points if p.threshold > found.threshold)
    best = best_gmean(points)
    assert best.gmean == max(p.gmean for p in points)
    assert best_gmean(operating_points([False, True], [0.2, 0.8])).threshold == pytest.approx(0.5)


def test_confusion_and_curves(check: ModelCheck) -> None:
    cells = check.confusion()
    assert sorted(index for row in cells for cell in row for index in cell) == list(range(200))
    assert all(POSITIVE[index] and SCORES[index] < 0.5 for index in cells[1][0])
    assert check.point().sensitivity == pytest.approx(len(cells[1][1]) / POSITIVE.sum())
    recall, precision = check.precision_recall()[0]
    assert (recall, precision) == (1.0, pytest.approx(POSITIVE.mean()))
    called = SCORES >= check.points()[20].threshold
    expected = precision_score(POSITIVE, called)
    assert any(p == pytest.approx(expected) for _, p in check.precision_recall())
    assert sum(count for _, _, count in check.reliability()) == 200
    hardest = check.hardest(3)
    own = np.where(POSITIVE, SCORES, 1 - SCORES)
    assert own[hardest].tolist() == np.sort(own)[:3].tolist()


@pytest.mark.parametrize(
    ("samples", "regions", "said"),
    [
        (20, 3, ""),
        (19, 3, "Counts only, no intervals: 19 tiles of 3 regions of benign, 19 tiles of 3 regions of malignant are"),
        (30, 2, "Counts only, no intervals: 30 tiles of 2 regions of benign, 30 tiles of 2 regions of malignant are"),
    ],
)
def test_too_few_are_counted_only(samples: int, regions: int, said: str) -> None:
    labels = np.arange(2 * samples) % 2
    groups = [f"{label}-{number // 2 % regions}" for number, label in enumerate(labels)]
    found = check_of(labels, np.linspace(0.1, 0.9, 2 * samples), groups).too_few
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_one_class_has_no_curves(check: ModelCheck, tmp_path: Path) -> None:
    alone = check.model_copy(update={"samples": tuple(s for s in check.samples if s.label == 0)})
    assert not alone.has_curves
    page = write_check_page(alone, tmp_path, lambda index: None).read_text()
    assert "there is no threshold to choose" in page
    assert "its pixels cannot be read" in page


def test_the_page_opens_the_tiles_of_every_cell(check: ModelCheck, tmp_path: Path) -> None:
    asked: list[int] = []

    def picture(index: int) -> Image.Image:
        asked.append(index)
        return Image.new("RGB", (300, 200), (index, 80, 120))

    page = write_check_page(check, tmp_path, picture).read_text()
    for truth in (0, 1):
        for called in (0, 1):
            assert f"href='#cell-{truth}-{called}'" in page
            assert f"id='cell-{truth}-{called}'" in page
    assert len(asked) == len(set(asked)) <= 5 * 24
    assert page.count("data:image/jpeg") >= len(asked)
    assert "<script" not in page
    assert "http" not in page.split("<style>")[0].replace("http-equiv", "")


def test_a_check_is_read_back_and_damage_is_one_line(check: ModelCheck, tmp_path: Path) -> None:
    check.save(tmp_path)
    assert ModelCheck.open(tmp_path) == check
    (tmp_path / "check.json").write_text('{"model": 3}')
    with pytest.raises(JobError, match=r"check\.json: damaged"):
        ModelCheck.open(tmp_path)
    with pytest.raises(JobError):
        ModelCheck.open(tmp_path / "gone")


def test_a_temperature_needs_twenty_tiles_of_two_classes() -> None:
    logits = RNG.normal(size=(400, 2)) * 3
    labels = (RNG.random(400) < 1 / (1 + np.exp(-(logits[:, 1] - logits[:, 0]) / 2.5))).astype(np.intp)
    sure = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = refitted_temperature(labels, sure)
    assert found == pytest.approx(2.5, rel=0.25)
    assert tempered(sure, 1.0) == pytest.approx(sure)
    softer = np.exp(logits / found)
    assert tempered(sure, found) == pytest.approx(softer / softer.sum(1, keepdims=True))
    assert refitted_temperature(labels[:19], sure[:19]) is None
    assert refitted_temperature(np.zeros(30, np.intp), sure[:30]) is None


@pytest.mark.parametrize(("before", "after"), [(2.0, 1.0), (1.0, 3.0), (1.5, 1.5)])
def test_the_threshold_decides_as_before_at_another_temperature(before: float, after: float) -> None:
    margins = RNG.normal(size=500) * 4
    called = 1 / (1 + np.exp(-margins / before)) >= 0.35
    again = 1 / (1 + np.exp(-margins / after)) >= kept_threshold(0.35, before, after)
    assert (called == again).all()
    assert kept_threshold(1.0, before, after) == 1.0


def scores(gmean: float | None, accuracy: float) -> dict[str, dict[str, dict[str, float | None]]]:
    return {"scores": {"gmean": {"value": gmean}, "accuracy": {"value": accuracy}}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (scores(0.7, 0.9), scores(0.8, 0.8), "better"),
        (scores(0.7, 0.8), scores(0.6, 0.9), "worse"),
        (scores(None, 0.8), scores(None, 0.7), "worse"),
        (scores(0.0, 0.5), scores(0.0, 0.6), "better"),
        (scores(0.7, 0.8), scores(0.7, 0.8), "same"),
        (None, None, None),
    ],
)
def test_which_is_better(before: object, after: object, expected: str | None) -> None:
    assert verdict(before, after) == expected  # type: ignore[arg-type]
