"""Save… and Picture… in the real window."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QDesktopServices

from napari_dala.plugin.analyze.save_dialogs import PictureDialog, ResultsDialog
from napari_dala.plugin.analyze.view_legend import color_bars, swatches_of, take_view, um_per_px_of

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_MS = 60_000


def click(qtbot: Any, button: Any) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def tick(qtbot: Any, box: Any) -> None:
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))


def asked(qtbot: Any, panel: Any, button: Any, kind: type[Any], path: Path) -> Any:
    """Press a button and type a path into its dialog."""
    click(qtbot, button)
    (dialog,) = panel.findChildren(kind)
    qtbot.waitExposed(dialog)
    dialog.path.selectAll()
    qtbot.keyClicks(dialog.path, str(path))
    return dialog


def wait_saved(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: panel.save_button.isEnabled(), timeout=PATIENCE_MS)


def test_save_writes_what_is_shown_and_says_where(
    qtbot: Any, graded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = graded.analyze.panel
    panel.threshold.setValue(0.7)
    panel.doubt.setValue(0.1)
    saving = panel.saving
    dialog = asked(qtbot, saving, saving.save_button, ResultsDialog, tmp_path / "out")
    click(qtbot, dialog.save_button)
    assert not saving.save_button.isEnabled(), "it is written in a thread"
    panel.threshold.setValue(0.2)  # what is saved is what was shown then
    wait_saved(qtbot, saving)
    assert saving.error.text() == ""
    (folder,) = (tmp_path / "out").iterdir()
    assert str(folder) in saving.saved.text()
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "tiles.csv", "regions.geojson", "overview.png", "run.json", "probability.ome.tif"} <= names
    run = json.loads((folder / "run.json").read_text())
    assert (run["threshold"], run["doubt"]) == (0.7, 0.1)
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    click(qtbot, saving.show_button)
    assert opened == [str(folder)]


def test_while_it_saves_the_view_stays_and_keys_reach_the_canvas(qtbot: Any, graded: Any, tmp_path: Path) -> None:
    dock, camera = graded.analyze, graded.viewer.scene.camera
    before = camera.center, camera.zoom
    saving = dock.panel.saving
    dialog = asked(qtbot, saving, saving.save_button, ResultsDialog, tmp_path / "out")
    click(qtbot, dialog.save_button)
    saving.save_button.setFocus()  # as after the dialog
    wait_saved(qtbot, saving)
    assert ((camera.center, camera.zoom), dock.panel.spots.currentRow()) == (before, -1)
    window = graded.viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    saving.save_button.setFocus()
    for gone in (lambda: saving.save_button.setEnabled(False), saving.show_button.hide):
        gone()
        assert window.focusWidget() is dock
        qtbot.keyClick(dock, Qt.Key.Key_Space)
        assert dock.isVisible()
        saving.show_button.setFocus()
    dock.run_button.setFocus()
    qtbot.keyClick(dock.run_button, Qt.Key.Key_Tab)
    assert window.focusWidget() not in (dock, dock.run_button), "Tab goes on as ever"


def test_what_was_saved_of_one_slide_is_not_said_of_another(
    qtbot: Any, graded: Any, tmp_path: Path, large_slide: Path
) -> None:
    saving, layer = graded.analyze.panel.saving, graded.analyze._session.layer
    dialog = asked(qtbot, saving, saving.save_button, ResultsDialog, tmp_path / "out")
    click(qtbot, dialog.save_button)
    wait_saved(qtbot, saving)
    assert "Saved" in saving.saved.text()
    graded.viewer.open(large_slide, plugin="napari-dala")
    graded.viewer.layers.selection.active = layer
    assert saving.isVisible()
    assert (saving.saved.text(), saving.error.text(), saving.show_button.isVisible()) == ("", "", False)


def test_what_cannot_be_saved_is_one_line(qtbot: Any, graded: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    saving = graded.analyze.panel.saving
    dialog = asked(qtbot, saving, saving.save_button, ResultsDialog, tmp_path / "file")
    tick(qtbot, dialog.maps)
    assert not dialog.maps.isChecked()
    click(qtbot, dialog.save_button)
    wait_saved(qtbot, saving)
    assert "choose another folder" in saving.error.text()
    assert "\n" not in saving.error.text()
    assert saving.saved.text() == ""


def test_a_picture_of_the_view_at_twice_the_screen(qtbot: Any, graded: Any, tmp_path: Path) -> None:
    viewer, saving = graded.viewer, graded.analyze.panel.saving
    high, wide = viewer.canvas.size
    place = viewer.scene.camera.center, viewer.scene.camera.zoom
    dialog = asked(qtbot, saving, saving.picture_button, PictureDialog, tmp_path / "view")
    assert dialog.times == 2
    click(qtbot, dialog.save_button)
    wait_saved(qtbot, saving)
    assert saving.error.text() == ""
    assert {path.name for path in tmp_path.iterdir()} == {"view.png", "view.pdf"}
    with Image.open(tmp_path / "view.png") as opened:
        picture = np.asarray(opened)
    assert picture.shape[1] == 2 * wide
    assert picture.shape[0] > 2 * high, "the legend lies below"
    tissue = picture[: 2 * high]
    assert tissue.std() > 10, "the slide is in it"
    assert (viewer.canvas.size, viewer.canvas.overlays.scale_bar.visible) == ((high, wide), True)
    np.testing.assert_allclose(viewer.scene.camera.center, place[0])
    assert viewer.scene.camera.zoom == pytest.approx(place[1])


def test_a_picture_without_the_slide_s_name(qtbot: Any, graded: Any, tmp_path: Path) -> None:
    saving = graded.analyze.panel.saving
    click(qtbot, saving.picture_button)
    (dialog,) = saving.findChildren(PictureDialog)
    assert "small" in dialog.path.text()
    qtbot.waitExposed(dialog)
    tick(qtbot, dialog.anonymous)
    assert "small" not in dialog.path.text(), "the name that is offered says it neither"
    dialog.path.setText(str(tmp_path / "view"))
    click(qtbot, dialog.save_button)
    wait_saved(qtbot, saving)
    content = (tmp_path / "view.pdf").read_bytes()
    assert b"small" not in content
    assert "small".encode("utf-16-be") not in content


def test_a_finer_picture_shows_the_same(graded: Any) -> None:
    """napari's own would show three times as much of the world, the slide small in its middle."""
    viewer, session = graded.viewer, graded.analyze._session
    viewer.scene.camera.zoom = 0.5  # screen px per um
    once, thrice = take_view(viewer, 1), take_view(viewer, 3)
    assert thrice.shape[:2] == tuple(3 * side for side in viewer.canvas.size)
    reduced = np.asarray(Image.fromarray(thrice).reduce(3), float)
    assert np.abs(reduced - once).mean() < 10
    assert viewer.scene.camera.zoom == 0.5
    for view in (once, thrice):
        um_per_px = um_per_px_of(session, view.shape[1])
        bright = (view.max(axis=2) > 40).any(axis=0)  # the slide's columns, on the black canvas
        assert bright.sum() * um_per_px == pytest.approx(1120 * 0.5, rel=0.02)


def test_the_legend_names_what_is_visible_and_nothing_else(graded: Any) -> None:
    session = graded.analyze._session
    results = session.results
    assert [bar.title for bar in color_bars(results)] == ["Probability of malignant"]
    assert swatches_of(session, results) == []
    results.classes.visible = results.cam.visible = True
    results.probability.visible = False
    assert [bar.title for bar in color_bars(results)] == ["DT Grad-CAM of malignant"]
    colors = dict(swatches_of(session, results))
    assert colors == {f"{entry.name} (predicted)": entry.color for entry in results.analysis.card.classes}
