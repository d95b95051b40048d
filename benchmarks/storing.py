"""What does storing cost, and what does a kill leave? `python -m benchmarks.storing ANALYSIS.zarr [--blocks 2 16]`.

The tiles of a stored analysis are written to an empty store of the same arrays, in the order in which an analysis takes
them, so many blocks of 4 x 4 tiles together: as napari-dala does it, through tensorstore; by zarr-python with zarrs'
codecs (`pip install zarrs`, or it is left out); and by plain zarr-python. Each run has a
process of its own. *lock*: how long a thread that counts in pure Python is kept from the interpreter's lock; *beside
Python*: how long the writer takes beside that thread. `--kills 20` ends writers by SIGKILL at random moments instead;
what is left is then read by zarr-python alone. Linux only.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr

from napari_dala.analysis.control import RunControl
from napari_dala.analysis.schedule import Schedule
from napari_dala.results.chunk_writer import ChunkWriter
from napari_dala.results.chunks import TILES_LAST, cells_of, chunk_side
from napari_dala.results.opening import create_store, open_store
from napari_dala.results.tile_results import TileResults, TileStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_dala.results.store import AnalysisStore


class ZarrWriter:
    """The same `put` by zarr-python: each chunk is read, unless it was the last one, changed and written."""

    def __init__(self, arrays: Mapping[str, zarr.Array[Any]], cells: int) -> None:
        self._arrays, self._cells = arrays, cells
        self._held: dict[str, tuple[tuple[int, ...], NDArray[Any]]] = {}

    def put(self, row: NDArray[np.intp], column: NDArray[np.intp], values: Mapping[str, NDArray[Any]]) -> None:
        """Put in the values of n tiles."""
        for name, each in values.items():
            array, side = self._arrays[name], chunk_side(self._arrays[name], name, self._cells)
            for place in sorted(set(zip((row // side).tolist(), (column // side).tolist(), strict=True))):
                here = (row // side == place[0]) & (column // side == place[1])
                index = (0, *place) if name in TILES_LAST else (*place, *(0,) * (array.ndim - 2))
                held = self._held.pop(name, None)
                chunk = held[1] if held and held[0] == index else np.array(array.get_block_selection(index))
                self._fill(chunk, name, row[here] - place[0] * side, column[here] - place[1] * side, each[here])
                array.set_block_selection(index, chunk)
                self._held[name] = index, chunk

    def _fill(self, chunk: NDArray[Any], name: str, row: Any, column: Any, values: NDArray[Any]) -> None:
        if name not in TILES_LAST:
            chunk[row, column] = values
            return
        cells = cells_of(name, self._cells)
        by_tile = chunk.reshape(len(chunk), chunk.shape[1] // cells, cells, chunk.shape[2] // cells, cells)
        by_tile[:, row, :, column] = values.reshape(len(row), len(chunk), cells, cells)


WRITERS: dict[str, Any] = {"napari-dala": ChunkWriter, "zarrs": ZarrWriter, "zarr": ZarrWriter}


class Trial(NamedTuple):
    """What a process does: write some tiles of an analysis, so many blocks together, to a new store in a folder."""

    analysis: str
    writer: str
    blocks: int
    tiles: int
    folder: str = ""
    beside_python: bool = False


def main() -> None:
    """Print a line a writer and a number of blocks; with `--kills` what was left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("analysis", type=Path)
    parser.add_argument(
        "--writers",
        nargs="+",
        choices=WRITERS,
        default=[name for name in WRITERS if name != "zarrs" or find_spec("zarrs")],
    )
    parser.add_argument("--blocks", type=int, nargs="+", default=[2, 16], help="written together")
    parser.add_argument("--tiles", type=int, default=2000, help="at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        print(json.dumps(_write(Trial(**json.loads(asked.child)))))
        return
    for blocks in asked.blocks:
        trials = [Trial(str(asked.analysis), writer, blocks, asked.tiles) for writer in asked.writers]
        if asked.kills:
            for trial in trials:
                print(f"{blocks} blocks, {trial.writer}: {_killed(trial, asked.kills)}", flush=True)
            continue
        runs = [[_run(trial) for trial in trials] for _ in range(asked.rounds)]  # the writers take turns
        for trial, found in zip(trials, zip(*runs, strict=True), strict=True):
            figures = [f"{name} {median(run[name] for run in found):.4g}" for name in found[0]]
            print(f"{blocks} blocks, {trial.writer}: {', '.join(figures)}", flush=True)


def _command(trial: Trial, folder: Path) -> list[str]:
    child = json.dumps(trial._replace(folder=str(folder))._asdict())
    return [sys.executable, "-m", "benchmarks.storing", trial.analysis, "--child", child]


def _run(trial: Trial) -> dict[str, float]:
    """Return what a tile cost, measured alone and then beside a thread that is busy with Python."""
    figures: dict[str, float] = {}
    for each in (trial, trial._replace(beside_python=True)):
        with tempfile.TemporaryDirectory(dir=Path(trial.analysis).parent) as folder:
            output = subprocess.run(_command(each, Path(folder)), check=True, stdout=subprocess.PIPE).stdout
            figures |= json.loads(output)
    return figures


def _write(trial: Trial) -> dict[str, float]:
    """Write tiles to a new store, in this process."""
    if trial.writer == "zarrs":
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    source, folder = open_store(Path(trial.analysis)), Path(trial.folder)
    batches = _batches(source, trial.blocks, trial.tiles)
    store = _like(source, folder)
    store._writer = WRITERS[trial.writer](store._arrays, store.grid.cells)
    tiles = sum(len(batch.row) for batch in batches)
    if trial.beside_python:
        taken, lost = _beside_python(lambda: _write_all(store, batches))
        return {"lock, ms": lost / tiles * 1e3, "beside Python, ms": taken / tiles * 1e3}
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, spent = time.perf_counter(), time.process_time()
    _write_all(store, batches)
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    files = [path for path in folder.rglob("c/**/*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    times = {"wall, ms": seconds / tiles * 1e3, "processor, ms": spent / tiles * 1e3}
    return times | {"KB": size / tiles / 1e3, "files": len(files), "peak, MB": peak / 1e3, "tiles": tiles}


def _write_all(store: AnalysisStore, batches: list[TileResults]) -> None:
    for batch in batches:
        store.write(batch, [])


def _like(source: AnalysisStore, folder: Path) -> AnalysisStore:
    """Return an empty store of the same arrays."""
    return create_store(
        folder / "analysis.zarr",
        source.setting,
        slide={},
        bundle_hash=source.bundle_hash,
        card=source.card,
        components=source.components,
        knows_unfamiliar=source.knows_unfamiliar,
    )


def _batches(source: AnalysisStore, blocks: int, tiles: int) -> list[TileResults]:
    """Return what is stored of the first tiles, so many blocks together."""
    done = (source.status == TileStatus.DONE) & source.exact
    done &= np.cumsum(done).reshape(done.shape) <= tiles
    taken = [np.array(tiles) for _, tiles in iter(Schedule(source.grid, done, RunControl()).take, None)]
    cells, (rows, columns) = source.grid.cells, source.grid.shape
    by_tile: dict[str, NDArray[Any]]
    by_tile = {name: source.read(name) for name in ("features", "layer4", "unfamiliarity") if name in source._arrays}
    by_tile["probability"] = np.moveaxis(source.read("probability"), 0, -1)
    by_tile["cam"] = source.read("cam").reshape(-1, rows, cells, columns, cells).transpose(1, 3, 0, 2, 4)
    batches = []
    for first in range(0, len(taken), blocks):
        row, column = np.concatenate(taken[first : first + blocks]).T
        batches.append(TileResults(row, column, **{name: each[row, column] for name, each in by_tile.items()}))
    return batches


def _beside_python(work: Callable[[], None]) -> tuple[float, float]:
    """Do some work beside a thread that counts in Python; return the seconds it took, and kept that one from the lock.

    That is for how long it neither ran nor waited for a core.
    """
    ended = threading.Event()

    def count() -> None:
        while not ended.is_set():
            pass

    thread = threading.Thread(target=count)
    thread.start()
    schedule = Path(f"/proc/self/task/{thread.native_id}/schedstat")
    started, before = time.perf_counter_ns(), _ran_or_queued(schedule)
    work()
    taken, after = time.perf_counter_ns() - started, _ran_or_queued(schedule)
    ended.set()
    thread.join()
    return taken / 1e9, (taken - (after - before)) / 1e9


def _ran_or_queued(schedule: Path) -> int:
    ran, queued, _ = schedule.read_text().split()
    return int(ran) + int(queued)


def _killed(trial: Trial, kills: int) -> str:
    """Kill a writer at random moments and say what it left, as zarr-python reads it."""
    rng = random.Random(0)
    source = open_store(Path(trial.analysis))
    expected = {name: source.read(name) for name in ("probability", "features", "cam")}
    torn = left = false = marked = 0
    with tempfile.TemporaryDirectory(dir=Path(trial.analysis).parent) as name:
        for kill in range(kills):
            folder = Path(name) / str(kill)
            child = subprocess.Popen(_command(trial, folder), stdout=subprocess.DEVNULL)
            while not any(folder.rglob("features/c/*")):
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, 1.0))
            child.send_signal(signal.SIGKILL)
            child.wait()
            left += sum(path.is_file() and not path.name.isdecimal() for path in folder.rglob("c/**/*"))
            torn += _unreadable(folder / "analysis.zarr")
            store = open_store(folder / "analysis.zarr")
            row, column = np.nonzero(store.status == TileStatus.DONE)
            marked += len(row)
            for array, values in expected.items():
                factor = store.grid.cells if array == "cam" else 1
                at = (row, column) if array == "features" else (..., row * factor, column * factor)
                false += not np.array_equal(store.read(array)[at], values[at])
    return (
        f"{kills} kills, {marked} tiles marked, {torn} chunks torn, {left} files left over, "
        f"{false} arrays without what the marks say"
    )


def _unreadable(path: Path) -> int:
    """Count the chunks of a store that zarr-python cannot decode."""
    torn = 0
    for name, array in zarr.open_group(path, mode="r").members(None):
        for chunk in (path / name).glob("c/**/*"):
            if isinstance(array, zarr.Array) and chunk.name.isdecimal() and chunk.is_file():
                try:
                    array.get_block_selection(tuple(map(int, chunk.relative_to(path / name / "c").parts)))
                except (ValueError, RuntimeError):
                    torn += 1
    return torn


if __name__ == "__main__":
    main()
