from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
import torch
import zarr

from napari_dala import finetune, open_slide
from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import read_annotations, write_annotations
from napari_dala.errors import BundleError, DalaError, JobError
from napari_dala.model.bundle import ModelBundle, load_bundle, seeded_network
from napari_dala.model.bundle_head import load_head
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.model_check import ModelCheck
from napari_dala.results.tile_results import TileStatus
from napari_dala.training.finetune.features import labelled_features
from napari_dala.training.finetune.finetune import run_finetune
from napari_dala.training.finetune.gather import gather
from napari_dala.training.finetune.job import (
    FinetuneConfig,
    FinetuneEvent,
    FinetuneSettings,
    Finished,
    Prepared,
    SlideExamples,
    create_finetune_job,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.jobs.job import Job
    from napari_dala.training.finetune.gather import LabelledTiles
    from tests.conftest import Lesson

FAST: dict[str, Any] = {"epochs": 3, "threads": 1, "n_boot": 20, "device": "cpu", "precision": "fp32"}


def examples_of(lesson: Lesson, **changes: Any) -> SlideExamples:
    values = {"slide": lesson.slide, "annotations": lesson.annotations, "analysis": lesson.analysis}
    return SlideExamples(**values | changes)


def make(lesson: Lesson, folder: Path, *slides: SlideExamples, **settings: Any) -> Job:
    config = FinetuneConfig(
        name="pupil",
        model=str(lesson.model),
        slides=slides or (examples_of(lesson),),
        settings=FinetuneSettings(**FAST | settings),
    )
    return create_finetune_job(folder, config)


def tiles_of(lesson: Lesson, *slides: SlideExamples) -> LabelledTiles:
    head = load_head(lesson.model)
    return gather(slides or (examples_of(lesson),), head.card, head.trunk_hash, FinetuneSettings(**FAST))


def result_of(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.result / "result.json").read_text())
    return found


