from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import tifffile
from filelock import FileLock

from napari_dala.model.card import UNTRAINED_CARD, ClassInfo
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import create_store
from napari_dala.results.store import Setting
from napari_dala.results.tile_results import TileResults, TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import BLOCK, TileGrid, read_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle_head import BundleHead
    from napari_dala.model.card import ModelCard
    from napari_dala.slide import Slide

    MadeOnce = Callable[[str, Callable[[Path], object]], Path]
    PaintAnalysis = Callable[..., Analysis]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SHARED_CASES = SHARED_DATA.with_name("cases")
WINDOW_TESTS = Path(__file__).with_name("plugin")

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
    """Mark tests with a window, and run them last: torch imported after Mesa's LLVM crashes the process."""
    for item in items:
        if WINDOW_TESTS in item.path.parents:
            if _has_window(item):
                item.add_marker("window")
        elif item.get_closest_marker("timed"):
            raise pytest.UsageError(f"{item.nodeid}: a timed test belongs into {WINDOW_TESTS}; see tests/cost.py")
    items.sort(key=_has_window)


def _has_window(item: pytest.Item) -> bool:
    return "qapp" in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a window elsewhere, where tox would open it beside torch."""
    if _has_window(item) and item.get_closest_marker("window") is None:
        pytest.fail(f"a test with a window belongs into {WINDOW_TESTS}", pytrace=False)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass by what was imported: napari has it look at everything when a layer is removed."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder of drawn inputs that showed a fault, or must stay right, each with what must happen."""
    if not SHARED_CASES.is_dir():
        pytest.skip(f"the cases are not here: no folder {SHARED_CASES}")
    return SHARED_CASES


