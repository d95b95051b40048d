"""What do damaged and hostile files do? `python -m benchmarks.fuzz --mutations 2000 --seed 1 [--kind tiff]`.

Of each kind of input a small one is drawn; every mutation changes one of its files, which is then opened and read as
the program does. Bad is what is not one line (a traceback that is no `DalaError`), takes over 10 s, takes over 2 GB
beyond the program, ends the process, or, for stores and bundles, gives other numbers than were stored and says nothing.
A mutation follows from seed, kind and number alone: `--only NUMBER` does one again in this process, with its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tifffile

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import read_annotations, write_annotations
from napari_dala.annotations.regions import read_regions
from napari_dala.errors import DalaError
from napari_dala.files import write_json
from napari_dala.jobs.job import Job, jobs_in
from napari_dala.jobs.state import JobState, Status
from napari_dala.model.card import UNTRAINED_CARD, read_card
from napari_dala.model.catalog import DEFAULT, TEACHING, find_model
from napari_dala.model.tensor_file import UNSEALED, seal
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import create_store
from napari_dala.results.store import Setting
from napari_dala.results.tile_results import TileResults
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMAND = (sys.executable, "-W", "ignore", "-m", "benchmarks.fuzz")  # of a child
MOST_SECONDS = 20  # a trial, which reads its file up to four times
MOST_ADDED = 64 << 20  # bytes: a mutation fills no disk
MOST_MB = 2000
_START_S = 120  # until a child has imported what it needs and drawn its input
_SIDE_PX = 512
_APERIO = "Aperio Image Library v11.2.1\n512x512 [0,0 512x512] (256x256) JPEG/RGB Q=85|AppMag = 20|MPP = 0.5"
_DICOM = Path(__file__).resolve().parents[2] / "shared" / "data" / "slides" / "CMU-1-Small-Region-dicom"
_TEXT = (".json", ".geojson", ".jsonl")

Mutate = Callable[[bytes, random.Random], bytes]


class NotHere(Exception):
    """What a kind is drawn from is not on this machine."""


class Kind(NamedTuple):
    """A kind of input: how one is made in a folder, which files are changed, and what is read of it.

    `read` returns the numbers that must be those stored, or None where any are right or the damage was said.
    """

    make: Callable[[Path], None]
    files: str
    read: Callable[[Path], str | None]


# What is changed


def mutated(data: bytes, suffix: str, chance: random.Random) -> bytes:
    """Return a file's content changed in one to three places."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        kinds: tuple[Mutate, ...] = _BYTES
        if suffix in _TEXT and chance.random() < 0.7:
            kinds = (_line_edited if suffix == ".jsonl" else _json_edited,)
        elif suffix == ".safetensors" and chance.random() < 0.4:
            kinds = (_header_edited,)
        data = chance.choice(kinds)(data, chance)
    return data


def _place(data: bytes, chance: random.Random) -> int:
    """Return a place in the data: at its beginning or end, where directories and headers are, or anywhere."""
    near = min(len(data), chance.choice((32, 512, 4096, len(data))))
    first = chance.randrange(near + 1)
    return chance.choice((first, first, len(data) - first))


