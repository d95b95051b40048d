"""Every dock at its narrowest, 369 x 600 px, in many states: no text is cut off, nothing lies outside."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QAbstractButton, QAbstractScrollArea, QApplication, QComboBox, QLabel, QScrollArea, QWidget
from superqt.utils import signals_blocked

from napari_dala.annotations.counts import ClassCount
from napari_dala.annotations.document import AnnotationClass
from napari_dala.jobs.state import Status
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.plugin.analyze.resolution_row import ASK_MPP
from napari_dala.plugin.annotate.counts_panel import _html
from napari_dala.plugin.parts.dock import TITLES
from napari_dala.plugin.parts.legend import Legend
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.parts.scrolling import scrolling_layout
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import to_world
from napari_dala.results.loaded import load
from napari_dala.results.model_check import ModelCheck, Sample
from napari_dala.results.progress import Progress
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid
from napari_dala.training.finetune.job import Epoch

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer

    Narrow = Callable[[str], Any]

WIDTH, HEIGHT = 369, 600
LONG_NAME = "S2026_0000012345-HE-block-A1-level-3-scanned-again-at-forty-times.ome.tiff"
LONG = f"{LONG_NAME}: cannot be read: the file ends in the midst of a tile; copy the slide again from the scanner"
COLORS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))
CLASSES = ("invasive carcinoma of no special type, grade 3", "adenomyoepithelioma", "benign")


def faults(dock: Any) -> list[str]:
    """Return what cannot be read or reached, in words."""
    area = next(one for one in dock.findChildren(QScrollArea) if one.parent() is dock)
    content = area.widget()
    room = area.viewport().width()
    found = [] if content.width() <= room else [f"the content has {content.width()} of {room} px: {_widest(content)}"]
    for one in content.findChildren(QWidget):
        if not one.isVisible() or _inside_a_list(one, content):
            continue
        place = one.rect().translated(one.mapTo(content, one.rect().topLeft()))
        if not content.rect().contains(place):
            found.append(f"{_name(one)} lies outside, at {place.getRect()}")
        if one.parentWidget() is not content and not one.parentWidget().rect().contains(one.geometry()):
            found.append(f"{_name(one)} is cut off by what holds it")
        if isinstance(one, QLabel) and one.text():
            wide, high = _needed(one)
            if wide > one.width() or high > one.height():
                found.append(f"{_name(one)} has {one.width()} x {one.height()} px, needs {wide} x {high}")
        if isinstance(one, Legend | QAbstractButton | QComboBox) and one.minimumSizeHint().height() > one.height():
            found.append(f"{_name(one)} has {one.height()} px in height, needs {one.minimumSizeHint().height()}")
        if isinstance(one, QAbstractButton) and one.text():
            wide = one.fontMetrics().horizontalAdvance(one.text().replace("&&", "&"))
            if wide > one.width():
                found.append(f"{_name(one)} has {one.width()} px, its words need {wide}")
    return found


def _widest(content: QWidget) -> list[tuple[int, str]]:
    """Return who needs most of the width."""
    shown = [one for one in content.findChildren(QWidget) if one.isVisible() and not _inside_a_list(one, content)]
    return sorted(((one.minimumSizeHint().width(), _name(one)) for one in shown), reverse=True)[:5]


def _needed(label: QLabel) -> tuple[int, int]:
    """Return the room that a label's text needs at the label's width, as Qt lays the text out itself."""
    document = QTextDocument()
    document.setDefaultFont(label.font())
    document.setDocumentMargin(0)
    rich = label.textFormat() != Qt.TextFormat.PlainText and "<" in label.text()
    document.setHtml(QLabel.text(label)) if rich else document.setPlainText(QLabel.text(label))
    around = 8 if "padding" in label.styleSheet() else 0
    if label.wordWrap():
        document.setTextWidth(label.contentsRect().width() - around)
    return int(document.idealWidth()) + around, int(document.size().height()) + around


def _inside_a_list(one: QWidget, content: QWidget) -> bool:
    while one is not content:
        one = one.parentWidget()
        if isinstance(one, QAbstractScrollArea):
            return True
    return False


def _name(one: QWidget) -> str:
    words = f" {one.text()[:60]!r}" if isinstance(one, QLabel | QAbstractButton) else ""
    return type(one).__name__ + words


@pytest.fixture
def narrow(viewer: Viewer, child: Any, qtbot: Any) -> Narrow:
    """Open a dock, alone, at its narrowest."""

    def open_dock(title: str) -> Any:
        frame, dock = viewer.window.add_plugin_dock_widget("napari-dala", title)
        frame.setFloating(True)
        frame.resize(WIDTH, HEIGHT)
        qtbot.wait(100)
        assert dock.width() <= WIDTH + 2
        return dock

    return open_dock


def check(qtbot: Any, dock: Any, state: str) -> None:
    """Fail with all that is wrong; what changed has its place first."""
    for _ in range(3):
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    qtbot.wait(20)
    assert faults(dock) == [], state


@pytest.fixture
def long_slide(small_slide: Path, tmp_path: Path) -> Path:
    """A slide with a long name."""
    return Path(shutil.copy(small_slide, tmp_path / LONG_NAME))


@pytest.fixture
def results(viewer: Viewer, long_slide: Path, painted: Any, tmp_path: Path) -> Any:
    """That slide's results, of a model whose classes have long names."""
    viewer.open(long_slide, plugin="napari-dala")
    entries = zip(UNTRAINED_CARD.classes, CLASSES, strict=False)
    classes = tuple(entry.model_copy(update={"name": name}) for entry, name in entries)
    card = UNTRAINED_CARD.model_copy(update={"classes": classes, "trained": True})
    painted(tmp_path / "results", TileGrid.over(open_slide(long_slide), 224, 0.5), card)
    return lambda: session_of(viewer).show(viewer.layers[0], load(tmp_path / "results"))