@pytest.fixture(scope="session", autouse=True)
def session_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The workspace of fixtures that outlive one test; never the user's own."""
    folder = tmp_path_factory.mktemp("session-workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DALA_WORKSPACE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def workspace(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty workspace for each test, in this process and in the children it starts."""
    folder = tmp_path_factory.mktemp("workspace")
    monkeypatch.setenv("DALA_WORKSPACE", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # a child may write still


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Fill a folder once for all test processes, which read what is in it: the first that asks makes it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def mosaic(shared_data: Path, made_once: MadeOnce) -> Path:
    """A slide of 5 x 5 cells of real tissue at its true scale, 5120 px square, 0.25 um/px, six levels."""

    def make(folder: Path) -> None:
        tool = shared_data.parent / "tools" / "make_mosaic_slide.py"
        few = ["--only", "14-29315", "14-11031", "14-12204"]  # a third of a minute less than all photographs
        command = [sys.executable, tool, folder / "mosaic.tiff", "--mpp", "0.25", "--cells", "5", *few]
        subprocess.run(command, check=True, capture_output=True)

    return made_once("mosaic", make) / "mosaic.tiff"


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
def lesson(made_once: MadeOnce) -> Lesson:
    """A drawn slide of 64 px tiles with some benign and malignant ones marked, and a random trunk's analysis of it.

    The model brings a replay: tiles of the same slide, labelled by its truth, that are not marked.
    """
    folder = made_once("lesson", _make_lesson)
    return Lesson(folder / "lesson.tif", folder / "drawn-on-jane-doe.geojson", folder, folder / "teacher.safetensors")


def _make_lesson(folder: Path) -> None:
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


SMALL_TILES = UNTRAINED_CARD.model_copy(update={"tile_px": 64, "trained": True, "name": "painted"})


@pytest.fixture
def small_tiles() -> ModelCard:
    """A card with tiles of 64 px (2 x 2 CAM cells) at 0.5 um/px."""
    return SMALL_TILES


@pytest.fixture
def paint_analysis(tmp_path: Path) -> PaintAnalysis:
    """Make an analysis without a network: `paint(slide, malignant)`, malignant(grid) giving (rows, columns)."""

    def paint(
        slide: Slide,
        malignant: Callable[[TileGrid], Any] | float,
        *,
        card: ModelCard = SMALL_TILES,
        overlap: float = 0.0,
        unreadable: tuple[tuple[int, int], ...] = (),
        todo: tuple[tuple[int, int], ...] = (),
        background: tuple[tuple[int, int], ...] = (),
        ink: tuple[tuple[int, int], ...] = (),
    ) -> Analysis:
        grid = TileGrid.over(slide, card.tile_px, card.mpp, overlap)
        store = create_store(
            tmp_path / "analysis.zarr",
            Setting(slide.fingerprint, grid, "0" * 12, "fp32", slide.profile_id),
            slide=slide.properties,
            bundle_hash="abcdef0123456789",
            card=card.model_dump(mode="json"),
            restart=True,
        )
        probability = np.broadcast_to(malignant(grid) if callable(malignant) else malignant, grid.shape)
        tissue = np.ones(grid.shape, bool)
        for tile in background:
            tissue[tile] = False
        store.mark_background(tissue)
        for block in np.ndindex(grid.blocks()):
            first = np.array(block) * BLOCK
            part = store.read("status", block) == TileStatus.TODO
            tiles = [tuple(int(i) for i in first + at) for at in np.argwhere(part)]
            done = [tile for tile in tiles if tile not in unreadable and tile not in todo]
            row, column = np.array(done, np.intp).reshape(-1, 2).T
            p = np.array([probability[tile] for tile in done], np.float32)
            both = np.stack((1 - p, p), 1)
            peak = np.linspace(0, 1, grid.cells, dtype=np.float32)
            cam = both[:, :, None, None] * peak[:, None] * peak * 5
            results = TileResults(row, column, both, cam, np.zeros((len(done), 2048), np.float16))
            store.write(results, [tile for tile in tiles if tile in unreadable])
        if ink:  # found by a later run
            artefacts = np.zeros(grid.shape, np.uint8)
            artefacts[tuple(np.transpose(ink))] = TileStatus.INK
            store.mark_background(tissue, artefacts)
        return Analysis(store)

    return paint


@pytest.fixture(scope="session")
def noise_photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of coloured noise: benign and malignant, four patients each, two photographs of 64 px of each."""
    from tests.noise import noise_folders

    return noise_folders(tmp_path_factory.mktemp("photographs") / "noise", 4, 2, (64, 80))


@pytest.fixture(scope="session")
def fold_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two random networks for tiles of 64 px, whose cards say which patients of the noise each was trained on."""
    from napari_dala.metrics.anonymous import patient_key
    from napari_dala.model.bundle import untrained

    folder = tmp_path_factory.mktemp("folds")
    patients = [patient_key(f"{name}-{number}") for number in range(4) for name in ("benign", "malignant")]
    for fold, trained in enumerate((patients[:4], patients[4:])):
        bundle = untrained()
        training = {"patients_trained": trained}
        bundle.card = bundle.card.model_copy(update={"tile_px": 64, "name": f"fold {fold + 1}", "training": training})
        bundle.save(folder / f"fold-{fold + 1}.safetensors")
    return folder / "fold-1.safetensors", folder / "fold-2.safetensors"


@pytest.fixture(scope="session")
def drawn_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn teaching slide of 25 tiles in 4 blocks."""
    return teaching_slide(tmp_path_factory.mktemp("slides") / "drawn.tif", 1120).path


@pytest.fixture(scope="session")
def with_basis(drawn_slide: Path) -> Predictor:
    """A model with random weights, and a basis of layer4 from every other tile of the drawn slide."""
    import torch

    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle import ModelBundle, seeded_network
    from napari_dala.model.familiarity import Familiarity

    network = seeded_network(2)
    bare = Predictor(ModelBundle(network, UNTRAINED_CARD))
    with open_slide(drawn_slide) as slide, torch.inference_mode():
        grid = TileGrid.over(slide, 224, UNTRAINED_CARD.mpp)
        tiles = [read_tiles(slide, grid, row, column, 1, 1) for row in range(5) for column in range(row % 2, 5, 2)]
        maps = bare.trunk(bare.inputs(np.stack(tiles))).float()
        components = torch.linalg.svd(maps.permute(0, 2, 3, 1).reshape(-1, 2048), full_matrices=False).Vh[:128]
    known = Familiarity.fit(maps.mean((2, 3)), directions=4)
    return Predictor(ModelBundle(network, UNTRAINED_CARD, components.T.clone(), vars(known)).as_stored())


@pytest.fixture(scope="session")
def seen(drawn_slide: Path, with_basis: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an analysis of the drawn slide with that model. Tests work on copies."""
    from napari_dala.analysis.engine import analyze

    folder = tmp_path_factory.mktemp("seen")
    with open_slide(drawn_slide) as slide:
        analyze(slide, with_basis, folder)
    return folder


@pytest.fixture(scope="session")
def new_head(with_basis: Predictor, seen: Path) -> BundleHead:
    """The same trunk under a head whose three classes are the ways in which the drawn slide's tiles differ most."""
    import torch

    from napari_dala.model.bundle_head import BundleHead
    from napari_dala.model.head import HeadNetwork

    means = torch.from_numpy(Analysis.open(seen).store.read("features").reshape(-1, 2048)).float()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = HeadNetwork(3).eval()
        head, means = network.head, means[means.any(1)]
        pooled = means * (1 + network.attention.gains(means))
        _, spread, directions = torch.linalg.svd(pooled - pooled.mean(0), full_matrices=False)
        head.fc1.weight[:3] = directions[:3] / spread[:3, None] * len(means) ** 0.5
        head.fc1.bias[:3] = -head.fc1.weight[:3] @ pooled.mean(0)
        head.fc2.weight[:3] = torch.eye(3, 512)
        head.fc3.weight.copy_(3 * torch.eye(3, 128))
    third = ClassInfo(name="third", color=(0, 160, 80))
    card = UNTRAINED_CARD.model_copy(update={"classes": (*UNTRAINED_CARD.classes, third), "name": "three kinds"})
    return BundleHead.of(with_basis.bundle).with_head(network, card, None)
