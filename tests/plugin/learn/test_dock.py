"""Draw, press Learn, and the map follows: the real window, the real child, the real job."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import shapely
from qtpy.QtCore import Qt

from napari_dala.annotations.document import Annotation, AnnotationDocument
from napari_dala.annotations.files import save_for
from napari_dala.errors import DalaError
from napari_dala.jobs.job import jobs_in
from napari_dala.jobs.state import Status
from napari_dala.model.card import read_card
from napari_dala.model.catalog import page_of
from napari_dala.plugin.analyze.run import AnalysisRun
from napari_dala.plugin.viewer.overlays import PREVIEW
from napari_dala.plugin.viewer.session import session_of
from napari_dala.results.analysis import Analysis
from napari_dala.results.request import AnalysisRequest
from napari_dala.slide import open_slide
from napari_dala.training.finetune.job import config_of
from napari_dala.words import percent
from napari_dala.workspace import slide_folder
from tests.plugin.buttons import press
from tests.plugin.learn.waiting import LONG, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


class Class:
    """A window with a slide, what is marked on it, and the dock."""

    def __init__(self, qtbot: Any, viewer: Any, slide: Path | None, marked: Iterable[Annotation] = ()) -> None:
        self.qtbot, self.viewer = qtbot, viewer
        if slide is not None:
            viewer.open(slide, plugin="napari-dala")
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-dala", "Annotate & learn")
        self.panel, self.drawing = self.dock.learn, self.dock.drawing
        self.session = session_of(viewer)
        self.learning = self.panel.learning
        qtbot.waitUntil(lambda: self.drawing.document is not None)
        if marked:
            self.drawing.edit(replace(self.drawing.document, annotations=tuple(marked)))

    @property
    def folder(self) -> Path:
        return slide_folder(self.session.open_slide().fingerprint)

    def choose_teacher(self) -> None:
        self.panel.model_box.setCurrentText("teacher")

    def learn(self) -> None:
        press(self.qtbot, self.panel.learn_button)
        self.until(lambda: self.learning.job is not None)

    def until(self, condition: Callable[[], object]) -> None:
        until(self.qtbot, self.panel, condition)

    def wait_for_preview(self) -> None:
        self.until(lambda: self.learning.learned is not None)
        self.until(lambda: self.preview is not None and self.learning.run is None)

    @property
    def preview(self) -> Any:
        overlays = self.session.overlays_of(self.session.layer)
        return overlays and overlays.preview

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]


def test_learn_discard_learn_again_and_accept(
    qtbot: Any, viewer: Any, child: Any, school: Any, workspace: Path, finished: Any
) -> None:
    school.move_in(workspace, analysed=False)
    _, analyze = viewer.window.add_plugin_dock_widget("napari-dala", "Analyze slide")
    room = Class(qtbot, viewer, school.slide)
    panel, session = room.panel, room.session
    assert "Draw a region" in panel.reason.text()
    assert not panel.learn_button.isEnabled()
    analyze.model_box.setCurrentText("teacher")
    press(qtbot, analyze.run_button)
    finished(analyze)
    assert panel.entry.name == "teacher", "the model whose results are shown"
    old = session.results
    old.cam.visible = False
    room.until(lambda: not old.is_explaining)
    before, visible = [np.array(layer.data) for layer in old.all], [layer.visible for layer in old.all]

    room.drawing.edit(replace(room.drawing.document, annotations=school.marked))
    assert panel.slides.item(0).text() == f"lesson (this slide): {len(school.marked)} regions"
    room.learn()
    assert not panel.learn_button.isEnabled()
    assert "being learned" in panel.learn_button.toolTip()
    room.until(lambda: session.results is not old)

    # What the store held is scored at once, its maps approximate until the network has run again.
    assert config_of(room.learning.job).settings.mode == "quick"
    seen: list[int] = []
    if run := room.learning.run:
        run.progressed.connect(lambda progress: seen.append(progress.approximate))
    room.wait_for_preview()
    new = session.results
    assert np.isfinite(new.probability.data).sum() == np.isfinite(old.probability.data).sum() > 100
    assert np.nanmax(np.abs(new.probability.data - old.probability.data)) > 0.05
    assert max(seen, default=1) > 0
    assert not new.analysis.approximate.any()
    assert "(approximate)" not in new.cam.name
    assert [layer.visible for layer in new.all] == visible
    assert not any(layer.visible for layer in old.all)

    # Curves and figures, and whose they are.
    report = room.learning.learned.report
    assert len(panel.curves.loss.points("train_loss")) == room.learning.learned.report["settings"]["epochs"]
    assert len(panel.curves.accuracy.points("val_gmean")) > 0
    assert panel.curves.title.text() == "Held-out tiles: same slide, optimistic"
    assert "same slide, optimistic" in panel.decision.figures.title.text()
    rows = {row[0]: row[1:] for row in panel.decision.figures.texts()}
    more = panel.decision.figures.more
    assert not more.itemAtPosition(1, 2).widget().isVisible()
    assert more.itemAtPosition(1, 2).widget().text().startswith(f"{report['after']['scores']['gmean']['value']:.2f}")
    (found, missed), _ = report["before"]["confusion"]
    assert list(rows)[1] == "benign tiles found", "what was found of each class leads"
    assert rows["benign tiles found"][0].split("<")[0] == f"{found} of {found + missed}"
    assert rows["Right on earlier tiles"] == [percent(report["replay"][key]) for key in ("before", "after")]

    # How good it is, tile by tile.
    check = panel.decision.check
    assert check.isVisible()
    counts = [[int(check.cells[truth, called].text()) for called in (0, 1)] for truth in (0, 1)]
    assert counts == report["after"]["confusion"]
    truth, called = next(cell for cell, button in check.cells.items() if button.isEnabled())
    press(qtbot, check.cells[truth, called])
    assert check.tiles.count() == counts[truth][called]
    press(qtbot, check.hardest_button)
    assert check.tiles.count() == min(24, sum(map(sum, counts)))
    check.tiles.setCurrentRow(0)
    hardest = check.check.samples[check.check.hardest()[0]]
    here = viewer.scene.camera.center[-2:]
    mpp = session.open_slide().mpp[0]
    assert np.abs(np.array(here) - np.array([hardest.y, hardest.x]) * mpp).max() < 2 * mpp
    for name in ("ROC", "Precision and recall", "Reliability"):
        check.curve_box.setCurrentText(name)
        assert check.plot.drawn.title == name
    assert (room.learning.learned.bundle.parent / "check.html").exists()
    verdict = report["verdict"]
    assert panel.decision.worse.isVisible() == (verdict == "worse")
    assert panel.decision.better.isVisible() == (verdict == "better")

    for told, worse, better in (
        ({"verdict": "worse"}, True, False),
        ({"verdict": "better"}, False, True),
        ({}, False, False),
    ):
        panel.decision._lead(told)
        assert (panel.decision.worse.isVisible(), panel.decision.better.isVisible()) == (worse, better)
        assert [bool(b.styleSheet()) for b in (panel.decision.discard_button, panel.decision.accept_button)] == [
            worse,
            better,
        ]
    panel.decision._lead({"verdict": "worse", "verdict_is_weak": "two tiles"})
    assert "Discard. But do not rely on it:\ntwo tiles" in panel.decision.worse.text()
    assert not panel.decision.discard_button.styleSheet()

    # Before and after in turn; Discard brings the old back bit for bit.
    press(qtbot, panel.decision.before_button)
    assert [layer.visible for layer in old.all] == visible
    press(qtbot, panel.decision.after_button)
    assert session.results is new
    job = room.learning.job
    press(qtbot, panel.decision.discard_button)
    assert session.results is old
    assert not [name for name in room.names if PREVIEW in name]
    for layer, data, was in zip(old.all, before, visible, strict=True):
        np.testing.assert_array_equal(layer.data, data)
        assert layer.visible is was
    assert Analysis.open(room.folder / "analyses").store.bundle_hash == old.analysis.store.bundle_hash
    assert (job.result / "bundle.safetensors").exists()
    assert not panel.decision.isVisible()
    assert sorted(path.stem for path in (workspace / "models").iterdir()) == ["teacher"]

    # The same again, accepted.
    room.learn()
    room.wait_for_preview()
    new = session.results
    learned = read_card(room.learning.job.result / "bundle.safetensors")
    check.sensitivity.setValue(1.0)
    assert all(not found for found in check.check.confusion(check.threshold)[1][:1]), "none of the target is missed"
    press(qtbot, check.use_button)
    assert new.threshold == check.threshold
    chosen = check.threshold
    name = panel.decision.name
    assert re.fullmatch(r"teacher quick \d{4}-\d\d-\d\d", name.text()), "a good one is proposed"
    for bad, why in (("teacher", "already"), ("a/b", "cannot name"), ("untrained", "built-in")):
        name.setText(bad)
        assert not panel.decision.accept_button.isEnabled()
        assert why in panel.decision.name_problem.text()
    name.setText("Breast, my second")
    assert not panel.decision.accept_button.isEnabled()
    name.setText("Breast 2")
    press(qtbot, panel.decision.accept_button)
    room.until(lambda: room.learning.learned is None)
    (installed,) = [path for path in (workspace / "models").glob("*.safetensors") if path.stem != "teacher"]
    assert installed.stem == "Breast 2"
    assert "How good is" in page_of(panel.entry).read_text(), "the page is kept with the model"
    assert all(one.name.endswith("Breast 2") for one in viewer.layers if "dala_role" in one.metadata)
    assert Analysis.open(room.folder / "analyses").card.operating_threshold == chosen, "when it is opened again"
    assert read_card(installed) == learned.model_copy(update={"name": "Breast 2", "operating_threshold": chosen})
    assert session.results is new
    assert not [name for name in room.names if PREVIEW in name]
    assert len([layer for layer in viewer.layers if "dala_role" in layer.metadata]) == 3
    for box in (analyze.model_box, panel.model_box):
        assert box.currentText() == installed.stem
        assert box.findText("teacher") >= 0, "older ones stay"
    assert panel.learn_button.isEnabled()
    assert read_card(installed).parent == old.analysis.store.bundle_hash


def test_a_killed_job_is_resumed_and_a_second_window_takes_over(
    qtbot: Any, viewer: Any, child: Any, school: Any, workspace: Path, make_napari_viewer: Any
) -> None:
    school.move_in(workspace)
    first = Class(qtbot, viewer, school.slide, school.marked)
    first.choose_teacher()
    first.learn()
    job = first.learning.job
    first.until(lambda: first.learning.status is Status.RUNNING)
    psutil.Process(job.state.process.pid).kill()
    first.until(lambda: first.learning.status is Status.INTERRUPTED)
    assert "interrupted" in first.panel.job.status.text()
    assert not first.panel.learn_button.isEnabled()
    assert "Resume" in first.panel.reason.text()
    assert first.panel.job.go_button.text() == "Resume"
    press(qtbot, first.panel.job.go_button)
    first.until(lambda: job.state.is_live)
    viewer.close()

    # Another window: the job has gone on, the last results are read, and the new map lies beside them.
    second = Class(qtbot, make_napari_viewer(show=True), school.slide)
    assert second.learning.job.folder == job.folder
    second.wait_for_preview()
    assert second.learning.status is Status.DONE
    assert len(second.panel.curves.loss.points("train_loss")) == second.learning.learned.report["settings"]["epochs"]
    old = second.session.overlays_of(second.session.layer).standing
    assert old.analysis.store.bundle_hash == second.learning.learned.report["parent"]
    np.testing.assert_array_equal(old.analysis.probability, Analysis.open(school.folder / "analyses").probability)
    assert second.preview.analysis.store.bundle_hash == second.learning.learned.report["bundle"]
    press(qtbot, second.panel.decision.discard_button)
    second.viewer.close()

    # Decided is decided.
    third = Class(qtbot, make_napari_viewer(show=True), school.slide)
    assert third.learning.job is None
    assert third.panel.learn_button.isEnabled()
    assert Analysis.open(third.folder / "analyses").store.bundle_hash == old.analysis.store.bundle_hash


def test_pause_and_learn_while_an_analysis_runs(
    qtbot: Any, viewer: Any, child: Any, school: Any, workspace: Path
) -> None:
    school.move_in(workspace)
    room = Class(qtbot, viewer, school.slide, school.marked)
    room.choose_teacher()
    # With another model, from its first tile.
    asked = AnalysisRequest(slide=school.slide, model="untrained", out=room.folder / "analyses")
    run = AnalysisRun(room.session, child, room.session.layer, asked)
    room.learn()
    room.until(lambda: room.learning.status is Status.RUNNING)
    press(qtbot, room.panel.job.go_button)
    room.until(lambda: room.learning.status in (Status.PAUSED, Status.DONE))
    if room.learning.status is Status.PAUSED:
        assert room.panel.job.go_button.text() == "Resume"
        press(qtbot, room.panel.job.go_button)
        room.until(lambda: room.learning.status is not Status.PAUSED)
    room.wait_for_preview()
    assert not run.is_running, "the preview goes first"
    assert room.session.results.analysis.card.name.startswith("teacher quick")


def test_why_learn_cannot_be_pressed_or_has_failed(
    qtbot: Any, viewer: Any, child: Any, school: Any, workspace: Path
) -> None:
    school.move_in(workspace)
    dock = viewer.window.add_plugin_dock_widget("napari-dala", "Annotate & learn")[1]
    assert dock.learn.reason.text() == "Open a slide first."
    viewer.window.remove_dock_widget(dock)
    room = Class(qtbot, viewer, school.slide)
    panel, drawing = room.panel, room.drawing
    assert "Draw a region" in panel.learn_button.toolTip()
    ignored = Annotation.drawn(shapely.box(100, 100, 400, 400), "Ignore")
    drawing.edit(replace(drawing.document, annotations=(ignored,)))
    assert "Draw a region" in panel.learn_button.toolTip()
    drawing.edit(replace(drawing.document, annotations=school.marked))
    assert panel.learn_button.isEnabled()
    panel.slides.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert panel.reason.text() == "Tick a slide to learn from."
    panel.slides.item(0).setCheckState(Qt.CheckState.Checked)

    teacher = workspace / "models" / "teacher.safetensors"
    with teacher.open("rb+") as file:  # its card is whole, its weights are not
        file.seek(-100_000, os.SEEK_END)
        file.write(b"\xff" * 100_000)
    room.choose_teacher()
    press(qtbot, panel.learn_button)
    qtbot.waitUntil(lambda: room.learning.status is Status.FAILED, timeout=LONG)
    assert "teacher" in panel.job.error.text()
    assert panel.job.error.text() == room.learning.message
    assert panel.job.go_button.text() == "Resume"
    assert panel.learn_button.isEnabled()
    teacher.unlink()
    press(qtbot, panel.learn_button)
    qtbot.waitUntil(lambda: "no model" in panel.job.error.text(), timeout=LONG)
    assert room.learning.job is None


def test_other_slides_of_the_workspace_are_listed(
    qtbot: Any, viewer: Any, child: Any, school: Any, workspace: Path, small_slide: Path, large_slide: Path
) -> None:
    school.move_in(workspace)
    moved = workspace / "moved.tif"
    os.link(large_slide, moved)
    for path in (small_slide, moved):
        other = Class(qtbot, viewer, path, school.marked[:3])
        other.drawing.flush()
        viewer.window.remove_dock_widget(other.dock)
        viewer.layers.clear()
    moved.unlink()
    room = Class(qtbot, viewer, school.slide, school.marked)
    slides = room.panel.slides
    qtbot.waitUntil(lambda: slides.count() == 3)
    assert [slides.item(row).text() for row in range(slides.count())] == [
        f"lesson (this slide): {len(school.marked)} regions",
        "moved: 3 regions",
        "small: 3 regions",
    ]
    assert not slides.item(1).flags() & Qt.ItemFlag.ItemIsEnabled
    assert "no longer" in slides.item(1).toolTip()
    assert [one.name for one in room.panel.chosen] == ["lesson"]
    slides.item(2).setCheckState(Qt.CheckState.Checked)
    assert [one.name for one in room.panel.chosen] == ["lesson", "small"]
    room.choose_teacher()
    room.learn()
    job = json.loads((room.learning.job.folder / "job.json").read_text())
    assert [os.path.basename(one["slide"]) for one in job["config"]["slides"]] == ["lesson.tif", "small.tif"]
    assert job["config"]["slides"][0]["analysis"] == str(room.folder / "analyses")
    room.drawing.edit(replace(room.drawing.document, annotations=()))
    copied = room.learning.job.folder / "annotations" / "001.geojson"
    assert len(json.loads(copied.read_text())["features"]) == len(school.marked), "what is drawn later is not read"
    folder = room.learning.job.folder
    press(qtbot, room.panel.job.cancel_button)
    room.until(lambda: room.learning.job is None)
    assert [job.status for job in jobs_in(folder.parent)] == [Status.CANCELLED]
    assert room.panel.learn_button.isEnabled(), "on the other slide there is something drawn"


WINDOW = """
import sys
import napari
from qtpy.QtCore import QTimer