def _run(data: bytes, chance: random.Random) -> slice:
    start = _place(data, chance)
    return slice(start, start + min(chance.choice((1, 4, 16, 256, 4096, len(data) // 2)), len(data) - start))


def _flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if changed:
            changed[min(_place(data, chance), len(changed) - 1)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: _place(data, chance)]


def _removed(data: bytes, chance: random.Random) -> bytes:
    run = _run(data, chance)
    return data[: run.start] + data[run.stop :]


def _filled(data: bytes, chance: random.Random) -> bytes:
    run, fill = _run(data, chance), bytes([chance.choice((0, 255))])
    return data[: run.start] + fill * int(run.stop - run.start) + data[run.stop :]


def _repeated(data: bytes, chance: random.Random) -> bytes:
    run = _run(data, chance)
    times: int = min(chance.choice((1, 2, 100)), MOST_ADDED // max(1, run.stop - run.start))
    return data[: run.stop] + data[run] * times + data[run.stop :]


def _swapped(data: bytes, chance: random.Random) -> bytes:
    size = chance.choice((1, 2, 4, 8, 12))
    first, second = sorted((_place(data, chance), _place(data, chance)))
    if second - first < size or second + size > len(data):
        return _flipped(data, chance)
    one, other = data[first : first + size], data[second : second + size]
    return data[:first] + other + data[first + size : second] + one + data[second + size :]


def _other_length(data: bytes, chance: random.Random) -> bytes:
    """Write a number that is none of a sound file's over two, four or eight bytes."""
    size = chance.choice((2, 4, 8))
    number = chance.choice((0, 1, 3, 0x7FFF, 0xFFFF, 10**6, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1))
    written = struct.pack(chance.choice("<>") + {2: "H", 4: "I", 8: "Q"}[size], number % (1 << 8 * size))
    start = _place(data, chance)
    return data[:start] + written + data[start + size :]


_BYTES: tuple[Mutate, ...] = (_flipped, _flipped, _cut, _removed, _filled, _repeated, _swapped, _other_length)


def _json_edited(data: bytes, chance: random.Random) -> bytes:
    """Change one value of JSON; what is none has its bytes changed."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return _flipped(data, chance)
    places: list[tuple[Any, Any]] = []
    todo = [whole]
    while todo:
        node = todo.pop()
        inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in inside:
            places.append((node, key))
            todo.append(value)
    if not places:
        return chance.choice(_HOSTILE).encode()
    node, key = chance.choice(places)
    if chance.random() < 0.15:
        del node[key]
        return json.dumps(whole).encode()
    if isinstance(node[key], list) and node[key] and chance.random() < 0.3:
        node[key] *= chance.choice((2, 1000))
        return json.dumps(whole).encode()
    number = node[key]
    if isinstance(number, (int, float)) and chance.random() < 0.5:  # a plausible one
        node[key] = chance.choice((number + 1, number * 2, number * 0.5, -number, float(number)))
        return json.dumps(whole).encode()
    node[key] = "HERE"
    return json.dumps(whole).replace('"HERE"', chance.choice(_HOSTILE), 1).encode()


_HOSTILE = (
    *("null", "true", "0", "-1", "3", "0.1", "1e300", "1e999", "-1e999", "NaN", "Infinity", "1" * 5000, "1" * 400),
    *('""', '"x"', '"../../x"', '"\\u0000\\u001b[2J"', '"\\ud800"', f'"{"x" * 100_000}"', "[]", "{}", '{"a": 1}'),
    *("[[0, 0], [1, 1]]", "[null]", "[1e308, 1e308]", "[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000),
)


def _line_edited(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines()
    if not lines:
        return data
    at = chance.randrange(len(lines))
    lines[at] = _json_edited(lines[at], chance)
    return b"\n".join(lines) + b"\n"


def _header_edited(data: bytes, chance: random.Random) -> bytes:
    """Change the header of a safetensors file, or the card in it, and mostly its length with it."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        if chance.random() < 0.5:
            about = header["__metadata__"]
            about["card"] = _json_edited(about["card"].encode(), chance).decode(errors="replace")
            text = json.dumps(header).encode()
        else:
            text = _json_edited(data[8 : 8 + length], chance)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _flipped(data, chance)
    said = len(text) if chance.random() < 0.9 else length
    return said.to_bytes(8, "little") + text + data[8 + length :]


# What is drawn, and what is read of it


def _make_tiff(folder: Path) -> None:
    teaching_slide(folder / "drawn.tif", _SIDE_PX)
    for beside in folder.glob("*.truth.*"):
        beside.unlink()


def _make_svs(folder: Path) -> None:
    _make_tiff(folder)
    pixels = tifffile.imread(folder / "drawn.tif", key=0)
    (folder / "drawn.tif").unlink()
    with tifffile.TiffWriter(folder / "drawn.svs") as tiff:
        for step in (1, 2):
            about = _APERIO if step == 1 else _APERIO.replace("512x512 [", "512x512 -> 256x256 [")
            tiff.write(
                np.ascontiguousarray(pixels[::step, ::step]),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                description=about,
                metadata=None,
            )


def _make_dicom(folder: Path) -> None:
    if not _DICOM.is_dir():
        raise NotHere(f"no folder {_DICOM}")
    for number, file in enumerate(sorted(_DICOM.iterdir(), key=lambda file: file.stat().st_size)):
        (folder / f"{number}.dcm").write_bytes(file.read_bytes())


def _read_slide(folder: Path) -> None:
    (file,) = folder.iterdir()
    _read_pixels(file)


def _read_pixels(path: Path) -> None:
    with open_slide(path) as slide:
        width, height = slide.dimensions
        _ = slide.fingerprint, slide.properties
        slide.read(0, 0, 300, 300)
        slide.read(width - 100, height - 100, 200, 200)
        slide.read(0, 0, 100, 100, len(slide.levels) - 1)
        slide.thumbnail(256)


def _make_bundle(folder: Path) -> None:
    from napari_dala.model.bundle_head import load_head

    trunk = find_model(DEFAULT)  # which the teaching slide's model shares
    if trunk is None or not trunk.is_file():
        raise NotHere(f"the built-in model {DEFAULT} is not installed")
    shutil.copyfile(trunk, folder / "trunk.safetensors")
    load_head(TEACHING).save(folder / "head.safetensors", trunk_of="trunk.safetensors")
    _sort_header(folder / "head.safetensors")


def _sort_header(path: Path) -> None:
    """Sort a safetensors file's header, which the library writes in another order each time, and seal it anew."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] |= UNSEALED
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()
    path.write_bytes(data[:8] + text.ljust(end - 8) + data[end:])
    seal(path)


def _read_bundle(folder: Path) -> str:
    from napari_dala.model.bundle import load_bundle
    from napari_dala.model.bundle_head import load_head
    from napari_dala.model.weights import digest, weights_of

    path = folder / "head.safetensors"
    said: DalaError | None = None
    try:
        read_card(path)
    except DalaError as error:
        said = error
    try:
        bundle = load_head(path)
    except DalaError:
        load_refused(partial(load_bundle, path))
        raise
    if said is not None:
        raise AssertionError(f"loaded, though its card cannot be read: {said}")
    replay = vars(bundle.replay) if bundle.replay is not None else {}
    tensors = weights_of(bundle.network) | (bundle.familiarity or {}) | replay
    return digest(tensors, bundle.card.model_dump_json())


def load_refused(load: Callable[[], object]) -> None:
    """Check that what one way of loading refuses, another refuses as well."""
    try:
        load()
    except DalaError:
        return
    raise AssertionError("one way of loading refuses it, the other does not")


def _make_annotations(folder: Path) -> None:
    import shapely

    areas = [shapely.box(40 * n, 0, 40 * n + 30, 50) for n in range(5)]
    areas.append(shapely.MultiPolygon([shapely.Point(100, 200).buffer(30), shapely.Point(300, 200).buffer(30, 3)]))
    areas.append(shapely.Point(200, 300).buffer(80).difference(shapely.Point(200, 300).buffer(20)))
    names = ("benign", "malignant")
    drawn = tuple(Annotation.drawn(area, names[n % 2]) for n, area in enumerate(areas))
    classes = (AnnotationClass("benign", (70, 130, 180)), AnnotationClass("malignant", (214, 39, 40)))
    write_annotations(AnnotationDocument("0" * 32, classes, drawn, patient="Jane Doe"), folder / "drawn.geojson")


def _read_annotations(folder: Path) -> None:
    path = folder / "drawn.geojson"
    read_annotations(path)
    read_regions(path)


def _make_store(folder: Path) -> None:
    with open_slide(np.full((_SIDE_PX, _SIDE_PX, 3), 200, np.uint8), mpp=0.5) as slide:
        card = UNTRAINED_CARD.model_copy(update={"tile_px": 64, "trained": True, "name": "painted"})
        grid = TileGrid.over(slide, card.tile_px, card.mpp)
        store = create_store(
            folder / "analysis.zarr",
            Setting(slide.fingerprint, grid, "0" * 12, "fp32"),
            slide=slide.properties,
            bundle_hash="abcdef0123456789",
            card=card.model_dump(mode="json"),
            components=8,
            knows_unfamiliar=True,
            chunk=4,
        )
    drawn = np.random.default_rng(0)
    tissue = drawn.random(grid.shape) < 0.8
    store.mark_background(tissue)
    row, column = np.nonzero(tissue)
    malignant = drawn.random(len(row), np.float32)
    cells = grid.cells
    shapes = ((2, cells, cells), (card.channels,), (cells, cells, 8), ())
    cam, features, layer4, unfamiliar = (drawn.random((len(row), *shape), np.float32) for shape in shapes)
    both = np.stack((1 - malignant, malignant), 1)
    store.write(TileResults(row, column, both, cam, features, layer4, unfamiliar), [])


def _read_store(folder: Path) -> str | None:
    analysis = Analysis.open(folder)
    store = analysis.store
    numbers: list[NDArray[Any]] = [
        *(analysis.probability, analysis.status, analysis.approximate, analysis.unfamiliar, analysis.class_map()),
        *(analysis.cam(index) for index in range(len(analysis.card.classes))),
        *(store.read("features"), store.read("layer4")),
    ]
    about = (analysis.summary(), analysis.spots(), analysis.card, analysis.slide, analysis.mpp, store.setting)
    assert isinstance(analysis.warnings, list)
    return None if store.damaged else repr(([(each.dtype, each.shape, each.tobytes()) for each in numbers], about))


def _make_job(folder: Path) -> None:
    config = {"slides": [{"slide": "/data/a.svs", "annotations": "annotations/001.geojson"}], "settings": {"lr": 0.1}}
    job = Job.create(folder / "job", "finetune", config)
    JobState(Status.DONE, "30 of 30 epochs").write(job.folder)
    events = [{"time": 1.5e9 + n, "epoch": n, "loss": 1 / (n + 1), "event": "epoch"} for n in range(30)]
    (job.folder / "progress.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (job.folder / "log.txt").write_text("one line\nanother\n")
    write_json(job.result / "result.json", {"mode": "head", "name": "x", "classes": ["a", "b"]})


def _read_job(folder: Path) -> None:
    jobs_in(folder, lambda line: None)
    job = Job.open(folder / "job")
    _ = job.state.message, job.status, job.created, job.config
    job.events()


KINDS = {
    "tiff": Kind(_make_tiff, "*.tif", _read_slide),
    "svs": Kind(_make_svs, "*.svs", _read_slide),
    "dicom": Kind(_make_dicom, "*.dcm", _read_pixels),
    "bundle": Kind(_make_bundle, "head.safetensors", _read_bundle),
    "geojson": Kind(_make_annotations, "*.geojson", _read_annotations),
    "store": Kind(_make_store, "**/*", _read_store),
    "job": Kind(_make_job, "**/*", _read_job),
}


# How it is counted


class Ground:
    """An input of a kind in a folder, one of whose files is changed at a time."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        self.name, self.kind, self.seed, self.folder = name, KINDS[name], seed, folder
        self.kind.make(folder)
        self.files = [file for file in sorted(folder.glob(self.kind.files)) if file.is_file() and file.stat().st_size]
        self.stored = self.kind.read(folder)

    def outcome(self, number: int) -> str:
        """Mutate, read, put back what was there, and say in one line what came of it."""
        chance = random.Random(f"{self.seed} {self.name} {number}")
        file = chance.choice(self.files)
        before = file.read_bytes()
        file.write_bytes(mutated(before, file.suffix, chance))
        try:
            found = self.kind.read(self.folder)
        except DalaError as error:
            return "refused" if len(str(error).splitlines()) == 1 else f"traceback: {error!s:.200}"
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.filename}:{last.lineno}"
            return f"traceback: {file.name}: {type(error).__name__}: {str(error)[:150]!r} ({where})"
        finally:
            file.write_bytes(before)
        if found is not None and found != self.stored:
            return f"different: {file.relative_to(self.folder)}"
        return "read"


def _child(name: str, seed: int, numbers: range) -> None:
    """Print an outcome a line; the first line says that it begins."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            ground = Ground(name, seed, Path(folder))
        except NotHere as reason:
            print(f"skipped: {reason}", flush=True)
            return
        started = _peak_mb()
        resource.setrlimit(resource.RLIMIT_DATA, (int(2 * MOST_MB + started) << 20, resource.RLIM_INFINITY))
        print("begins", flush=True)
        for number in numbers:
            outcome = ground.outcome(number)
            if (grown := _peak_mb() - started) > MOST_MB:
                print(f"memory: {grown:.0f} MB, {outcome}", flush=True)
                return  # and is started again
            print(outcome, flush=True)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def fuzz(name: str, seed: int, mutations: int) -> Counter[str]:
    """Mutate an input of a kind so often in a child process, print what is bad, and count what came of it."""
    counts: Counter[str] = Counter()
    number = 0
    while number < mutations:
        asked = [f"--mutations={mutations}", f"--seed={seed}", f"--kind={name}", f"--child={number}"]
        command = [*COMMAND, *asked]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            assert child.stdout is not None
            lines: queue.SimpleQueue[str] = queue.SimpleQueue()
            threading.Thread(target=_forward, args=(child.stdout, lines), daemon=True).start()
            begun, seconds = False, _START_S
            while number < mutations:
                try:
                    line = lines.get(timeout=seconds)
                except queue.Empty:
                    child.kill()
                    line = f"hang: over {seconds} s"
                if line.startswith("skipped"):
                    print(f"{name}: {line}")
                    return Counter(skipped=mutations)
                if not line:
                    line = f"crash: exit status {child.wait()}"
                if not begun:
                    if line != "begins":
                        raise SystemExit(f"{name}: the input cannot be made ({line})")
                    begun, seconds = True, MOST_SECONDS
                    continue
                outcome = line.partition(":")[0]
                counts[outcome] += 1
                if outcome in BAD:
                    print(f"{name} {number}: {line}", flush=True)
                number += 1
                if outcome in ("hang", "crash", "memory"):
                    break
    return counts


BAD = ("traceback", "hang", "memory", "crash", "different")


def _forward(lines: Any, to: queue.SimpleQueue[str]) -> None:
    for line in lines:
        to.put(line.rstrip("\n"))
    to.put("")


def main() -> None:
    """Print what is bad, a line each, and a line of counts for each kind; exit code 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=2000, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--only", type=int, help="do this mutation alone, in this process, with its traceback")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    kinds = asked.kind or list(KINDS)
    if asked.child is not None:
        return _child(kinds[0], asked.seed, range(asked.child, asked.mutations))
    if asked.only is not None:
        return _once(kinds[0], asked.seed, asked.only)
    bad = 0
    for name in kinds:
        counts = fuzz(name, asked.seed, asked.mutations)
        bad += sum(counts[each] for each in BAD)
        print(f"{name}: " + ", ".join(f"{count} {each}" for each, count in sorted(counts.items())), flush=True)
    raise SystemExit(bad > 0)


def _once(name: str, seed: int, number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(name, seed, Path(folder))
        chance = random.Random(f"{seed} {name} {number}")
        file = chance.choice(ground.files)
        kept = Path(tempfile.gettempdir()) / f"fuzz-{name}-{number}{file.suffix}"
        file.write_bytes(mutated(file.read_bytes(), file.suffix, chance))
        shutil.copyfile(file, kept)
        print(f"{file.relative_to(ground.folder)}, changed, is kept as {kept}", flush=True)
        found = ground.kind.read(ground.folder)
        print("the same" if found == ground.stored else "other numbers" if found else "read, or said what is damaged")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
