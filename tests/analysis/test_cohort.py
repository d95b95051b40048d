"""Cohorts on two worker processes of one thread each."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_dala.analysis.cluster import connected
from napari_dala.analysis.cohort import CohortProgress, analyze_cohort
from napari_dala.analysis.cohort_tasks import (
    CohortSettings,
    Failure,
    Plan,
    RangeDone,
    SlideJob,
    device_of,
    run_range,
    tile_ranges,
)
from napari_dala.analysis.engine import Work, analyze
from napari_dala.analysis.predictor import Predictor
from napari_dala.analysis.result import Analysis
from napari_dala.analysis.store import TileStatus, open_store
from napari_dala.errors import ClusterError, DalaError
from napari_dala.model.bundle import ModelBundle, load_model, seeded_network
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.slide import open_slide
from napari_dala.slide.teaching import teaching_slide
from napari_dala.slide.tiles import BLOCK

# isort: split
import torch
from distributed import Client, LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARRAYS = ("status", "scored", "exact", "probability", "cam", "features", "layer4", "unfamiliarity")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A drawn slide of some hundred tissue tiles of 64 px, and a file that is none."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "Jane_Doe.svs").write_bytes(b"no slide")
    return teaching_slide(folder / "John_Doe.tif", 1536, 3).path, folder / "Jane_Doe.svs"


@pytest.fixture(scope="module")
def settings(with_basis: Predictor, tmp_path_factory: pytest.TempPathFactory) -> CohortSettings:
    """Random weights, small tiles, in fp32: the precision whose bits are most easily changed."""
    folder = tmp_path_factory.mktemp("model")
    card = UNTRAINED_CARD.model_copy(update={"tile_px": 64, "name": "small"})
    whole = with_basis.bundle
    assert isinstance(whole, ModelBundle)
    ModelBundle(whole.network, card, whole.basis, whole.familiarity).as_stored().save(folder / "small.safetensors")
    file = str(folder / "small.safetensors")
    return CohortSettings(folder, file, load_model(file).hash, precision="fp32", batches=4)


@pytest.fixture(scope="module")
def alone(cohort: tuple[Path, Path], settings: CohortSettings, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """The same slide in one process, on one thread: rounding depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with open_slide(cohort[0]) as slide:
            return analyze(slide, load_model(settings.model), tmp_path_factory.mktemp("alone"), precision="fp32")
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers, whose logs are kept."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit=None,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


def _same(folder: Path, alone: Analysis) -> None:
    store = open_store(folder / "analysis.zarr")
    for name in ARRAYS:
        found, expected = store.read(name), alone.store.read(name)
        assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), name


def test_two_workers_give_the_arrays_of_one_process_and_a_bad_slide_stops_nothing(
    client: Client, cohort: tuple[Path, Path], settings: CohortSettings, alone: Analysis, tmp_path: Path
) -> None:
    reports: list[CohortProgress] = []
    settings = replace(settings, out=tmp_path)
    done, failed = analyze_cohort(client, cohort, settings, reports.append)
    assert isinstance(failed, Failure)
    assert failed.message.startswith("Jane_Doe.svs: not a slide")
    assert isinstance(done, Plan)
    tiles = int(alone.analysed.sum())
    assert (done.tiles, done.todo) == (tiles, tiles)
    _same(done.folder, alone)
    assert {path.name for path in done.folder.iterdir()} == {
        "analysis.zarr",
        "overview.png",
        "regions.geojson",
        "report.html",
        "run.json",
        "tiles.csv",
    }
    assert (reports[0].done, reports[0].total, reports[0].seconds_left) == (0, 0, None)
    last = reports[-1]
    assert (last.finished, last.failed, last.slides, last.done, last.total) == (1, 1, 2, tiles, tiles)
    assert last.tiles_per_s > 0
    assert last.seconds_left == 0
    assert len({report.done for report in reports}) > 4  # it goes on by ranges

    reports.clear()
    (again,) = analyze_cohort(client, cohort[:1], settings, reports.append)
    assert isinstance(again, Plan)
    assert (again.tiles, again.todo) == (tiles, 0)
    assert all(report.done in (0, tiles) for report in reports)
    assert reports[-1].tiles_per_s == 0  # nothing was done twice
    _same(again.folder, alone)


def test_a_killed_worker_changes_nothing_and_only_its_range_is_done_again(
    cluster: LocalCluster,
    client: Client,
    cohort: tuple[Path, Path],
    settings: CohortSettings,
    alone: Analysis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished: list[RangeDone] = []
    real = client.gather

    tiles = int(alone.analysed.sum())
    settings = replace(settings, out=tmp_path, batches=-(-tiles // 8 // 4))  # four ranges
    killed = threading.Event()

    def kill() -> None:
        pids = client.run(os.getpid)
        while not killed.is_set():
            time.sleep(0.005)
            begun = _part_of_a_range(tmp_path)
            if begun:
                (victim, *_) = [worker for worker, keys in client.processing().items() if keys]
                os.kill(pids[victim], signal.SIGKILL)
                killed.set()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        (done,) = analyze_cohort(client, cohort[:1], settings)
    finally:
        killed.set()
        thread.join()
    assert isinstance(done, Plan)
    _same(done.folder, alone)
