from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest
from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
from napari.utils.notifications import notification_manager
from npe2 import PluginManager, PluginManifest
from qtpy.QtCore import QEvent, QMimeData, QObject, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication

from napari_dala.annotations.files import read_annotations
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import to_world
from napari_dala.plugin.warm_child import warm_child
from napari_dala.results.opening import create_store
from napari_dala.results.store import Setting
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.workspace import slide_folder
from tests.drawn_slides import write_repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari.viewer import Viewer

    from napari_dala.annotations.document import Annotation
    from napari_dala.model.card import ModelCard
    from napari_dala.plugin.analyze.dock import AnalyzeWidget
    from napari_dala.plugin.explain import ExplainWidget
    from napari_dala.plugin.learn.dock import AnnotateWidget
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.warm_child import WarmChild
    from napari_dala.results.store import AnalysisStore
    from napari_dala.slide.tiles import TileGrid
    from tests.conftest import MadeOnce

NAME = "napari-dala"


class Drop(Protocol):
    """Drops a file; says whether napari asked which reader to use (answered with `choose`, else cancelled)."""

    def __call__(self, viewer: Viewer, path: Path, choose: str | None = None) -> bool: ...


@pytest.fixture(scope="session", autouse=True)
def _plugins_found_once() -> Iterator[None]:
    """Let npe2 parse the manifests once, not for each window, which takes a third longer with it."""
    found = tuple(PluginManifest.discover())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", lambda paths=(): iter(found))
        yield


@pytest.fixture(autouse=True)
def _windows_of_before_are_passed_by() -> None:
    """Let the garbage collector pass by what windows that were closed have left: see `pytest_collection_finish`."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def qtbot(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hold the widgets that it closes: the garbage collector may take one in the midst of painting it."""
    held: list[object] = []
    add = qtbot.addWidget
    monkeypatch.setattr(qtbot, "addWidget", lambda widget, **how: (held.append(widget), add(widget, **how)))
    return qtbot


@pytest.fixture
def new_viewer(make_napari_viewer: Any) -> Viewer:
    """A real window as on napari's first start: nothing of ours has run, no reader is preferred."""
    plugins = PluginManager.instance()
    if NAME not in plugins:
        plugins.discover()
    plugins.deactivate(NAME)
    return make_napari_viewer(show=True)


@pytest.fixture
def viewer(new_viewer: Viewer) -> Viewer:
    """A real window after anything of ours was used once: slide files are ours without asking."""
    PluginManager.instance().activate(NAME)
    return new_viewer


@pytest.fixture
def messages() -> Callable[[], list[str]]:
    """What the user was told since the test began."""
    before = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[before:]]


@pytest.fixture
def drop() -> Drop:
    """Drop a file or folder on the window, as the desktop does."""

    def drop_on(viewer: Viewer, path: Path, choose: str | None = None) -> bool:
        asked = []

        def answer() -> None:
            dialog = QApplication.activeModalWidget()
            if not isinstance(dialog, QtReaderDialog):
                return
            asked.append(dialog)
            for button in dialog.reader_btn_group.buttons():
                button.setChecked(button.text() == choose)
            dialog.accept() if choose else dialog.reject()

        watch = QTimer()
        watch.timeout.connect(answer)
        watch.start(50)
        mime = QMimeData()
        mime.setUrls([QUrl.fromLocalFile(str(path))])
        how = Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        entered = QDragEnterEvent(QPoint(300, 300), *how)
        QApplication.sendEvent(viewer.window._qt_viewer, entered)
        assert entered.isAccepted()
        QApplication.sendEvent(viewer.window._qt_viewer, QDropEvent(QPointF(300, 300), *how, QEvent.Type.Drop))
        watch.stop()
        return bool(asked)

    return drop_on


PATIENCE_MS = 120_000  # for a child on a busy machine
TRAINED_CARD = UNTRAINED_CARD.model_copy(update={"trained": True, "name": "painted"})


@pytest.fixture(scope="session")
def child(qapp: Any) -> Iterator[WarmChild]:
    """One real child for all tests: each start costs seconds."""
    holder = QObject()
    warm_child().hold(holder)
    yield warm_child()
    warm_child().close()


@pytest.fixture(scope="session")
def small_slide(made_once: MadeOnce) -> Path:
    """A drawn slide of 25 tiles."""
    return made_once("small", lambda folder: teaching_slide(folder / "small.tif", 1120)) / "small.tif"


