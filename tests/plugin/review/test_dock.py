"""The dock "Review tiles", with real mouse and keys: lists, labels by key, flying to a tile, sheets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_dala.annotations.document import Annotation
from napari_dala.annotations.files import load_for
from napari_dala.annotations.tile_regions import tile_boxes
from napari_dala.plugin.bench.callback_times import CallbackTimes
from napari_dala.plugin.review import tile_pictures
from napari_dala.plugin.viewer.cam_picture import CamView
from napari_dala.plugin.viewer.slide_layers import to_slide
from napari_dala.results.loaded import load
from napari_dala.results.opening import create_store
from napari_dala.slide.tiles import TileGrid, read_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari.viewer import Viewer

    from napari_dala.plugin.review.dock import ReviewWidget

TILE, SIDE = 224, 28
STRONGEST = [(20, 7), (3, 4), (5, 5), (9, 9)]
LATER = 30_000


@dataclass
class Review:
    """The user's hand on the dock."""

    dock: ReviewWidget
    qtbot: Any
    folder: Path

    def wait(self, fact: Any) -> None:
        self.qtbot.waitUntil(fact, timeout=LATER)

    def choose(self, title: str) -> list[tuple[int, int]]:
        """Choose a list by its words and return its tiles."""
        box = self.dock.choice.list_box
        box.setCurrentIndex(box.findText(title))
        return self.tiles()

    def tiles(self) -> list[tuple[int, int]]:
        self.wait(lambda: self.dock._listed == self.dock.choice.wanted and self.dock._made == self.dock._asked)
        return [self.dock.model.tile(number) for number in range(len(self.dock.model.tiles))]

    def click(self, number: int, held: Any = Qt.KeyboardModifier.NoModifier, *, twice: bool = False) -> None:
        grid = self.dock.grid
        grid.scrollTo(self.dock.model.index(number))
        QApplication.processEvents()
        place = grid.visualRect(self.dock.model.index(number)).center()
        QTest.mouseClick(grid.viewport(), Qt.MouseButton.LeftButton, held, place)
        if twice:
            QTest.mouseDClick(grid.viewport(), Qt.MouseButton.LeftButton, held, place)
        QApplication.processEvents()

    def key(self, key: Any, held: Any = Qt.KeyboardModifier.NoModifier) -> None:
        QTest.keyClick(self.dock.grid, key, held)
        QApplication.processEvents()

    @property
    def drawn(self) -> list[tuple[str | None, tuple[int, int]]]:
        """Class and tile of each region."""
        document = self.dock.drawing.document
        assert document is not None
        corners = [(item.class_name, item.geometry.bounds) for item in document.annotations]
        return [(name, (round(top) // TILE, round(left) // TILE)) for name, (left, top, _, _) in corners]

    def label(self, number: int) -> str | None:
        label = self.dock.model.label(number)
        return label[0] if label else None


@pytest.fixture
def empty(viewer: Viewer, child: Any, large_slide: Path, qtbot: Any, tmp_path: Path) -> Iterator[Review]:
    """The dock over a slide of 28 x 28 tiles, nothing analysed."""
    viewer.open(large_slide, plugin="napari-dala")
    _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Review tiles")
    window = viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    qtbot.waitUntil(lambda: dock.drawing.document is not None)
    yield Review(dock, qtbot, tmp_path)
    dock.drawing.flush()


def paint(review: Review, painted: Any, name: str = "painted", **changed: Any) -> Any:
    """Show results that are sure of all but a few tiles; (10, r) are the least sure, the better the smaller r is."""
    session = review.dock._session
    grid = TileGrid.over(session.open_slide(), TILE, 0.5)
    store = painted(review.folder / name, grid)
    malignant = np.full(grid.shape, 0.02, np.float32)
    for number, tile in enumerate(STRONGEST):
        malignant[tile] = 0.99 - 0.1 * number
    for tile, value in changed.get("tiles", {}).items():
        malignant[tile] = value
    store._arrays["probability"][:] = np.stack((1 - malignant, malignant))
    store._arrays["cam"][1] = np.kron(malignant, np.eye(7)) * 5
    return store


@pytest.fixture
def review(empty: Review, painted: Any) -> Review:
    paint(empty, painted)
    session = empty.dock._session
    session.show(session.layer, load(empty.folder / "painted"))
    empty.tiles()
    empty.wait(lambda: empty.dock.labels.of_tiles is not None)
    return empty


def test_there_is_nothing_to_review_before_an_analysis(empty: Review, painted: Any) -> None:
    dock = empty.dock
    assert "analyse the slide first" in dock.nothing.text()
    assert not dock.grid.isVisible()
    paint(empty, painted)
    session = dock._session
    session.show(session.layer, load(empty.folder / "painted"))
    assert empty.tiles()[:4] == STRONGEST
    assert dock.grid.isVisible()
    assert dock.count.text() == "784 tiles"
    session.viewer.layers.remove(session.layer)
    assert not dock.grid.isVisible()
    assert dock.nothing.isVisible()
    assert len(dock.model.tiles) == 0


def test_each_list_has_its_tiles(review: Review) -> None:
    assert review.tiles()[:4] == STRONGEST
    assert review.choose("All called malignant") == STRONGEST
    assert review.choose("Strongest: benign")[-1] == STRONGEST[0]
    assert len(review.choose("All called benign")) == 784 - 4
    assert review.choose("Least sure")[:2] == [STRONGEST[3], STRONGEST[2]]
    assert review.dock.choice.list_box.findText("Unfamiliar") < 0, "this model cannot tell"
    assert review.choose("Your label and the model differ") == []
    assert review.dock.count.text() == "No tile is in this list."
    review.choose("All called malignant")
    review.dock._session.set_threshold(0.75)
    review.wait(lambda: len(review.dock.model.tiles) == 3)


def test_only_what_is_seen_is_read_and_in_the_order_of_the_list(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock, read = review.dock, []
    review.wait(lambda: not dock.pictures._reading)
    real = tile_pictures.tile_pixels
    monkeypatch.setattr(tile_pictures, "tile_pixels", lambda *about: (read.append(about[2]), real(*about))[1])
    review.choose("Strongest: benign")
    review.wait(lambda: bool(read) and not dock.pictures._reading and not dock.pictures._wanted)
    assert 4 <= len(read) < 60
    assert len(set(read)) == len(read), "read twice"
    assert read == [tile for tile in review.tiles() if tile in read], "not in the order of the list"
    before = len(read)
    dock.grid.verticalScrollBar().setValue(dock.grid.verticalScrollBar().maximum())
    review.wait(lambda: dock.pictures._shown.get(STRONGEST[0]) is not None)
    review.wait(lambda: not dock.pictures._reading and not dock.pictures._wanted)
    assert len(read) - before < 60
    dock.grid.verticalScrollBar().setValue(0)
    QTest.qWait(100)
    assert len(read) - before < 60, "what was read is kept"


def test_a_picture_is_the_tile_and_its_map_follows_the_box(review: Review, explained: Any) -> None:
    dock = review.dock
    results, slide = dock._results, dock._session.open_slide()
    assert results is not None
    review.wait(lambda: dock.pictures._shown.get(STRONGEST[0]) is not None)

    def shown() -> Any:
        image = dock.pictures.picture(STRONGEST[0]).toImage().convertToFormat(QImage.Format.Format_RGB888)
        data = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
        return data.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()].astype(int)

    tissue = Image.fromarray(read_tiles(slide, results.analysis.grid, *STRONGEST[0], 1, 1))
    side = dock.grid.side
    expected = np.asarray(tissue.resize((side, side), Image.Resampling.BOX), int).reshape(side, -1)
    bare = shown()
    assert np.abs(bare - expected).mean() < 6
    dock.cam_check.setChecked(True)
    review.wait(lambda: np.abs(shown() - bare).max() > 30)
    with_map = shown()
    results.explain(CamView(1, thresholded=False))
    explained(results)
    review.wait(lambda: (shown() != with_map).any())
    dock.cam_check.setChecked(False)
    review.wait(lambda: (shown() == bare).all())


def test_a_digit_labels_the_tile_and_the_next_one_is_chosen(review: Review) -> None:
    review.click(0)
    review.key("1")
    assert review.drawn == [("benign", STRONGEST[0])]
    assert review.label(0) == "benign", "at once"
    assert review.dock.chosen == [STRONGEST[1]]
    review.key("2")
    review.key("0")
    assert review.drawn == [
        ("benign", STRONGEST[0]), ("malignant", STRONGEST[1]), ("Ignore", STRONGEST[2]),
    ]  # fmt: skip
    review.wait(lambda: [review.label(number) for number in range(4)] == ["benign", "malignant", "Ignore", None])
    document, drawing = review.dock.drawing.document, review.dock.drawing
    assert document is not None
    grid = review.dock._results.analysis.grid  # type: ignore[union-attr]
    assert shapely.equals(document.annotations[0].geometry, tile_boxes(grid, STRONGEST[:1])[0])
    drawing.flush()
    saved = load_for(document.fingerprint)
    assert saved is not None
    assert len(saved.annotations) == 3
    layer = drawing.layer
    assert layer is not None
    assert len(layer.data) == 3


def test_shift_chooses_a_range_and_enter_agrees_with_the_model(review: Review) -> None:
    review.click(2)
    review.click(6, Qt.KeyboardModifier.ShiftModifier)
    assert len(review.dock.chosen) == 5
    assert review.dock.count.text() == "784 tiles, 5 chosen"
    review.key(Qt.Key.Key_Return)
    assert sorted(name or "" for name, _ in review.drawn) == ["benign"] * 3 + ["malignant"] * 2
    assert {tile for name, tile in review.drawn if name == "malignant"} == set(STRONGEST[2:])
    review.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert review.drawn == [], "one step"
    review.wait(lambda: review.label(2) is None)
    review.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert len(review.drawn) == 5


def test_shift_and_arrows_choose_too(review: Review) -> None:
    review.click(0)
    review.key(Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    review.key(Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert review.dock.chosen == STRONGEST[:3]


def test_agreeing_needs_a_judgement(review: Review, painted: Any) -> None:
    results = review.dock._results
    assert results is not None
    np.asarray(results.classes.data)[STRONGEST[0]] = 0  # as where a tile is unfamiliar
    review.dock.make_list()
    review.wait(lambda: review.dock.model.rowCount() and review.dock.model.verdict(0).mark == "not judged")
    review.click(0)
    review.key(Qt.Key.Key_Enter)
    assert review.drawn == []
    assert review.dock.told.text().startswith("1 tile not judged by the model")
    assert review.dock.chosen == [STRONGEST[0]], "it stays to be labelled"


def test_backspace_takes_a_label_back_but_no_region_that_was_drawn(review: Review) -> None:
    drawing, dock = review.dock.drawing, review.dock
    document = drawing.document
    assert document is not None
    region = Annotation.drawn(shapely.box(0, 0, 6 * TILE, 6 * TILE), "benign")  # holds the second and the third
    drawing.edit(type(document)(document.fingerprint, document.classes, (region,)))
    review.wait(lambda: [review.label(number) for number in range(4)] == [None, "benign", "benign", None])
    review.click(1)
    review.key("2")
    review.wait(lambda: review.label(1) == "malignant")
    review.click(1)
    review.key(Qt.Key.Key_Backspace)
    assert drawing.document is not None
    assert drawing.document.annotations == (region,)
    review.wait(lambda: review.label(1) == "benign")
    review.key(Qt.Key.Key_Backspace)
    assert drawing.document.annotations == (region,)
    assert "region that was drawn" in dock.told.text()
    review.click(0)
    review.key(Qt.Key.Key_Backspace)
    assert dock.told.text() == "", "there is nothing to take back"


def test_a_label_that_the_model_contradicts_is_listed(review: Review) -> None:
    review.click(1)
    review.key("1")
    assert review.choose("Your label and the model differ") == [STRONGEST[1]]
    review.click(0)
    review.key(Qt.Key.Key_Return)
    assert review.drawn == [("malignant", STRONGEST[1])]
    assert len(review.dock.model.tiles) == 1, "nothing goes from under the hand"
    review.wait(review.dock.update_button.isEnabled)
    QTest.mouseClick(review.dock.update_button, Qt.MouseButton.LeftButton)
    review.wait(lambda: len(review.dock.model.tiles) == 0)


def test_what_another_model_says_otherwise(review: Review, painted: Any) -> None:
    dock, session = review.dock, review.dock._session
    assert review.choose("Two models differ") == []
    assert "No other model" in dock.told.text()
    store = load(review.folder / "painted").analysis.store
    card = {**store.card, "name": "second look"}
    other = create_store(store.path, store.setting, slide=store.slide, bundle_hash="1" * 16, card=card)
    for name in ("scored", "exact"):
        other._arrays[name][:] = 1
    malignant = store.read("probability")[1]
    malignant[0, :3] = 0.97
    malignant[STRONGEST[0]] = 0.1
    other._arrays["probability"][:] = np.stack((1 - malignant, malignant))
    store.make_latest()
    session.show(session.layer, load(review.folder / "painted", "0" * 16))
    assert review.tiles() == [(0, 0), (0, 1), (0, 2), STRONGEST[0]]
    assert dock.choice.other_box.currentText() == "second look"
    tip = dock.model.data(dock.model.index(3), Qt.ItemDataRole.ToolTipRole)
    assert "malignant &gt;99 %" in tip
    assert "second look: benign 90 %" in tip
    assert dock.told.text() == "Below each tile first painted, then second look."


def test_a_double_click_flies_there(review: Review) -> None:
    session = review.dock._session
    review.click(1, twice=True)
    x, y = to_slide(session.layer, session.viewer.scene.camera.center[-2:])
    assert (int(y // TILE), int(x // TILE)) == STRONGEST[1]
    assert [layer.name for layer in session.viewer.layers if layer.name == "Reviewed tile"] == ["Reviewed tile"]
    assert review.drawn == []


def test_the_list_follows_a_run_until_tiles_are_chosen(review: Review) -> None:
    dock, results = review.dock, review.dock._results
    assert results is not None
    review.choose("All called malignant")
    results._loaded._tiles.probability[:, 0, 0] = (0.05, 0.95)
    results._show_classes()
    dock._session.results_changed.emit()
    review.wait(lambda: len(dock.model.tiles) == 5)
    review.click(1)
    results._loaded._tiles.probability[:, 0, 1] = (0.05, 0.95)
    results._show_classes()
    dock._session.results_changed.emit()
    review.wait(dock.update_button.isEnabled)
    assert len(dock.model.tiles) == 5
    QTest.mouseClick(dock.update_button, Qt.MouseButton.LeftButton)
    review.wait(lambda: len(dock.model.tiles) == 6)
    assert not dock.update_button.isEnabled()


@pytest.mark.parametrize("name", ["sheet.pdf", "sheet.png"])
def test_a_sheet_is_saved_of_what_is_chosen(
    review: Review, name: str, monkeypatch: pytest.MonkeyPatch, large_slide: Path
) -> None:
    dock, path = review.dock, review.folder / name
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))
    review.click(0)
    review.click(3, Qt.KeyboardModifier.ShiftModifier)
    dock.cam_check.setChecked(True)
    QTest.mouseClick(dock.save_button, Qt.MouseButton.LeftButton)
    review.wait(lambda: dock.told.text() == f"Saved as {name}.")
    content = path.read_bytes()
    assert content.startswith(b"%PDF" if name.endswith("pdf") else b"\x89PNG")
    assert large_slide.stem.encode() not in content
    if name.endswith("png"):
        with Image.open(path) as sheet:
            assert sheet.height < 600, "one row of the four that are chosen"


def test_a_sheet_that_cannot_be_saved_says_why(review: Review) -> None:
    review.dock.save_to(review.folder / "sheet.doc")
    review.wait(lambda: "saved as .png or .pdf" in review.dock.problem.text())


def test_the_keys_are_named_with_the_colours(review: Review) -> None:
    text = review.dock.keys.text()
    assert [text.count(f"<b>{digit}</b>") for digit in (1, 2, 0)] == [1, 1, 1]
    assert "Ignore" in text
    review.click(0)
    QTest.mouseClick(review.dock.agree_button, Qt.MouseButton.LeftButton)
    assert review.drawn == [("malignant", STRONGEST[0])]


def test_larger_pictures_are_read_anew(review: Review) -> None:
    dock = review.dock
    review.wait(lambda: dock.pictures._shown.get(STRONGEST[0]) is not None)
    columns = dock.grid.viewport().width() // dock.grid.visualRect(dock.model.index(0)).width()
    dock.size_slider.setValue(10)
    assert dock.grid.side > 120
    review.wait(
        lambda: (found := dock.pictures._shown.get(STRONGEST[0])) is not None and found[1].width() == dock.grid.side
    )
    places = [dock.grid.visualRect(dock.model.index(number)) for number in range(3)]
    assert columns == 3
    assert places[0].top() == places[1].top() < places[2].top(), "two in a row, as wide as there is room"
    assert dock.grid.viewport().width() - places[1].right() < 12


@pytest.mark.timed
def test_the_window_never_waits_for_the_gallery(
    viewer: Viewer, child: Any, large_slide: Path, qtbot: Any, painted: Any, tmp_path: Path
) -> None:
    with CallbackTimes() as times:
        viewer.open(large_slide, plugin="napari-dala")
        _, dock = viewer.window.add_plugin_dock_widget("napari-dala", "Review tiles")
        qtbot.waitUntil(lambda: dock.drawing.document is not None)
        review = Review(dock, qtbot, tmp_path)
        paint(review, painted)
        session = dock._session
        session.show(session.layer, load(tmp_path / "painted"))
        review.tiles()
        bar = dock.grid.verticalScrollBar()
        for at in range(0, bar.maximum(), 60):
            bar.setValue(at)
            qtbot.wait(5)
        bar.setValue(0)
        review.click(0)
        for key in ("1", "2", Qt.Key.Key_Return):
            review.key(key)
            qtbot.wait(150)
        dock.drawing.flush()
    ours = {name: [call.own_s for call in calls] for name, calls in times.calls.items() if name in MEASURED}
    assert set(ours) == MEASURED
    typical = {name: float(np.percentile(calls, 95)) for name, calls in ours.items()}  # Python's collector takes 0.2 s
    assert max(typical.values()) < 0.02, typical


MEASURED = {"TileDelegate.paint", "TilePictures._on_made", "ReviewWidget._on_made", "TileLabels._on_found"}
