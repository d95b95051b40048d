from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import tifffile

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# Two test processes that share two cores: threads of one would wait for those of the other at every layer. Read by
# torch when it is imported, here and in every child.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Read by napari when it is imported, here and in every child: no settings file of the user's is read or written,
# and a test that leaves a window behind fails.
os.environ["NAPARI_CONFIG"] = ""
os.environ["NAPARI_STRICT_QT"] = "1"


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests with a window, and run them last: torch imported after Mesa's LLVM crashes the process (DESIGN.md)."""
    for item in items:
        if "qapp" in getattr(item, "fixturenames", ()):
            item.add_marker("window")
    items.sort(key=lambda item: "qapp" in getattr(item, "fixturenames", ()))


_deselected: list[pytest.Item] = []


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember what `-m` leaves to tox's other runs."""
    _deselected.extend(items)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let `tox -- tests/slide` pass: all that was asked for is in another run."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and _deselected:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slides and photographs beside the project; none of it is ever committed."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real slides and photographs are not here: no folder {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def session_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The workspace of fixtures that outlive one test; never the user's own."""
    folder = tmp_path_factory.mktemp("session-workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DALA_WORKSPACE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def workspace(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace for each test, in this process and in the children it starts."""
    folder = tmp_path_factory.mktemp("workspace")
    monkeypatch.setenv("DALA_WORKSPACE", str(folder))
    return folder


@pytest.fixture(scope="session")
def mosaic(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 5 x 5 cells of real tissue at its true scale, 5120 px square, 0.25 um/px, six levels."""
    path = tmp_path_factory.mktemp("mosaic") / "mosaic.tiff"
    tool = shared_data.parent / "tools" / "make_mosaic_slide.py"
    few = ["--only", "14-29315", "14-11031", "14-12204"]  # a third of a minute less than all photographs
    size = ["--mpp", "0.25", "--cells", "5"]
    subprocess.run([sys.executable, str(tool), str(path), *size, *few], check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def broken_mosaic(mosaic: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, int]]:
    """A copy with one JPEG tile of level 1 overwritten, and that tile's corner in level-0 px."""
    path = tmp_path_factory.mktemp("broken") / "broken.tiff"
    shutil.copy(mosaic, path)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[1]
        row, column = 4, 4
        index = row * -(-page.imagewidth // 256) + column
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    with path.open("rb+") as file:
        file.seek(offset)
        file.write(np.zeros(count, np.uint8).tobytes())
    return path, (column * 512, row * 512)


class Lesson(NamedTuple):
    """What a fine-tuning needs: a slide, what was drawn on it, its analysis and the model that made it."""

    slide: Path
    annotations: Path
    analysis: Path
    model: Path


@pytest.fixture(scope="session")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    """A drawn slide of 64 px tiles with some benign and malignant ones marked, and a random trunk's analysis of it.

    The model brings a replay: tiles of the same slide, labelled by its truth, that are not marked.
    """
    import shapely
    import torch
    from skimage.io import imread

    from napari_dala.analysis.engine import analyze
    from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
    from napari_dala.annotations.files import write_annotations
    from napari_dala.model.bundle import ModelBundle, Replay, seeded_network
    from napari_dala.model.card import UNTRAINED_CARD
    from napari_dala.slide import open_slide
    from napari_dala.slide.teaching.slide import teaching_slide

    folder = tmp_path_factory.mktemp("lesson")
    drawn = teaching_slide(folder / "lesson.tif", 1536, 1)
    card = UNTRAINED_CARD.model_copy(update={"tile_px": 64, "trained": True, "name": "teacher"})
    bundle = ModelBundle(seeded_network(2), card).as_stored()
    truth = imread(drawn.truth_png)  # its cells are the tiles: 0 background, 1 benign, 2 malignant
    marked: list[tuple[int, int]] = []
    with open_slide(drawn.path) as slide:
        analysis = analyze(slide, bundle, folder, device="cpu", precision="fp32")
        fingerprint = slide.fingerprint
    for row, column in np.argwhere((truth > 0) & analysis.store.scored):
        if all(max(abs(row - at[0]), abs(column - at[1])) > 2 for at in marked):
            marked.append((int(row), int(column)))
    names = ("benign", "malignant")
    annotations = [
        Annotation.drawn(
            shapely.box(64 * column, 64 * row, 64 * column + 64, 64 * row + 64), names[truth[row, column] - 1]
        )
        for row, column in marked
    ]
    classes = tuple(AnnotationClass(info.name, info.color) for info in card.classes)
    document = AnnotationDocument(fingerprint, classes, tuple(annotations), patient="Jane Doe")
    write_annotations(document, folder / "drawn-on-jane-doe.geojson")
    free = truth * analysis.store.scored
    free[tuple(np.transpose(marked))] = 0
    places = [np.argwhere(free == label)[:20] for label in (1, 2)]
    row, column = np.concatenate(places).T
    features = torch.from_numpy(analysis.store.read("features")[row, column])
    bundle.replay = Replay(features, torch.from_numpy(truth[row, column].astype(np.int64) - 1))
    bundle.save(folder / "teacher.safetensors")
    return Lesson(drawn.path, folder / "drawn-on-jane-doe.geojson", folder, folder / "teacher.safetensors")