def test_analyze_slide(qtbot: Any, viewer: Viewer, narrow: Narrow, results: Any) -> None:
    dock = narrow("Analyze slide")
    check(qtbot, dock, "a slide with a long name")
    for name in ("untrained", "teaching-slide", "breakhis-ucsb"):
        dock.model_box.choose_card(name)
        check(qtbot, dock, name)
    dock.progress.setVisible(True)
    so_far = Progress(96_000, 1_234_567, tiles_per_s=1234.5, seconds_left=72_000, approximate=123_456)
    dock._show_progress(so_far)
    check(qtbot, dock, "runs")
    dock._on_ended("cancelled", "")
    assert dock.progress_text.text() == "Stopped after 96000 of 1234567 tiles. Run goes on from here."
    check(qtbot, dock, "stopped")
    dock._on_ended("failed", LONG)
    check(qtbot, dock, "failed")
    shown = results()
    check(qtbot, dock, "results")
    dock.panel.warning.say("\n".join([LONG] * 3))
    check(qtbot, dock, "warnings")
    dock.ask_mpp.say(ASK_MPP)
    dock._form.setRowVisible(dock.mpp_box, True)
    check(qtbot, dock, "resolution unknown")
    dock.offer.say("This slide was analysed before.")
    dock._below_run.setCurrentIndex(1)
    check(qtbot, dock, "analysed before")
    dock._child.about = {"device": "NVIDIA GeForce RTX 4090 Laptop GPU with a long name", "precision": "bf16"}
    dock._show_device()
    check(qtbot, dock, "device")
    assert shown in (dock._session.results,)


