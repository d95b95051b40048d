from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely

from napari_dala.annotations.document import Annotation, AnnotationDocument
from napari_dala.annotations.files import write_annotations
from napari_dala.model.bundle import load_bundle
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.model_check import ModelCheck
from napari_dala.training.finetune.deep import NOTES
from napari_dala.training.finetune.features import readable
from napari_dala.training.finetune.finetune import run_finetune
from napari_dala.training.finetune.gather import gather
from napari_dala.training.finetune.job import FinetuneConfig, FinetuneSettings, SlideExamples, create_finetune_job

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.jobs.job import Job
    from tests.conftest import Lesson

FAST: dict[str, Any] = {"epochs": 2, "threads": 1, "n_boot": 20, "device": "cpu", "precision": "fp32"}


def make(lesson: Lesson, folder: Path) -> Job:
    one = SlideExamples(slide=lesson.slide, annotations=lesson.annotations)
    settings = FinetuneSettings(mode="deep", **FAST)
    return create_finetune_job(
        folder, FinetuneConfig(name="pupil", model=str(lesson.model), slides=(one,), settings=settings)
    )


def epochs_of(job: Job) -> list[dict[str, Any]]:
    return [event for event in job.events()[0] if event["event"] == "epoch"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_deep_job_that_was_killed_comes_to_the_same_end(lesson: Lesson, tmp_path: Path) -> None:
    killed, whole = make(lesson, tmp_path / "killed"), make(lesson, tmp_path / "whole")
    killed.start()
    deadline = time.monotonic() + 200
    while not epochs_of(killed):
        assert time.monotonic() < deadline
        assert killed.state.is_live, killed.state.message
        time.sleep(0.005)
    process = killed.state.process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)  # in the second epoch, or while the first one's checkpoint is the last
    assert killed.wait(10) == "interrupted"
    assert not list(killed.result.iterdir())

    for job in (killed, whole):
        assert run_finetune(job.folder) == job.result / "bundle.safetensors"
        assert not (job.folder / "checkpoints").exists()
    for here, there in zip(epochs_of(killed)[-2:], epochs_of(whole), strict=True):
        for figure in ("train_loss", "val_loss"):
            assert here[figure] == pytest.approx(there[figure], abs=1e-4)

    result = json.loads((killed.result / "result.json").read_text())
    child, parent = load_bundle(killed.result / "bundle.safetensors"), load_bundle(lesson.model)
    assert (result["mode"], result["same_trunk"], result["parent"]) == ("deep", False, parent.hash)
    assert set(NOTES) <= set(result["notes"])
    check = ModelCheck.open(killed.result)
    assert len(check.samples) == sum(result["examples"]["held_out"].values())
    assert (child.card.temperature != 1) == check.refitted == (len(check.samples) >= 20)
    losses = [epoch["val_loss"] for epoch in epochs_of(killed)[-2:]]
    assert result["epoch_kept"] == int(np.argmin(losses)) + 1
    assert any(f"epoch {result['epoch_kept']} of 2 was kept" in note for note in result["notes"])
    assert result["verdict"] in ("better", "worse", "same")
    assert child.basis is not None
    assert child.replay is not None
    assert len(child.replay.labels) == sum(result["examples"]["train"].values())


def test_tiles_that_cannot_be_decoded_are_known_before(broken_mosaic: Any, tmp_path: Path) -> None:
    path, (x, y) = broken_mosaic
    boxes = [(x + 64, y + 64, "benign"), (0, 0, "malignant")]
    drawn = [Annotation.drawn(shapely.box(x, y, x + 384, y + 384), name) for x, y, name in boxes]
    write_annotations(AnnotationDocument("", (), tuple(drawn)), tmp_path / "drawn.geojson")
    card = UNTRAINED_CARD.model_copy(update={"tile_px": 64})
    one = SlideExamples(slide=path, annotations=tmp_path / "drawn.geojson")
    with gather([one], card, "0", FinetuneSettings(**FAST)) as tiles:
        had = readable(tiles)
        assert had[tiles.examples.label == 1].all()
        assert not had[tiles.examples.label == 0].all()
        assert not readable(tiles, lambda: True).any()