viewer = napari.Viewer()
viewer.open(sys.argv[1], plugin="napari-dala")
dock = viewer.window.add_plugin_dock_widget("napari-dala", "Annotate & learn")[1]

def learn():
    dock.learn.model_box.setCurrentText("teacher")
    if dock.learn.learn_button.isEnabled():
        timer.stop()
        dock.learn.learn_button.click()

timer = QTimer()
timer.timeout.connect(learn)
timer.start(100)
napari.run()
"""


def test_napari_is_killed_while_it_learns(
    qtbot: Any, child: Any, school: Any, workspace: Path, make_napari_viewer: Any
) -> None:
    school.move_in(workspace)
    fingerprint = open_slide(school.slide).fingerprint
    save_for(AnnotationDocument(fingerprint, (), school.marked))
    window = subprocess.Popen([sys.executable, "-c", WINDOW, str(school.slide)])
    jobs = slide_folder(fingerprint) / "jobs"
    qtbot.waitUntil(lambda: bool(jobs_in(jobs)) and jobs_in(jobs)[0].state.is_live, timeout=LONG)
    window.kill()
    window.wait()
    room = Class(qtbot, make_napari_viewer(show=True), school.slide)
    (job,) = jobs_in(jobs)
    assert room.learning.job.folder == job.folder
    assert room.drawing.document.annotations == school.marked
    room.wait_for_preview()
    press(qtbot, room.panel.decision.accept_button)
    room.until(lambda: room.learning.learned is None)
    assert len(list((workspace / "models").glob("*.safetensors"))) == 2


def test_a_picture_without_a_file(qtbot: Any, viewer: Any, child: Any, school: Any, workspace: Path) -> None:
    school.move_in(workspace, analysed=False)
    with open_slide(school.slide) as slide:
        pixels, mpp = slide.read(0, 0, *slide.dimensions), slide.mpp
    viewer.add_image(pixels, rgb=True, name="field", scale=mpp[::-1], units=("um", "um"))
    room = Class(qtbot, viewer, None, school.marked)
    room.choose_teacher()
    room.learn()
    room.wait_for_preview()
    assert np.isfinite(room.session.results.probability.data).sum() > 100
    press(qtbot, room.panel.decision.discard_button)
    assert room.session.results is None
    with pytest.raises(DalaError, match="not an analysis"):  # the model that was discarded is not offered
        Analysis.open(room.folder / "analyses")


@pytest.mark.parametrize("name", ["teacher", "teacher quick 2026-11-23", "teacher quick 2026-11-23 2"])
def test_names_of_new_models_do_not_grow(name: str, workspace: Path) -> None:
    from napari_dala.plugin.learn.jobs import new_model_name

    first = new_model_name(name, "deep", workspace)
    assert re.fullmatch(r"teacher deep \d{4}-\d\d-\d\d", first)
    (workspace / "models").mkdir()
    (workspace / "models" / f"{first}.safetensors").touch()
    assert new_model_name(name, "deep", workspace) == f"{first} 2"