def test_slides(qtbot: Any, viewer: Viewer, narrow: Narrow, long_slide: Path) -> None:
    dock = narrow("Slides")
    check(qtbot, dock, "an empty list")
    dock.add([long_slide])
    qtbot.waitUntil(lambda: dock.told.text() == "1 slide added.", timeout=60_000)
    check(qtbot, dock, "a slide with a long name")
    dock.table.selectAll()
    dock.runs.offer(1234, can_run=True)
    dock.total.setText("1234 slides · 1230 done · 123 missing · 1000 shown")
    dock.runs.text.setText(f"Slide 1234 of 1234: {LONG_NAME} · 96000 of 1234567 tiles · about 12 h 59 min left")
    dock.runs.progress.show()
    check(qtbot, dock, "a long queue")
    dock.told.say(f"1200 slides added, 34 found again. Cannot be read: {LONG} and 12 more.")
    dock.error.say("\n".join([LONG] * 3))
    check(qtbot, dock, "what went wrong")


def test_explain(qtbot: Any, viewer: Viewer, narrow: Narrow, results: Any) -> None:
    dock = narrow("Explain")
    check(qtbot, dock, "nothing")
    shown = results()
    check(qtbot, dock, "results")
    for choice in range(dock.show_box.count()):
        dock.show_box.setCurrentIndex(choice)
        check(qtbot, dock, dock.show_box.currentText())
    rows, columns = shown.analysis.grid.shape
    size = shown.analysis.grid.tile_size
    dock.explain_at(to_world(viewer.layers[0], (columns - 0.5) * size[0], (rows - 0.5) * size[1]))
    assert dock.picture.isVisible()
    check(qtbot, dock, "a tile")
    dock.problem.say(LONG)
    check(qtbot, dock, "a tile that cannot be read")


def test_review_tiles(qtbot: Any, viewer: Viewer, narrow: Narrow, results: Any) -> None:
    dock = narrow("Review tiles")
    check(qtbot, dock, "nothing")
    results()
    qtbot.waitUntil(lambda: len(dock.model.tiles) == 25)
    dock.drawing.edit(replace(dock.drawing.document, classes=tuple(map(AnnotationClass, CLASSES, COLORS))))
    qtbot.waitUntil(lambda: dock.keys.text().count("<b>") == len(CLASSES))
    for choice in range(dock.choice.list_box.count()):
        dock.choice.list_box.setCurrentIndex(choice)
        check(qtbot, dock, dock.choice.list_box.currentText())
    with signals_blocked(dock.choice.other_box):
        dock.choice.other_box.addItem(LONG_NAME)
    dock.count.setText("1234567 tiles, 123456 chosen")
    dock.told.setText("123 tiles not judged by the model, so there is nothing to agree with: press a digit key.")
    dock.problem.say(LONG)
    check(qtbot, dock, "a long list")


def test_annotate_and_learn(qtbot: Any, viewer: Viewer, narrow: Narrow, results: Any) -> None:
    dock = narrow("Annotate & learn")
    qtbot.waitUntil(lambda: dock.panel.controls.isVisible())
    check(qtbot, dock, "a slide")
    results()
    dock.drawing.edit(replace(dock.drawing.document, classes=tuple(map(AnnotationClass, CLASSES, COLORS))))
    counts = [ClassCount(name, color, 123_456, 1234, 123) for name, color in zip(CLASSES, COLORS, strict=True)]
    qtbot.wait(400)  # until it has counted by itself
    dock.counts.table.setText(_html(counts))
    check(qtbot, dock, "classes with long names")
    for note in (dock.panel.told, dock.panel.failure, dock.panel.left_out, dock.counts.warning, dock.learn.error):
        note.say(LONG)
    dock.counts.plan.setText("12 tiles of other regions will check the new model: " + ", ".join(CLASSES))
    dock.counts.plan.show()
    dock.suggest.text.setText(f"12 of 20: {CLASSES[0]} 51%")
    check(qtbot, dock, "notes")
    learning, job = dock.learn.learning, dock.learn.job
    for status, message in (
        (Status.QUEUED, ""),
        (Status.RUNNING, "reading tiles: 123456 of 1234567"),
        (Status.PAUSED, "reading tiles: 123456 of 1234567"),
        (Status.INTERRUPTED, f"exit status 1: {LONG}"),
        (Status.FAILED, LONG),
    ):
        learning.status, learning.message = status, message
        learning.changed.emit()
        job.bar.setVisible(True)
        check(qtbot, dock, status.name)
    for epoch in range(3):
        event = Epoch(epoch, 1, 0.5, 1, 0.5, 0.5, 1e-3, 1)
        dock.learn.curves.take(event)
    check(qtbot, dock, "curves")
    decision = dock.learn.decision
    decision._lead(report())
    decision.figures.show_report(report())
    decision.check.show_check(model_check())
    decision.setVisible(True)
    check(qtbot, dock, "a new model")
    decision.check.show_check(model_check(tuple(f"class number {number} of eight" for number in range(1, 9))))
    check(qtbot, dock, "eight classes")
    decision.check.hardest_button.click()
    decision.check.elsewhere.say("This tile lies on another slide (0123abcd): open it to see the tile.")
    decision.check._use()
    check(qtbot, dock, "the hardest tiles")


