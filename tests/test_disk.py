"""A full disk, a read-only workspace, a killed process: nothing saved is lost or half-written, and work goes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import annotations_path, load_for, previous_of, read_annotations, save_for
from napari_dala.errors import AnnotationError, DalaError, JobError
from napari_dala.jobs.run import JobRun
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.opening import create_store, open_store
from napari_dala.results.store import Setting
from napari_dala.results.tile_results import TileResults
from napari_dala.slide.tiles import BLOCK, TileGrid
from napari_dala.training.finetune.job import FinetuneConfig, FinetuneSettings, SlideExamples, create_finetune_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_dala.jobs.job import Job
    from napari_dala.results.store import AnalysisStore
    from tests.conftest import Lesson

PATIENCE_S = 120.0


class Disk:
    """A small file system that can be full or read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, room: int = 0) -> None:
        """Leave about so many bytes, in whole pages of 4096."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with self._ballast.open("rb+") as file:
            file.truncate(max(0, self._ballast.stat().st_size - room))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def read_only(self, yes: bool = True) -> None:
        subprocess.run(["mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(self.folder)], check=True)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    mounted: list[Path] = []

    def make(size: str) -> Disk:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if sys.platform != "linux" or subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("needs the right to mount a tmpfs (root on Linux)")
        mounted.append(folder)
        return Disk(folder)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "ballast"
    }


def drawing(count: int) -> AnnotationDocument:
    """So many regions of 200 corners, about 8 KB each."""
    angle = np.linspace(0, 2 * np.pi, 200)
    ring = np.column_stack([np.cos(angle), np.sin(angle)]) * 300
    annotations = [Annotation.drawn(shapely.Polygon(ring + 1000 * number), "benign") for number in range(count)]
    return AnnotationDocument("a" * 32, (AnnotationClass("benign", (0, 114, 178)),), tuple(annotations))


def regions(document: AnnotationDocument | None) -> list[tuple[str, str | None, str]]:
    assert document is not None
    return [(one.id, one.class_name, shapely.to_wkt(one.geometry, -1)) for one in document.annotations]


def test_annotations_survive_a_full_disk(make_disk: Callable[[str], Disk]) -> None:
    disk = make_disk("512k")
    first, second, third = (drawing(number) for number in (1, 2, 3))
    for document in (first, second):
        save_for(document, disk.folder)
    path = annotations_path(first.fingerprint, disk.folder)
    before = files(disk.folder)
    saved = 0
    for room in range(0, 24 * 4096, 4096):  # in the midst of which write the disk is full is another each time
        disk.fill(room)
        problem = None
        try:
            save_for(third, disk.folder)
        except AnnotationError as error:
            problem = str(error)
        if problem is not None:
            assert problem == (
                f"{path}: the annotations cannot be saved: No space left on device; what was saved before is intact"
            )
            assert regions(load_for(first.fingerprint, disk.folder)) == regions(second)
            assert regions(read_annotations(previous_of(path))) == regions(first)
            assert files(disk.folder) == before
        else:
            saved += 1
            assert regions(load_for(first.fingerprint, disk.folder)) == regions(third)
            assert regions(read_annotations(previous_of(path))) == regions(second)
            disk.free()
            save_for(first, disk.folder)
            save_for(second, disk.folder)
        disk.free()
    assert 0 < saved < 24
    save_for(third, disk.folder)
    assert regions(load_for(first.fingerprint, disk.folder)) == regions(third)


def test_annotations_in_a_read_only_workspace(make_disk: Callable[[str], Disk]) -> None:
    disk = make_disk("512k")
    first, second = drawing(1), drawing(2)
    save_for(first, disk.folder)
    disk.read_only()
    with pytest.raises(AnnotationError, match="cannot be saved: Read-only file system; what was saved before is int"):
        save_for(second, disk.folder)
    assert regions(load_for(first.fingerprint, disk.folder)) == regions(first)
    disk.read_only(False)
    save_for(second, disk.folder)
    assert regions(load_for(first.fingerprint, disk.folder)) == regions(second)


GRID = TileGrid((2240, 2240), 224, (1.0, 1.0), 7)  # 10 x 10 tiles, 9 blocks


def new_store(folder: Path) -> AnalysisStore:
    return create_store(
        folder / "analysis.zarr",
        Setting("slide", GRID, "trunk", "fp32"),
        slide={},
        bundle_hash="b" * 16,
        card=UNTRAINED_CARD.model_dump(mode="json"),
        components=128,
    )


def results_of(block: tuple[int, int]) -> TileResults:
    """What a network might find in the tiles of a block; the same each time."""
    rows, columns = (range(at * BLOCK, min((at + 1) * BLOCK, 10)) for at in block)
    row, column = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
    rng = np.random.default_rng(block)
    count = len(row)
    return TileResults(
        row,
        column,
        rng.random((count, 2), np.float32),
        rng.random((count, 2, 7, 7), np.float32),
        rng.random((count, 2048), np.float32),
        rng.random((count, 7, 7, 128), np.float32),
    )


def write(store: AnalysisStore, blocks: list[tuple[int, int]]) -> None:
    for block in blocks:
        store.write(results_of(block), [])


def assert_whole(store: AnalysisStore) -> int:
    """Every tile that is marked has exactly what was written of it; return how many there are."""
    marked = np.argwhere(store.scored)
    arrays = {name: store.read(name) for name in ("probability", "cam", "features", "layer4", "status", "exact")}
    for block in np.ndindex(*GRID.blocks()):
        expected = results_of(block)
        for number, (row, column) in enumerate(zip(expected.row.tolist(), expected.column.tolist(), strict=True)):
            if [row, column] not in marked.tolist():
                assert arrays["exact"][row, column] == 0
                continue
            cells = np.s_[:, row * 7 : row * 7 + 7, column * 7 : column * 7 + 7]
            np.testing.assert_array_equal(arrays["probability"][:, row, column], expected.probability[number])
            np.testing.assert_array_equal(arrays["cam"][cells], expected.cam[number].astype(np.float16))
            for name in ("features", "layer4"):
                wanted = getattr(expected, name)[number].astype(np.float16)
                np.testing.assert_array_equal(arrays[name][row, column], wanted)
    return len(marked)


def test_an_analysis_on_a_full_disk_keeps_its_tiles_and_goes_on(make_disk: Callable[[str], Disk]) -> None:
    disk = make_disk("4m")
    store = new_store(disk.folder)
    blocks = list(np.ndindex(*GRID.blocks()))
    store.write(results_of(blocks[0]), [])
    kept = 16
    for room in (0, 4096, 20_000, 40_000, 60_000, 80_000, 150_000, 400_000):
        disk.fill(room)
        with pytest.raises((OSError, DalaError)) as stopped:
            write(store, blocks[1:])
        assert "\n" not in str(stopped.value)
        assert "No space left" in str(stopped.value)
        again = open_store(disk.folder / "analysis.zarr")
        assert assert_whole(again) >= kept
        kept = int(again.scored.sum())
        disk.free()
        assert not [name for name in files(disk.folder) if name.endswith((".partial", ".tmp", ".__lock"))]
    write(new_store(disk.folder), blocks)
    assert assert_whole(open_store(disk.folder / "analysis.zarr")) == 100


def test_an_analysis_in_a_read_only_workspace_can_be_looked_at(make_disk: Callable[[str], Disk]) -> None:
    disk = make_disk("4m")
    new_store(disk.folder).write(results_of((0, 0)), [])
    disk.read_only()
    store = open_store(disk.folder / "analysis.zarr")
    assert assert_whole(store) == 16
    for attempt in (lambda: store.write(results_of((0, 1)), []), lambda: new_store(disk.folder)):
        with pytest.raises((OSError, DalaError, ValueError)) as refused:
            attempt()
        assert "\n" not in str(refused.value)
    disk.read_only(False)
    new_store(disk.folder).write(results_of((0, 1)), [])
    assert assert_whole(open_store(disk.folder / "analysis.zarr")) == 32


def finetuning(lesson: Lesson, folder: Path, epochs: int = 30) -> Job:
    examples = SlideExamples(slide=lesson.slide, annotations=lesson.annotations, analysis=lesson.analysis)
    settings = FinetuneSettings(epochs=epochs, threads=1, n_boot=20, device="cpu", precision="fp32")
    return create_finetune_job(
        folder, FinetuneConfig(name="pupil", model=str(lesson.model), slides=(examples,), settings=settings)
    )


def weights(job: Job) -> dict[str, Any]:
    from napari_dala.model.bundle_head import load_head

    network = load_head(job.result / "bundle.safetensors").network
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def assert_same(one: Job, other: Job) -> None:
    first, second = weights(one), weights(other)
    for name, tensor in first.items():
        np.testing.assert_allclose(tensor, second[name], atol=1e-4)
    results = [json.loads((job.result / "result.json").read_text()) for job in (one, other)]
    assert results[0]["after"] == results[1]["after"]
    losses = [{e["epoch"]: e["train_loss"] for e in job.events()[0] if e["event"] == "epoch"} for job in (one, other)]
    assert losses[0].keys() == losses[1].keys()
    np.testing.assert_allclose([*losses[0].values()], [losses[1][epoch] for epoch in losses[0]], atol=1e-4)


@pytest.fixture(scope="module")
def undisturbed(lesson: Lesson, tmp_path_factory: pytest.TempPathFactory) -> Job:
    from napari_dala.training.finetune.finetune import run_finetune

    job = finetuning(lesson, tmp_path_factory.mktemp("undisturbed") / "job")
    run_finetune(job.folder)
    return job


def test_learning_on_a_full_disk_fails_in_one_line_and_comes_to_the_same(
    lesson: Lesson, undisturbed: Job, make_disk: Callable[[str], Disk]
) -> None:
    from napari_dala.training.finetune.finetune import run_finetune

    disk = make_disk("80m")  # a bundle is about 50 MB
    job = finetuning(lesson, disk.folder / "job")
    for room in (8192, 30_000_000):  # it is full while it learns; while it writes the new model
        disk.fill(room)
        with pytest.raises((OSError, DalaError)) as stopped:
            run_finetune(job.folder)
        assert "\n" not in str(stopped.value)
        assert re.search("disk is full|No space left on device", str(stopped.value))
        assert not list(job.result.iterdir())
        disk.free()
    assert run_finetune(job.folder) is not None
    assert job.status == "done"
    assert_same(job, undisturbed)


def test_learning_in_a_read_only_workspace(lesson: Lesson, make_disk: Callable[[str], Disk]) -> None:
    disk = make_disk("1m")
    job = finetuning(lesson, disk.folder / "job")
    before = files(job.folder)
    disk.read_only()
    for attempt in (job.start, JobRun(job.folder).__enter__, lambda: finetuning(lesson, disk.folder / "other")):
        with pytest.raises(JobError, match="read-only; choose a workspace that can be written to"):
            attempt()
    assert files(job.folder) == before
    assert job.status == "queued"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_at_random_moments_learning_comes_to_the_same(lesson: Lesson, undisturbed: Job, tmp_path: Path) -> None:
    """The moments are spread over its whole length: while it starts, learns and writes."""
    job = finetuning(lesson, tmp_path / "job")
    begun = time.monotonic()
    job.start()
    draw = random.Random(7)
    for moment in ("queued", "prepared", "epoch", "epoch"):
        while job.status == "queued" or (moment != "queued" and moment not in [e["event"] for e in job.events()[0]]):
            assert time.monotonic() - begun < PATIENCE_S
            assert job.status != "failed", job.state.message
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.3))
        process = job.state.process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        if job.wait(10) == "done":  # it was quicker
            break
        assert job.status == "interrupted"
        assert {path.name for path in job.result.iterdir()} <= {"bundle.safetensors"}
        job.resume()
    assert job.wait(PATIENCE_S) == "done", job.state.message
    assert_same(job, undisturbed)
