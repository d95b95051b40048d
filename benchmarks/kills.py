"""Does a process killed at any moment lose anything? `python -m benchmarks.kills --kills 60 [--seed 0]`.

`dala analyze`, `dala finetune`, `dala train` and a loop of autosaves are ended by SIGKILL at random moments and begun
again, as a user would, until they end. Then an analysis must hold the arrays, and a trained bundle the tensors, of a
run that nobody disturbed; what was drawn must be the last version that was saved, or the one being saved. Drawn inputs
and random weights; half a minute a kill on two cores. The exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import shapely
from skimage.io import imsave

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import load_for, previous_of, read_annotations, save_for
from napari_dala.errors import DalaError
from napari_dala.jobs.job import Job
from napari_dala.model.bundle import load_bundle
from napari_dala.results.analysis import Analysis
from napari_dala.slide.teaching.slide import TeachingSlide, teaching_slide

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIDE_PX, PHOTOGRAPH_PX = 1120, 96
ARRAYS = ("status", "features", "scored", "exact", "probability", "cam")
REGIONS = 500  # drawn, so that a save takes a while
FINGERPRINT = "0" * 32


class Trial(NamedTuple):
    """What is killed: its command in a folder (which begins, or goes on with what is there), and what it left."""

    command: Callable[[Path], list[str]]
    result: Callable[[Path], object]


class Finished(Exception):
    """Nothing is left to go on with."""


def main() -> None:
    """Kill, resume, compare and print a table; exit code 1 on any difference."""
    if sys.argv[1:2] == ["autosave"]:
        _save_for_ever()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60, help="of all four together")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    os.environ["OMP_NUM_THREADS"] = "1"  # sums in one order
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["DALA_WORKSPACE"] = str(folder / "workspace")
        trials = _trials(folder)
        expected, seconds = {}, {}
        for kind, trial in trials.items():
            begun = time.perf_counter()
            out = folder / kind
            _run(trial.command(out), None)
            expected[kind], seconds[kind] = trial.result(out), time.perf_counter() - begun
        kinds = (*trials, "autosave")
        outcomes: dict[str, list[str]] = {kind: [] for kind in kinds}
        for number, kind in zip(range(asked.kills), itertools.cycle(kinds), strict=False):
            out = folder / f"{kind}-{number}"
            if kind == "autosave":
                outcome = _killed_autosave(rng.uniform(0.0, 1.0))
            else:
                outcome = _killed(trials[kind], out, rng.uniform(0.0, seconds[kind]), expected[kind])
            outcomes[kind].append(outcome)
            print(f"{number + 1:3}/{asked.kills} {kind:9} {outcome}", flush=True)
    print("\nkind      kills  equal")
    for kind, found in outcomes.items():
        print(f"{kind:9} {len(found):5}  {sum(map(_is_equal, found)):5}")
    sys.exit(not all(_is_equal(outcome) for found in outcomes.values() for outcome in found))


def _is_equal(outcome: str) -> bool:
    return outcome.startswith("equal")


def _trials(folder: Path) -> dict[str, Trial]:
    slide = teaching_slide(folder / "drawn.tif", SIDE_PX)
    photographs = folder / "photographs"
    noise = np.random.default_rng(0)
    for label, patient in itertools.product(("benign", "malignant"), range(4)):
        path = photographs / label / f"{label}-{patient}" / "0.png"
        path.parent.mkdir(parents=True)
        color = (220, 150, 190) if label == "benign" else (130, 80, 150)
        pixels = noise.normal(color, 20, (PHOTOGRAPH_PX, PHOTOGRAPH_PX, 3))
        imsave(path, pixels.clip(0, 255).astype(np.uint8), check_contrast=False)
    return {
        "analyze": Trial(partial(_analyze, slide), _arrays),
        "finetune": Trial(partial(_finetune, slide), lambda out: load_bundle(out / "result/bundle.safetensors").hash),
        "train": Trial(partial(_train, photographs), lambda out: load_bundle(out / "bundle.safetensors").hash),
    }


def _dala(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "napari_dala.cli", *map(str, arguments)]


def _analyze(slide: TeachingSlide, out: Path) -> list[str]:
    return _dala("analyze", slide.path, "--model", "untrained", "--device", "cpu", "--precision", "fp32", "--out", out)


def _finetune(slide: TeachingSlide, out: Path) -> list[str]:
    try:
        Job.open(out)
    except DalaError:  # killed before there was a job
        fast = ("--epochs", 3, "--device", "cpu", "--precision", "fp32", "--threads", 1)
        drawn = ("--annotations", slide.truth_geojson, "--model", "untrained")
        return _dala("finetune", slide.path, *drawn, *fast, "--out", out)
    return _dala("finetune", "--out", out)


def _train(photographs: Path, out: Path) -> list[str]:
    data = ("--dataset", "folder", "--root", photographs, "--mpp", 0.5, "--folds", 4, "--no-imagenet")
    fast = ("--tile", 64, "--epochs", 2, "--batch-size", 4, "--accelerator", "cpu", "--precision", "fp32")
    resume = ("--resume",) if out.exists() else ()
    return _dala("train", *data, *fast, *resume, "--out", out)


def _arrays(out: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of the one analysis under a folder."""
    (store,) = out.rglob("analysis.zarr")
    opened = Analysis.open(store.parent).store
    return {name: opened.read(name) for name in ARRAYS}