@pytest.fixture(scope="session")
def large_slide(made_once: MadeOnce) -> Path:
    """A drawn slide of 784 tiles, 49 blocks."""
    return made_once("large", lambda folder: write_repeated(folder / "large.tif", 6272)) / "large.tif"


@dataclass
class Docks:
    """Both docks of a window, opened as from napari's menu."""

    viewer: Viewer
    analyze: AnalyzeWidget
    explain: ExplainWidget


@pytest.fixture
def docks(viewer: Viewer, child: WarmChild) -> Docks:
    _, analyze = viewer.window.add_plugin_dock_widget("napari-dala", "Analyze slide")
    _, explain = viewer.window.add_plugin_dock_widget("napari-dala", "Explain", tabify=True)
    return Docks(viewer, analyze, explain)


SCHOOL = """
import json
import sys
from pathlib import Path

import numpy as np
import shapely
from skimage.io import imread

from napari_dala.analysis.engine import analyze
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import ModelBundle, Replay, seeded_network
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import TileGrid, read_tiles
from napari_dala.annotations.files import write_annotations
from napari_dala.annotations.document import Annotation, AnnotationDocument
from napari_dala.training.statistics import statistics_of
import torch

folder = Path(sys.argv[1])
drawn = teaching_slide(folder / "lesson.tif", 1280, 1)
truth = imread(drawn.truth_png)  # its cells are tiles: 0 background, 1 benign, 2 malignant
asked = {"tile_px": 64, "name": "teacher", **json.loads(sys.argv[2])}
card = UNTRAINED_CARD.model_validate(UNTRAINED_CARD.model_dump() | asked)
network = seeded_network(len(card.classes), like=card)
shown = {label: np.argwhere(truth == label)[::5][:20] for label in (1, 2)}
with open_slide(drawn.path) as slide, torch.inference_mode():
    bare = Predictor(ModelBundle(network, card))
    grid = TileGrid.over(slide, card.tile_px, card.mpp, cell_px=card.cell_px)
    tiles = np.stack([read_tiles(slide, grid, *place, 1, 1) for label in (1, 2) for place in shown[label].tolist()])
    labels = torch.tensor([label - 1 for label in (1, 2) for _ in shown[label]])
    basis, replay = statistics_of([(bare.trunk(bare.inputs(tiles)).float(), labels)])
    bundle = ModelBundle(network, card, basis, replay=replay).as_stored()
    bundle.save(folder / "teacher.safetensors")
    analyze(slide, bundle, folder / "analyses")
names, marked = card.class_names, []
for place in np.argwhere(truth > 0).tolist():
    if all(max(abs(np.subtract(place, other))) > 2 for other in marked):
        marked.append(place)
boxes = [(shapely.box(64 * x, 64 * y, 64 * x + 64, 64 * y + 64), names[truth[y, x] - 1]) for y, x in marked]
write_annotations(AnnotationDocument("", (), tuple(Annotation.drawn(*box) for box in boxes)), folder / "marked.geojson")
"""


@dataclass(frozen=True)
class School:
    """A drawn slide, what is marked on it, a model with basis and replay, and that model's analysis of the slide."""

    folder: Path

    @property
    def slide(self) -> Path:
        return self.folder / "lesson.tif"

    @property
    def marked(self) -> tuple[Annotation, ...]:
        return read_annotations(self.folder / "marked.geojson").annotations

    def move_in(self, workspace: Path, *, analysed: bool = True) -> None:
        """Put the model, and the analysis, into a workspace."""
        (workspace / "models").mkdir()
        shutil.copy(self.folder / "teacher.safetensors", workspace / "models" / "teacher.safetensors")
        if analysed:
            shutil.copytree(self.folder / "analyses", slide_folder(open_slide(self.slide).fingerprint) / "analyses")


@pytest.fixture(scope="session")
def school(made_once: MadeOnce) -> School:
    """Made in another process: no test that opens a window may import torch."""
    return School(made_once("school", partial(_make_school, {"trained": True})))


@pytest.fixture(scope="session")
def vit_school(made_once: MadeOnce) -> School:
    """The same with a small ViT as trunk, whose head is random, as that of an imported trunk is."""
    trunk = {
        "architecture": "timm/vit_tiny_patch16_224",
        "channels": 192,
        "cell_px": 16,
        "training": {"trunk_only": True},
    }
    return School(made_once("vit-school", partial(_make_school, trunk)))


