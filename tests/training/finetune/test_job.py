from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_dala.annotations.document import AnnotationDocument
from napari_dala.annotations.files import write_annotations
from napari_dala.errors import DalaError, JobError
from napari_dala.jobs.job import PROGRAMS, Job
from napari_dala.model.catalog import find_model
from napari_dala.training.finetune.job import (
    FinetuneConfig,
    FinetuneSettings,
    SlideExamples,
    config_of,
    create_finetune_job,
)
from napari_dala.validation import checked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    """A slide (nothing looks into it here) and what was drawn on it, in a file named after a patient."""
    (tmp_path / "slide.tif").write_bytes(b"pixels")
    write_annotations(AnnotationDocument("f" * 32, patient="Jane Doe"), tmp_path / "doe.geojson")
    slide = SlideExamples(slide=tmp_path / "slide.tif", annotations=tmp_path / "doe.geojson", mpp=(0.5, 0.4))
    return FinetuneConfig(name="new", slides=(slide,), settings=FinetuneSettings(mode="deep", lr=1e-3))


def test_a_job_keeps_what_was_drawn_when_it_was_made(config: FinetuneConfig, tmp_path: Path) -> None:
    job = create_finetune_job(tmp_path / "jobs" / "job", config)
    drawn = (tmp_path / "doe.geojson").read_bytes()
    (tmp_path / "doe.geojson").write_text("later")
    kept = config_of(Job.open(job.folder))
    assert kept.slides[0].annotations == job.folder / "annotations" / "001.geojson"
    assert kept.slides[0].annotations.read_bytes() == drawn
    assert kept.slides[0].model_copy(update={"annotations": tmp_path / "doe.geojson"}) == config.slides[0]
    assert kept.settings == config.settings
    assert (kept.name, job.kind, job.status) == ("new", "finetune", "queued")
    assert kept.model == str(find_model("default"))
    assert PROGRAMS[job.kind] == ("-m", "napari_dala.cli", "finetune", "--out")
    assert "doe" not in " ".join(str(path.relative_to(job.folder)) for path in job.folder.rglob("*"))


def test_paths_are_kept_whole(config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parent.safetensors").touch()
    one = SlideExamples.model_validate({"slide": "slide.tif", "annotations": "doe.geojson", "analysis": "seen"})
    relative = config.model_copy(update={"slides": (one,), "model": "parent.safetensors"})
    kept = config_of(create_finetune_job("job", relative))
    assert kept.model == str(tmp_path / "parent.safetensors")
    assert (kept.slides[0].slide, kept.slides[0].analysis) == (tmp_path / "slide.tif", tmp_path / "seen")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"slide": "gone.tif"}, "gone.tif: there is no such file"),
        ({"annotations": "gone.geojson"}, "gone.geojson: cannot be read"),
        ({"annotations": "slide.tif"}, "slide.tif: damaged, not JSON"),
        ({"model": "no such model"}, "no such model: there is no model or file of this name"),
        ({"twice": True}, "named twice"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_and_leaves_nothing(
    config: FinetuneConfig, tmp_path: Path, change: dict[str, str], expected: str
) -> None:
    paths = {key: tmp_path / name for key, name in change.items() if key in ("slide", "annotations")}
    one = config.slides[0].model_copy(update=paths)
    wrong = config.model_copy(
        update={"slides": (one,) * (1 + ("twice" in change)), "model": change.get("model", "default")}
    )
    with pytest.raises(DalaError, match=expected) as raised:
        create_finetune_job(tmp_path / "job", wrong)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "job").exists()
    assert not list(tmp_path.glob(".job*"))


def test_a_taken_folder_is_left_alone(config: FinetuneConfig, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is there already and not empty"):
        create_finetune_job(tmp_path, config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["doe.geojson", "slide.tif"]


def test_settings_are_checked_in_a_line(config: FinetuneConfig, tmp_path: Path) -> None:
    for wrong, expected in (
        ({"mode": "slow"}, "mode"),
        ({"validation": 1.0}, "validation: Input should be less than 1"),
        ({"lr": float("nan")}, "lr"),
        ({"speed": 3}, "speed"),
    ):
        with pytest.raises(JobError, match=f"these settings cannot be used: {expected}") as raised:
            checked(FinetuneSettings, JobError, **wrong)
        assert "\n" not in str(raised.value)
    job = create_finetune_job(tmp_path / "job", config)
    stored = json.loads((job.folder / "job.json").read_text())
    for change, expected in (({"kind": "other"}, "not a fine-tuning"), ({"config": {"name": ""}}, "not the settings")):
        (job.folder / "job.json").write_text(json.dumps(stored | change))
        with pytest.raises(JobError, match=expected):
            config_of(Job.open(job.folder))


def test_none_leaves_the_choice_to_the_mode() -> None:
    quick, deep = (FinetuneSettings(mode=mode, penalty=3).with_defaults() for mode in ("quick", "deep"))
    assert quick.lr is not None
    assert deep.epochs is not None
    assert quick.penalty == deep.penalty == 3
    assert FinetuneSettings(lr=0.5).with_defaults().lr == 0.5


def test_making_a_job_needs_no_torch() -> None:
    code = "import sys, napari_dala.training.finetune.job; print([n for n in ('torch', 'qtpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
