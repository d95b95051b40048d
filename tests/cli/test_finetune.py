from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_dala.annotations.files import read_annotations, save_for
from napari_dala.jobs.job import PROGRAMS, Job
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Lesson


def test_finetune_prints_epochs_and_figures_and_ends_once(run, lesson: Lesson, tmp_path: Path) -> None:
    out = tmp_path / "job"
    drawn = ("--annotations", lesson.annotations, "--analysis", lesson.analysis, "--model", lesson.model)
    fast = ("--epochs", 2, "--lr", 1e-4, "--seed", 3, "--precision", "fp32", "--device", "cpu", "--threads", 1)
    code, printed, err = run("finetune", lesson.slide, *drawn, *fast, "--name", "pupil", "--out", out)
    assert code == 0, err
    assert "same slide, optimistic" in err
    assert "epoch 2/2: loss" in printed
    for line in ("held-out tiles, same slide, optimistic", "GMean", "recall malignant", "tiles of the parent's"):
        assert line in " ".join(printed.split())
    assert printed.strip().endswith(str(out / "result" / "bundle.safetensors"))
    result = json.loads((out / "result" / "result.json").read_text())
    assert (result["name"], result["settings"]["seed"], result["settings"]["lr"]) == ("pupil", 3, 1e-4)
    assert "Jane" not in printed + err

    code, _, err = run("finetune", "--out", out)
    assert code == 2
    assert "this job is done" in err
    code, _, err = run("finetune", lesson.slide, *drawn, "--out", out)
    assert code == 2
    assert "not empty" in err


def test_the_workspace_knows_what_was_drawn(run, lesson: Lesson, workspace: Path, tmp_path: Path) -> None:
    code, _, err = run("finetune", lesson.slide, "--model", lesson.model, "--out", tmp_path / "a")
    assert (code, "nothing was drawn on it in the workspace" in err) == (2, True)
    with open_slide(lesson.slide) as slide:
        fingerprint = slide.fingerprint
    save_for(read_annotations(lesson.annotations))
    shutil.copytree(lesson.analysis / "analysis.zarr", workspace / fingerprint / "analyses" / "analysis.zarr")
    fast = ("--epochs", 1, "--threads", 1)
    code, printed, err = run("finetune", lesson.slide, "--model", lesson.model, *fast, "--out", tmp_path / "b")
    assert code == 0, err
    assert "epoch 1/1" in printed
    card = json.loads((tmp_path / "b" / "result" / "result.json").read_text())
    assert card["name"] == "teacher-quick"


def test_a_frame_hides_nothing_and_an_odd_feature_is_named(run, lesson: Lesson, tmp_path: Path) -> None:
    content = json.loads(lesson.annotations.read_text())
    corners = [[0, 0], [10**6, 0], [10**6, 10**6], [0, 10**6], [0, 0]]
    for name, outline in (("Region*", corners), ("benign", corners[:1])):
        geometry = {"type": "Polygon", "coordinates": [outline]}
        properties = {"classification": {"name": name}}
        content["features"].append({"type": "Feature", "geometry": geometry, "properties": properties})
    (tmp_path / "drawn.geojson").write_text(json.dumps(content))
    drawn = ("--annotations", tmp_path / "drawn.geojson", "--analysis", lesson.analysis, "--model", lesson.model)
    code, _, err = run("finetune", lesson.slide, *drawn, "--epochs", 1, "--threads", 1, "--out", tmp_path / "job")
    assert code == 0, err
    (line,) = (line for line in err.splitlines() if "drawn.geojson" in line)
    assert f"feature {len(content['features'])} (its outline is not a list of at least three corners" in line


def test_a_job_made_elsewhere_is_run_by_its_folder(lesson: Lesson, tmp_path: Path) -> None:
    """The very command that the window starts."""
    from napari_dala.training.finetune.job import (
        FinetuneConfig,
        FinetuneSettings,
        SlideExamples,
        create_finetune_job,
    )

    one = SlideExamples(slide=lesson.slide, annotations=lesson.annotations, analysis=lesson.analysis)
    settings = FinetuneSettings(epochs=2, threads=1, n_boot=20)
    config = FinetuneConfig(name="pupil", model=str(lesson.model), slides=(one,), settings=settings)
    job = create_finetune_job(tmp_path / "job", config)
    command = (sys.executable, *PROGRAMS[job.kind], job.folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stdout
    assert Job.open(job.folder).status == "done"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--mode", "slow"), "mode"),
        (("--annotations", "more.geojson"), "1 slides, but 2 times --annotations"),
        (("--analysis", "."), "holds no analysis.zarr"),
        (("--model", "nobody"), "there is no model or file of this name"),
        (("--validation", 1), "validation"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, lesson: Lesson, tmp_path: Path, options, expected: str) -> None:
    code, _, err = run(
        "finetune", lesson.slide, "--annotations", lesson.annotations, "--out", tmp_path / "job", *options
    )
    assert code == 2
    assert expected in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "job").exists()


def test_without_slides_there_must_be_a_job(run, tmp_path: Path) -> None:
    code, _, err = run("finetune", "--out", tmp_path)
    assert code == 2
    assert "there is no job to run; name the slides to learn from" in err