@pytest.fixture(scope="session")
def lung_school(made_once: MadeOnce) -> School:
    """The same with three classes, of another organ; what is marked is of the first two."""
    colors = {"normal": (0, 114, 178), "adenocarcinoma": (213, 94, 0), "squamous": (0, 158, 115)}
    classes = [{"name": name, "color": color} for name, color in colors.items()]
    return School(made_once("lung-school", partial(_make_school, {"trained": True, "classes": classes})))


def _make_school(card: dict[str, Any], folder: Path) -> None:
    subprocess.run([sys.executable, "-c", SCHOOL, str(folder), json.dumps(card)], check=True)


@dataclass
class Hand:
    """The user's hand on the canvas: places are edge coordinates (x, y) of the current slide."""

    viewer: Viewer
    qtbot: Any

    @property
    def canvas(self) -> Any:
        return self.viewer.window._qt_viewer.canvas.native

    def at(self, x: float, y: float) -> QPoint:
        camera = self.viewer.scene.camera
        world = to_world(session_of(self.viewer).layer, x, y)
        offset = np.subtract(world, camera.center[-2:]) * camera.zoom + np.asarray(self.viewer.canvas.size) / 2
        return QPoint(round(offset[1]), round(offset[0]))

    def click(self, x: float, y: float) -> None:
        self.qtbot.mouseMove(self.canvas, self.at(x, y))
        self.qtbot.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.at(x, y))
        QApplication.processEvents()

    def drag(self, *places: tuple[float, float]) -> None:
        first, *rest = (self.at(*place) for place in places)
        self.qtbot.mouseMove(self.canvas, first)
        self.qtbot.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=first)
        for place in rest:
            self.qtbot.mouseMove(self.canvas, place)
            QApplication.processEvents()
        self.qtbot.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=rest[-1])
        QApplication.processEvents()

    def polygon(self, *corners: tuple[float, float]) -> None:
        for corner in corners:
            self.click(*corner)
        self.qtbot.mouseDClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.at(*corners[-1]))
        QApplication.processEvents()

    def key(self, name: str, held: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        self.qtbot.keyClick(self.canvas, name, held)
        QApplication.processEvents()


@pytest.fixture
def hand(viewer: Viewer, qtbot: Any) -> Hand:
    return Hand(viewer, qtbot)


@pytest.fixture
def annotate(viewer: Viewer, child: WarmChild) -> AnnotateWidget:
    """The dock, opened as from napari's menu."""
    _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Annotate & learn")
    return dock


@pytest.fixture
def finished(qtbot: Any) -> Callable[[AnalyzeWidget], None]:
    """Wait until an analysis has ended."""
    return lambda dock: qtbot.waitUntil(lambda: not dock.is_running, timeout=PATIENCE_MS)


@pytest.fixture
def explained(qtbot: Any) -> Callable[[ResultLayers], None]:
    """Wait until the Grad-CAM layer shows what it was asked for."""
    return lambda results: qtbot.waitUntil(lambda: not results.is_explaining, timeout=PATIENCE_MS)


@pytest.fixture
def painted() -> Callable[..., AnalysisStore]:
    """Write an analysis whose far corner alone is malignant: its last tile, and that tile's last CAM cell."""

    def paint(
        path: Path, grid: TileGrid, card: ModelCard = TRAINED_CARD, fingerprint: str = "painted"
    ) -> AnalysisStore:
        store = create_store(
            path / "analysis.zarr",
            Setting(fingerprint, grid, "trunk", "fp32"),
            slide={"mpp_source": "file"},
            bundle_hash="0" * 16,
            card=card.model_dump(mode="json"),
        )
        rows, columns = grid.shape
        probability = np.full((2, rows, columns), 0.1, np.float32)
        probability[1, -1, -1] = 0.9
        probability[0] = 1 - probability[1]
        cam = np.zeros((2, rows * grid.cells, columns * grid.cells), np.float16)
        cam[1, -1, -1] = 5
        for name, value in (
            ("probability", probability),
            ("cam", cam),
            ("scored", 1),
            ("exact", 1),
            ("status", TileStatus.DONE),
        ):
            store._arrays[name][:] = value
        return store

    return paint