@pytest.fixture(scope="module")
def done(lesson: Lesson, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A quick job of 25 epochs, run to its end here."""
    job = make(lesson, tmp_path_factory.mktemp("done") / "job", epochs=25)
    assert run_finetune(job.folder) == job.result / "bundle.safetensors"
    return job


def test_the_result_is_a_model_with_its_story(lesson: Lesson, done: Job) -> None:
    parent, child, result = load_bundle(lesson.model), load_bundle(done.result / "bundle.safetensors"), result_of(done)
    assert done.state.status == "done"
    assert (result["parent"], result["bundle"], result["same_trunk"]) == (parent.hash, child.hash, True)
    assert child.trunk_hash == parent.trunk_hash
    assert child.hash != parent.hash
    card = child.card
    assert (card.name, card.parent, card.trained, card.class_names) == (
        "pupil",
        parent.hash,
        True,
        ("benign", "malignant"),
    )
    assert card.training["split"] == "region"
    assert card.training["tiles_trained"] == result["examples"]["train"]
    assert card.training["settings"]["seed"] == 0
    assert "same slide, optimistic" in card.limits
    assert card.metrics["after"]["scores"] == result["after"]["scores"]
    assert card.metrics["before"]["notes"][0] == "same slide, optimistic"
    assert "Jane" not in (done.result / "result.json").read_text() + card.model_dump_json()
    assert "drawn-on" not in (done.folder / "job.json").read_text()
    replay = child.replay
    assert replay is not None
    assert len(replay.labels) == 40 + sum(result["examples"]["train"].values())


def test_events_tell_all_that_a_window_shows(done: Job) -> None:
    events = done.events()[0]
    assert [event["event"] for event in events] == ["prepared", *["epoch"] * 25, "finished"]
    prepared, result = events[0], result_of(done)
    assert {"train": prepared["train"], "held_out": prepared["held_out"]} == result["examples"]
    assert (prepared["split"], prepared["optimistic"], prepared["epochs"]) == ("region", True, 25)
    assert prepared["notes"][0] == "same slide, optimistic"
    assert [event["epoch"] for event in events[1:-1]] == list(range(25))
    assert events[-2]["train_loss"] < events[1]["train_loss"]
    assert 0 <= events[-2]["val_gmean"] <= 1


def test_how_good_it_is_can_be_looked_at(done: Job) -> None:
    result, check = result_of(done), ModelCheck.open(done.result)
    assert len(check.samples) == sum(result["examples"]["held_out"].values())
    counts = [[len(cell) for cell in row] for row in check.confusion()]
    assert counts == result["after"]["confusion"]
    card = load_bundle(done.result / "bundle.safetensors").card
    assert (check.temperature, check.threshold) == (card.temperature, card.operating_threshold)
    page = (done.result / "check.html").read_text()
    assert page.count("<img alt=''") >= min(24, len(check.samples))
    assert "Jane" not in page
    assert "drawn-on" not in page
    assert result["verdict"] in ("better", "worse", "same")


def test_figures_are_of_the_stored_models_on_the_same_tiles(lesson: Lesson, done: Job) -> None:
    from napari_dala.annotations.held_out import hold_out

    result, tiles = result_of(done), tiles_of(lesson)
    split = hold_out(tiles.examples, {source.fingerprint: source.grid for source in tiles.sources}, 0.25, 0).split
    stored = tiles.sources[0].stored
    assert stored is not None
    row, column, label = (
        values[split.test] for values in (tiles.examples.row, tiles.examples.column, tiles.examples.label)
    )
    features = torch.from_numpy(stored.read(row, column)).float()
    for side, path in (("before", lesson.model), ("after", done.result / "bundle.safetensors")):
        with torch.inference_mode():
            logits = load_bundle(path).network.head_from_means(features)
        assert result[side]["n"] == len(split.test)
        assert result[side]["scores"]["accuracy"]["value"] == pytest.approx(
            float((logits.argmax(1).numpy() == label).mean())
        )
    replay = load_head(lesson.model).replay
    assert replay is not None
    assert result["replay"]["tiles"] == len(replay.labels)
    for side, path in (("before", lesson.model), ("after", done.result / "bundle.safetensors")):
        with torch.inference_mode():
            right = load_head(path).network.head_from_means(replay.features.float()).argmax(1) == replay.labels
        assert result["replay"][side] == pytest.approx(float(right.float().mean()))


def test_what_an_analysis_lacks_is_read_from_the_pixels(lesson: Lesson, tmp_path: Path) -> None:
    settings, tiles = FinetuneSettings(**FAST), tiles_of(lesson)
    stored, had = labelled_features(tiles, settings, pytest.fail, 2048)
    assert had.all()
    assert stored.any(1).all()

    shutil.copytree(lesson.analysis / "analysis.zarr", tmp_path / "seen" / "analysis.zarr")
    ((_, group),) = zarr.open_group(tmp_path / "seen" / "analysis.zarr", mode="a").groups()
    undone = tiles.examples.column >= np.median(tiles.examples.column)
    for row, column in zip(tiles.examples.row[undone], tiles.examples.column[undone], strict=True):
        group["status"][row, column], group["features"][row, column] = TileStatus.TODO, 0
    told: list[tuple[int, int]] = []
    for one, missing in (({"analysis": tmp_path / "seen"}, int(undone.sum())), ({"analysis": None}, None)):
        others = tiles_of(lesson, examples_of(lesson, **one))
        told.clear()
        read, had = labelled_features(
            others, settings, lambda: load_bundle(lesson.model), 2048, on_progress=lambda *each: told.append(each)
        )
        others.close()
        assert had.all()
        assert told[-1] == ((missing or len(others)),) * 2
        same = np.isin(
            others.examples.row * 100 + others.examples.column, tiles.examples.row * 100 + tiles.examples.column
        )
        np.testing.assert_allclose(read[same].astype(float), stored.astype(float), rtol=0.02, atol=0.02)


def test_tiles_that_cannot_be_decoded_are_left_out(mosaic: Path, broken_mosaic: Any, tmp_path: Path) -> None:
    path, (x, y) = broken_mosaic
    boxes = [(x + 64, y + 64, "benign"), (0, 0, "benign"), (2304, 2304, "malignant")]
    drawn = [Annotation.drawn(shapely.box(x, y, x + 384, y + 384), name) for x, y, name in boxes]
    card = UNTRAINED_CARD.model_copy(update={"tile_px": 64})
    write_annotations(AnnotationDocument("", (), tuple(drawn)), tmp_path / "drawn.geojson")
    one = SlideExamples(slide=path, annotations=tmp_path / "drawn.geojson")
    with gather([one], card, "0", FinetuneSettings(**FAST)) as tiles:
        features, had = labelled_features(
            tiles, FinetuneSettings(**FAST), lambda: ModelBundle(seeded_network(2), card), 2048
        )
    left, top = tiles.examples.column * 128, tiles.examples.row * 128  # 64 px at 0.5 um/px, level-0 px of 0.25
    near = 8  # px that resampling reads beside a tile
    inside = (left + 128 + near > x) & (left - near < x + 512) & (top + 128 + near > y) & (top - near < y + 512)
    assert had[~inside].all()
    assert not had.all()
    assert features[had].any(1).all()


def test_nothing_that_can_be_decoded_is_an_error(lesson: Lesson, broken_mosaic: Any, tmp_path: Path) -> None:
    path, (x, y) = broken_mosaic
    drawn = [
        Annotation.drawn(shapely.box(x + left, y + 150, x + left + 200, y + 350), name)
        for left, name in ((50, "benign"), (260, "malignant"))
    ]
    write_annotations(AnnotationDocument("", (), tuple(drawn)), tmp_path / "drawn.geojson")
    job = make(lesson, tmp_path / "job", SlideExamples(slide=path, annotations=tmp_path / "drawn.geojson"))
    with pytest.raises(DalaError, match="none of the labelled tiles can be decoded"):
        run_finetune(job.folder)


def redrawn(lesson: Lesson, path: Path, **changes: Any) -> SlideExamples:
    write_annotations(replace(read_annotations(lesson.annotations), **changes), path)
    return examples_of(lesson, annotations=path)


def test_a_class_that_the_parent_lacks_is_added(lesson: Lesson, tmp_path: Path) -> None:
    document = read_annotations(lesson.annotations)
    names = {"benign": "Benign", "malignant": "Malignant"}
    annotations = [replace(item, class_name=names[str(item.class_name)]) for item in document.annotations]
    for number in (1, 3, -1):
        annotations[number] = replace(annotations[number], class_name="necrosis")
    classes = (
        *(AnnotationClass(name, (1, 2, 3)) for name in names.values()),
        AnnotationClass("necrosis", (9, 8, 7)),
        AnnotationClass("unused", (0, 0, 0)),
    )
    one = redrawn(lesson, tmp_path / "new.geojson", classes=classes, annotations=tuple(annotations))
    tiles = tiles_of(lesson, one)
    assert tiles.examples.class_names == ("benign", "malignant", "necrosis")
    assert tiles.classes[2].color == (9, 8, 7)
    assert tiles.examples.counts["necrosis"] == 3
    job = make(lesson, tmp_path / "job", one)
    run_finetune(job.folder)
    child, result = load_bundle(job.result / "bundle.safetensors"), result_of(job)
    assert child.card.class_names == tuple(result["classes"]) == ("benign", "malignant", "necrosis")
    assert child.network.num_classes == 3
    if result["examples"]["held_out"]["necrosis"]:
        assert result["before"]["scores"]["recall"]["necrosis"]["value"] == 0


def test_background_is_left_out_unless_there_is_nothing_else(lesson: Lesson, tmp_path: Path) -> None:
    glass = Annotation.drawn(shapely.box(0, 0, 128, 64), "benign")
    document = read_annotations(lesson.annotations)
    plain = tiles_of(lesson)
    one = redrawn(lesson, tmp_path / "glass.geojson", annotations=(*document.annotations, glass))
    with_glass = tiles_of(lesson, one)
    assert with_glass.examples.counts == plain.examples.counts
    assert "benign: 2 tiles lie on background and were left out" in with_glass.notes
    only = (replace(glass, class_name="glass"), *document.annotations)
    classes = (*document.classes, AnnotationClass("glass", (0, 0, 0)))
    kept = tiles_of(lesson, redrawn(lesson, tmp_path / "only.geojson", annotations=only, classes=classes))
    assert kept.examples.counts["glass"] == 2
    assert any("used all the same" in note for note in kept.notes)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_and_resumed_it_comes_to_the_same(lesson: Lesson, tmp_path: Path) -> None:
    job, other = (make(lesson, tmp_path / name, epochs=60) for name in ("killed", "whole"))
    job.start()
    deadline = time.monotonic() + 120
    while len(job.events()[0]) < 5:  # in the midst of learning
        assert time.monotonic() < deadline
        assert job.state.is_live, job.state.message
        time.sleep(0.005)
    process = job.state.process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert job.wait(10) == "interrupted"
    assert not list(job.result.iterdir())
    job.resume()
    assert job.wait(120) == "done"
    run_finetune(other.folder)
    one, two = (load_head(each.result / "bundle.safetensors").network.state_dict() for each in (job, other))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    assert result_of(job)["after"] == result_of(other)["after"]
    epochs = [event["epoch"] for event in job.events()[0] if event["event"] == "epoch"]
    assert epochs[-60:] == list(range(60))
    assert len(epochs) > 60


def test_cancelled_it_keeps_nothing_half_and_goes_on_later(lesson: Lesson, tmp_path: Path) -> None:
    job = make(lesson, tmp_path / "job")
    assert run_finetune(job.folder, lambda event: job.cancel()) is None
    assert job.status == "cancelled"
    assert not list(job.result.iterdir())
    assert run_finetune(job.folder) is not None
    assert job.status == "done"
    with pytest.raises(JobError, match="this job is done"):
        run_finetune(job.folder)


def test_what_is_wrong_is_one_line_and_the_jobs_message(lesson: Lesson, tmp_path: Path) -> None:
    moved = tmp_path / "moved.tif"
    moved.write_bytes(b"no slide")
    document = read_annotations(lesson.annotations)
    nothing = redrawn(lesson, tmp_path / "nothing.geojson", annotations=())
    other = redrawn(lesson, tmp_path / "other.geojson", fingerprint="0" * 32)
    copied = tmp_path / "copy.tif"
    shutil.copy(lesson.slide, copied)
    cases = [
        ([nothing], "no tile is labelled"),
        ([other], "drawn on another slide than lesson.tif"),
        ([examples_of(lesson, slide=moved)], "moved.tif: not a picture that can be read, or damaged"),
        ([examples_of(lesson), examples_of(lesson, slide=copied)], "copy.tif: this slide is given twice"),
        ([examples_of(lesson, mpp=4.0)], "more than twice as coarse"),
    ]
    assert document.annotations
    for number, (slides, expected) in enumerate(cases):
        job = make(lesson, tmp_path / f"job{number}", *slides)
        with pytest.raises(DalaError, match=expected) as raised:
            run_finetune(job.folder)
        assert "\n" not in str(raised.value)
        assert (job.state.status, job.state.message) == ("failed", str(raised.value))
        assert not list(job.result.iterdir())


def test_one_class_alone_needs_a_replay(lesson: Lesson, tmp_path: Path) -> None:
    document = read_annotations(lesson.annotations)
    benign = tuple(item for item in document.annotations if item.class_name == "benign")
    one = redrawn(lesson, tmp_path / "benign.geojson", annotations=benign)
    job = make(lesson, tmp_path / "with", one)
    run_finetune(job.folder)
    assert any("No tile is labelled malignant" in note for note in result_of(job)["notes"])
    job = make(lesson, tmp_path / "without", one, replay=0.0)
    with pytest.raises(DalaError, match="tiles of one class only"):
        run_finetune(job.folder)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_no_room_for_the_result_leaves_nothing_half(lesson: Lesson, tmp_path: Path) -> None:
    import resource

    job = make(lesson, tmp_path / "job")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # as a full disk: the bundle does not fit
    try:
        with pytest.raises(JobError, match=r"bundle.safetensors: ") as raised:
            run_finetune(job.folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert job.state.message == str(raised.value)
    assert not list(job.result.iterdir())
    assert run_finetune(job.folder) is not None


def test_the_public_function_gives_the_model(lesson: Lesson, tmp_path: Path) -> None:
    events: list[FinetuneEvent] = []
    parent = load_bundle(lesson.model)
    child = finetune(parent, [examples_of(lesson)], tmp_path / "job", on_event=events.append, **FAST)
    assert child.card.name == "teacher-quick"
    assert child.card.parent == parent.hash
    assert isinstance(events[0], Prepared)
    assert events[-1] == Finished()
    with open_slide(lesson.slide) as slide:
        assert slide.fingerprint == read_annotations(lesson.annotations).fingerprint
    card = parent.card.model_copy(update={"name": "in memory"})
    with pytest.raises(BundleError, match="in memory: save this bundle first"):
        finetune(ModelBundle(seeded_network(2), card), [examples_of(lesson)], tmp_path / "other")
