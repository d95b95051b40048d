"""Cohorts on two worker processes of one thread each."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_dala.analysis.cohort import cluster
from napari_dala.analysis.cohort.cluster import connected
from napari_dala.analysis.cohort.cohort import CohortProgress, SlideDone, analyze_cohort
from napari_dala.analysis.cohort.tasks import (
    CohortSettings,
    Failure,
    Plan,
    SlideJob,
    TileRange,
    device_of,
    run_range,
    tile_ranges,
)
from napari_dala.analysis.engine import analyze
from napari_dala.analysis.plan import Work
from napari_dala.cli import main
from napari_dala.errors import ClusterError, DalaError
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import ModelBundle, load_model
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.opening import open_store
from napari_dala.results.store import CHUNK
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import Client

    from napari_dala.results.analysis import Analysis
from napari_dala.results.request import AnalysisRequest

ARRAYS = ("status", "scored", "exact", "probability", "cam", "features", "layer4", "unfamiliarity")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A drawn slide of some hundred tissue tiles of 64 px, and a file that is none."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "Jane_Doe.svs").write_bytes(b"no slide")
    return teaching_slide(folder / "John_Doe.tif", 2112, 3).path, folder / "Jane_Doe.svs"


@pytest.fixture(scope="module")
def settings(with_basis: Predictor, tmp_path_factory: pytest.TempPathFactory) -> CohortSettings:
    """Random weights, small tiles, in fp32: the precision whose bits are most easily changed."""
    folder = tmp_path_factory.mktemp("model")
    card = UNTRAINED_CARD.model_copy(update={"tile_px": 64, "name": "small"})
    whole = with_basis.bundle
    assert isinstance(whole, ModelBundle)
    ModelBundle(whole.network, card, whole.basis, whole.familiarity).as_stored().save(folder / "small.safetensors")
    file = str(folder / "small.safetensors")
    return CohortSettings(AnalysisRequest(out=folder, model=file, precision="fp32"), load_model(file).hash, batches=4)


def asking(settings: CohortSettings, **values: object) -> CohortSettings:
    """Return the settings with something else asked for."""
    return replace(settings, request=settings.request.model_copy(update=values))


@pytest.fixture(scope="module")
def alone(cohort: tuple[Path, Path], settings: CohortSettings, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """The same slide in one process."""
    with open_slide(cohort[0]) as slide:
        return analyze(slide, load_model(settings.request.model), tmp_path_factory.mktemp("alone"), precision="fp32")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "local_workers", lambda device: 2)
        with connected("local") as client:
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
    settings = asking(settings, out=tmp_path)
    done, failed = analyze_cohort(client, cohort, settings, reports.append)
    assert isinstance(failed, Failure)
    assert failed.message.startswith("Jane_Doe.svs: not a slide")
    assert isinstance(done, SlideDone)
    tiles = int(alone.analysed.sum())
    assert (done.plan.tiles, done.plan.todo) == (tiles, tiles)
    _same(done.plan.folder, alone)
    assert {path.name for path in done.plan.folder.iterdir()} == {
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
    assert isinstance(again, SlideDone)
    assert (again.plan.tiles, again.plan.todo, again.ranges) == (tiles, 0, ())
    assert all(report.done in (0, tiles) for report in reports)
    assert reports[-1].tiles_per_s == 0  # nothing was done twice
    _same(again.plan.folder, alone)


def test_a_killed_worker_changes_nothing_and_only_its_range_is_done_again(
    client: Client, cohort: tuple[Path, Path], settings: CohortSettings, alone: Analysis, tmp_path: Path
) -> None:
    settings = replace(asking(settings, out=tmp_path), batches=16)
    batch_size = Predictor(load_model(settings.request.model), precision=settings.request.precision).batch_size
    workers = len(client.ncores())
    ranges = list(tile_ranges(_nothing_done(alone), settings.batches * batch_size, workers))
    killed: list[int] = []
    over = threading.Event()

    def kill_one_half_way() -> None:
        pids = client.run(os.getpid)
        while not over.is_set() and not killed:
            time.sleep(0.01)
            done = _done(tmp_path)
            for worker, keys in client.processing().items():
                # its first task is the one at work; task 0 of the slide is its planning
                if done is not None and keys and keys[0].startswith("dala-run-range"):
                    part = done[tuple(ranges[int(keys[0].split("-")[-1]) - 1].wanted.T)]
                    if 0 < part.mean() < 0.7:
                        os.kill(pids[worker], signal.SIGKILL)
                        killed.append(pids[worker])
                        break

    killer = threading.Thread(target=kill_one_half_way)
    killer.start()
    try:
        (done,) = analyze_cohort(client, cohort[:1], settings)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 1
    assert isinstance(done, SlideDone)
    _same(done.plan.folder, alone)
    assert len(done.ranges) == len(ranges) > 2
    assert sum(part.kept > 0 for part in done.ranges) == 1  # the one that was begun twice; the others ran once
    assert sum(part.kept + part.tiles for part in done.ranges) == done.plan.tiles


def _done(folder: Path) -> np.ndarray | None:
    """Which tiles are done in the one store under a folder, None while there is none."""
    try:
        (path,) = folder.glob("*/analysis.zarr")
        return open_store(path).status == TileStatus.DONE
    except (DalaError, ValueError):
        return None


def _nothing_done(analysis: Analysis) -> Work:
    tissue = analysis.status != TileStatus.BACKGROUND
    return replace(Work.on(analysis.store, tissue, tissue), status=np.zeros_like(analysis.status))


def test_ranges_are_whole_chunks_and_hold_each_tile_once(alone: Analysis) -> None:
    work = _nothing_done(alone)
    ranges = list(tile_ranges(work, 300, workers=4))
    wanted = np.concatenate([part.wanted for part in ranges])
    assert len(np.unique(wanted, axis=0)) == len(wanted) == work.wanted.sum() == sum(part.todo for part in ranges)
    chunks = [{tuple(chunk) for chunk in part.wanted // CHUNK} for part in ranges]
    assert len(chunks) > 2
    assert sum(map(len, chunks)) == len(set().union(*chunks))  # no chunk is in two
    sizes = [part.todo for part in ranges]
    assert max(sizes) <= 300 + CHUNK * CHUNK
    assert sizes[-1] == min(sizes), "no worker waits long for the last"
    assert len(list(tile_ranges(work, 1000, workers=4))) == 1, "a small slide is not worth dividing"
    assert not list(tile_ranges(replace(work, wanted=np.zeros_like(work.wanted)), 300))


def test_a_worker_that_does_not_fit_ends_the_cohort_with_one_line(
    client: Client, cohort: tuple[Path, Path], settings: CohortSettings, tmp_path: Path
) -> None:
    settings = asking(settings, out=tmp_path)
    for other, words in (
        (replace(settings, bundle_hash="0" * 64), "small.safetensors is another one there"),
        (replace(settings, version="0.0"), "has napari-dala .*, not 0.0"),
        (asking(settings, device="cuda:9"), "there is: cpu"),
    ):
        with pytest.raises(ClusterError, match=words) as caught:
            analyze_cohort(client, cohort, other)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ClusterError, match="no such file"), connected(str(tmp_path / "scheduler.json")):
        pass


def test_nothing_that_dask_may_print_names_a_slide(cohort: tuple[Path, Path], settings: CohortSettings) -> None:
    plan = Plan(cohort[0].parent / "John_Doe", "0", "0", "cpu", "fp32", 1, 1)
    failure = run_range(SlideJob(cohort[1], settings), plan, TileRange(*np.zeros((2, 1, 2), int), 1))
    assert isinstance(failure, Failure)  # returned: dask would log what is raised
    assert "Doe" in failure.message
    assert "Doe" not in repr((SlideJob(cohort[0], settings), settings, plan, failure))


def test_local_workers_share_out_the_gpus() -> None:
    assert [device_of(name, "auto", 2) for name in (0, 1, 2, "tcp://1.2.3.4:5")] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
        "auto",
    ]
    assert device_of(1, "cpu", 2) == "cpu"
    assert device_of(0, "auto", 1) == "auto"


def test_the_command_line_analyses_on_a_scheduler(
    client: Client,
    cohort: tuple[Path, Path],
    settings: CohortSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [
        "--out",
        tmp_path,
        "--model",
        settings.request.model,
        "--scheduler",
        client.scheduler.address,
        "--mpp",
        0.5,
    ]
    monkeypatch.setattr(sys, "argv", ["dala", "analyze", *map(str, (*cohort, *options))])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 1
    assert "dala: Jane_Doe.svs: not a slide" in err
    assert "1 of 2 slides done, 1 failed." in err
    assert "Traceback" not in err
    (folder,) = tmp_path.iterdir()
    assert (folder / "report.html").is_file()