def _run(command: list[str], killed_after_s: float | None) -> bool:
    """Run a command, or kill it in between; whether it came to its end.

    Raises
    ------
    RuntimeError
        When it ends by itself with an error, with the end of what it printed.
    Finished
        When it refuses to go on with what is done.
    """
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        printed, _ = child.communicate(timeout=killed_after_s)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.communicate()
        return False
    if any(words in printed for words in ("this run is finished", "this job is done")):
        raise Finished
    if child.returncode:
        raise RuntimeError(f"exit code {child.returncode}: {printed.strip()[-300:]}")
    return True


def _killed(trial: Trial, out: Path, after_s: float, expected: object) -> str:
    try:
        while _run(trial.command(out), after_s):  # faster than the undisturbed run
            shutil.rmtree(out)
            after_s /= 2
        with suppress(Finished):  # killed after its last file
            _run(trial.command(out), None)
        found = trial.result(out)
    except (RuntimeError, DalaError, ValueError) as error:
        return f"after {after_s:.1f} s: {error}"
    try:
        np.testing.assert_equal(found, expected)
    except AssertionError as error:
        return f"after {after_s:.1f} s: {' '.join(str(error).split())[:300]}"
    return f"equal, killed after {after_s:.1f} s"


def _version(number: int) -> AnnotationDocument:
    """Return what was drawn at the numbered save: as many regions as ever, of the save's own size."""
    side = 10 + number
    boxes = [shapely.box(0, 40 * place, side, 40 * place + 30) for place in range(REGIONS)]
    regions = [Annotation.drawn(box, "benign") for box in boxes]
    return AnnotationDocument(FINGERPRINT, (AnnotationClass("benign", (60, 160, 90)),), tuple(regions))


def _save_for_ever() -> None:
    for number in itertools.count(int(sys.argv[2])):
        save_for(_version(number))
        print(number, flush=True)


def _killed_autosave(after_s: float) -> str:
    before = load_for(FINGERPRINT)
    first = 0 if before is None else _number_of(before) + 1
    command = [sys.executable, "-m", "benchmarks.kills", "autosave", str(first)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    begun = child.stdout.readline() if child.stdout else ""  # the first save
    time.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    saved = [int(line) for line in (begun + child.communicate()[0]).rpartition("\n")[0].split()]  # whole lines only
    if not saved:
        return "it never saved"
    last = saved[-1]
    try:
        document = load_for(FINGERPRINT)
        if document is None:
            return f"save {last} is lost"
        number = _number_of(document)
        previous = previous_of(save_for(document))
        read_annotations(previous)
    except DalaError as error:
        return f"after {after_s:.1f} s: {error}"
    if number not in (last, last + 1) or _outlines(document) != _outlines(_version(number)):
        return f"after {after_s:.1f} s: save {last} was the last, {number} is there, or a part of it"
    return f"equal, killed after {after_s:.1f} s and {len(saved)} saves"


def _outlines(document: AnnotationDocument) -> list[tuple[str | None, str]]:
    return [(annotation.class_name, annotation.geometry.wkt) for annotation in document.annotations]


def _number_of(document: AnnotationDocument) -> int:
    return int(document.annotations[0].geometry.bounds[2]) - 10


if __name__ == "__main__":
    main()