@pytest.mark.parametrize("title", TITLES)
def test_without_a_slide_and_with_one_that_cannot_be_analysed(
    qtbot: Any, viewer: Viewer, narrow: Narrow, title: str
) -> None:
    dock = narrow(title)
    check(qtbot, dock, "no slide")
    viewer.add_image(np.zeros((300, 300, 3), np.uint16), rgb=True, name=LONG_NAME)
    check(qtbot, dock, "16 bit")


def test_the_check_sees_what_is_cut_off(qtbot: Any, qapp: Any) -> None:
    dock = QWidget()
    layout = scrolling_layout(dock)
    qtbot.addWidget(dock)
    label, note = QLabel("short"), Note("warning")
    layout.addWidget(label)
    layout.addWidget(note)
    note.say(LONG)
    dock.resize(WIDTH, HEIGHT)
    dock.show()
    check(qtbot, dock, "fits")
    label.setText(LONG)
    qtbot.wait(50)
    assert "the content has" in faults(dock)[0]
    label.setText("short")
    note.setFixedHeight(20)
    qtbot.wait(50)
    (fault,) = faults(dock)
    assert "x 20 px, needs" in fault


def report() -> dict[str, Any]:
    """Return what came of a job, as `result.json` has it, with the longest of everything."""
    figure = {"value": 0.512, "low": 0.412, "high": 0.634}
    scores = dict.fromkeys(("accuracy", "gmean", "f1", "iba", "ece"), figure)
    scores["recall"] = dict.fromkeys(CLASSES, figure)
    confusion = (1_234 * np.eye(len(CLASSES), dtype=int)).tolist()
    table = {"n": 4, "classes": CLASSES, "scores": scores, "confusion": confusion, "notes": []}
    counts = dict.fromkeys(CLASSES, 12_345)
    return {
        "split": "region",
        "optimistic": True,
        "notes": ["same slide, optimistic", LONG, "fewer than 20 tiles of a class"],
        "examples": {"train": counts, "held_out": counts},
        "before": table,
        "after": table,
        "replay": {"tiles": 512, "before": 0.71, "after": 0.7},
        "verdict": "worse",
        "verdict_is_weak": "3 regions are too few to tell the two apart",
    }


def model_check(classes: tuple[str, ...] = CLASSES) -> ModelCheck:
    draw = np.random.default_rng(3)
    samples = tuple(
        Sample(label=number % len(classes), probability=tuple(p), group=f"p{number % 8}", slide="s" * 32)
        for number, p in enumerate(draw.dirichlet(np.ones(len(classes)), 1600).tolist())
    )
    return ModelCheck(
        model="m", classes=classes, target=0, unit="region", threshold=0.5, temperature=1, samples=samples
    )
