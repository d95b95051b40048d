"""Layers stay tidy: a preview is listed in place of what it hides, a slide takes along what lies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_dala.plugin.analyze.run import analyses_folder
from napari_dala.plugin.viewer.session import session_of
from napari_dala.plugin.viewer.slide_layers import slide_of
from napari_dala.results.loaded import load
from tests.plugin.results_made import has_run

if TYPE_CHECKING:
    from pathlib import Path

    from napari.viewer import Viewer


def listed(viewer: Viewer) -> list[str]:
    """Return the names in the layer list."""
    view = viewer.window._qt_viewer.layers
    rows = range(view.model().rowCount())
    return [view.model().index(row, 0).data() for row in rows if not view.isRowHidden(row)]


def test_a_preview_takes_the_place_of_what_it_hides(viewer: Viewer, qtbot: Any, small_slide: Path) -> None:
    for name in "ab":
        has_run(name, name * 64, small_slide, 0.1, tiles={(0, 0): 0.95})
    viewer.open(small_slide, plugin="napari-dala")
    session = session_of(viewer)
    folder = analyses_folder(slide_of(session.layer))
    for _ in range(2):
        session.show(session.layer, load(folder, "a" * 64))
        qtbot.waitUntil(lambda: len(listed(viewer)) == 4)
        first = listed(viewer)
        session.show(session.layer, load(folder, "b" * 64), preview=True)
        qtbot.waitUntil(lambda: len(viewer.layers) == 7)
        qtbot.waitUntil(lambda: len(listed(viewer)) == 4)
        assert all("(preview)" in name for name in listed(viewer)[:-1])
        session.show_before(session.layer, True)
        assert listed(viewer) == first
        session.show_before(session.layer, False)
        session.keep_preview(session.layer)
        qtbot.waitUntil(lambda: len(listed(viewer)) == 4 == len(viewer.layers))


def test_a_hidden_slide_hides_what_lies_on_it_and_shows_it_as_it_was(
    viewer: Viewer, qtbot: Any, small_slide: Path
) -> None:
    has_run("a", "a" * 64, small_slide, 0.1, tiles={(0, 0): 0.95})
    viewer.open(small_slide, plugin="napari-dala")
    session = session_of(viewer)
    results = session.show(session.layer, load(analyses_folder(slide_of(session.layer))))
    qtbot.waitUntil(lambda: len(results.present) == len(results.all))  # one enters in each turn of the event loop
    before = {layer: layer.visible for layer in viewer.layers}
    assert set(before.values()) == {True, False}
    session.layer.visible = False
    assert not any(layer.visible for layer in viewer.layers)
    session.layer.visible = True
    assert {layer: layer.visible for layer in viewer.layers} == before
    assert results.probability.visible


def test_twenty_slides_one_after_the_other_leave_nothing(
    viewer: Viewer, qtbot: Any, small_slide: Path, tmp_path: Path
) -> None:
    session = session_of(viewer)
    for number in range(20):
        path = tmp_path / f"{number}.tif"
        path.write_bytes(small_slide.read_bytes() + bytes(number))  # another file, another fingerprint
        has_run("a", "a" * 64, path, 0.1, tiles={(0, 0): 0.95})
        (layer,) = viewer.open(path, plugin="napari-dala")
        session.show(layer, load(analyses_folder(slide_of(layer))))
        qtbot.wait(30)
        viewer.layers.remove(layer)
        qtbot.wait(30)
        assert list(viewer.layers) == []
    assert not session._overlays
