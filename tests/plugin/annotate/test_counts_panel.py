"""The table of labelled tiles follows what is drawn, on this slide and on others that are ticked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import shapely
from qtpy.QtGui import QTextDocumentFragment

from napari_dala.annotations.document import Annotation, AnnotationDocument
from napari_dala.annotations.files import save_for
from napari_dala.annotations.slides import annotated_slides, remember_slide
from napari_dala.model.card import UNTRAINED_CARD, ClassInfo
from napari_dala.plugin.annotate.counts_panel import CountsPanel
from napari_dala.plugin.annotate.drawing import drawing_of
from napari_dala.plugin.bench.callback_times import CallbackTimes
from napari_dala.plugin.viewer.session import session_of
from napari_dala.results.loaded import load
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari.viewer import Viewer

TILE = 224

Shown = dict[str, tuple[str, ...]]


def region(name: str, columns: int, rows: int, row: int = 0) -> Annotation:
    return Annotation.drawn(shapely.box(0, row * TILE, columns * TILE, (row + rows) * TILE), name)


def shown(panel: CountsPanel) -> Shown:
    """The table as the user reads it."""
    cells = QTextDocumentFragment.fromHtml(panel.table.text()).toPlainText()[1:].split("\n")
    rows = [cells[first : first + 5] for first in range(5, len(cells) - 4, 5)]
    return {name: tuple(numbers) for _, name, *numbers in rows}


@pytest.fixture
def panel(viewer: Viewer, small_slide: Path, qtbot: Any) -> Iterator[CountsPanel]:
    """A window with a slide of 5 x 5 tiles."""
    viewer.open(small_slide, plugin="napari-dala")
    session = session_of(viewer)
    drawing = drawing_of(session)
    qtbot.waitUntil(lambda: drawing.document is not None)
    panel = CountsPanel(session, drawing)
    panel.set_card(UNTRAINED_CARD)  # tiles of 224 px at 0.5 um/px
    viewer.window.add_dock_widget(panel)
    qtbot.waitUntil(lambda: shown(panel) != {})
    yield panel
    drawing.flush()


@pytest.fixture
def counted(panel: CountsPanel, qtbot: Any) -> Callable[[Shown], None]:
    """Wait until the table says this."""

    def wait(expected: Shown) -> None:
        def as_expected() -> None:
            assert shown(panel) == expected

        qtbot.waitUntil(as_expected, timeout=20_000)

    return wait


def draw(panel: CountsPanel, *regions: Annotation, **changes: Any) -> AnnotationDocument:
    document = panel._drawing.document
    assert document is not None
    document = replace(document, annotations=regions, **changes)
    panel._drawing.edit(document)
    return document


def test_the_table_follows_what_is_drawn(panel: CountsPanel, counted: Any) -> None:
    counted({"benign": ("0", "0", "0"), "malignant": ("0", "0", "0")})
    assert "No tile is labelled yet" in panel.warning.text()
    draw(panel, region("benign", 4, 1))
    counted({"benign": ("4", "1", "1"), "malignant": ("0", "0", "0")})
    assert "No tile is labelled malignant" in panel.warning.text()
    draw(panel, region("benign", 4, 1), region("malignant", 5, 2, row=1))
    counted({"benign": ("4", "1", "1"), "malignant": ("10", "1", "1")})
    assert not panel.warning.isVisible()
    panel._drawing.undo()
    counted({"benign": ("4", "1", "1"), "malignant": ("0", "0", "0")})
    assert panel.warning.isVisible()


def test_ticked_slides_count_with_what_is_drawn_now(panel: CountsPanel, counted: Any, large_slide: Path) -> None:
    with open_slide(large_slide) as other:
        remember_slide(other)
        names = (region("malignant", 2, 2), region("benign", 1, 1, row=4))
        document = AnnotationDocument(other.fingerprint, (), names, "somebody")
        save_for(document)
    draw(panel, region("benign", 3, 1), patient="somebody")
    panel._drawing.flush()
    counted({"benign": ("3", "1", "1"), "malignant": ("0", "0", "0")})
    panel.set_slides(annotated_slides())
    counted({"benign": ("4", "2", "1"), "malignant": ("4", "1", "1")})
    draw(panel, region("benign", 5, 1), patient="somebody else")  # not saved yet
    counted({"benign": ("6", "2", "2"), "malignant": ("4", "1", "1")})
    panel.set_slides([])
    counted({"benign": ("0", "0", "0"), "malignant": ("0", "0", "0")})


def test_problems_of_a_slide_are_shown(panel: CountsPanel, qtbot: Any, workspace: Path) -> None:
    draw(panel, region("benign", 3, 1), region("malignant", 3, 1, row=1))
    (workspace / ("d" * 32)).mkdir()
    (workspace / ("d" * 32) / "annotations.geojson").write_text("{")
    panel._drawing.flush()
    panel.set_slides(annotated_slides())
    qtbot.waitUntil(lambda: "not JSON" in panel.warning.text(), timeout=20_000)
    assert shown(panel) == {"benign": ("3", "1", "1"), "malignant": ("3", "1", "1")}


def test_classes_and_tiles_are_those_of_the_model_shown(
    panel: CountsPanel, counted: Any, small_slide: Path, painted: Any, tmp_path: Path
) -> None:
    draw(panel, region("benign", 4, 1), region("fat", 2, 2, row=2))
    counted({"benign": ("4", "1", "1"), "malignant": ("0", "0", "0")})
    classes = tuple(ClassInfo(name=name, color=(1, 2, 3)) for name in ("Fat", "Benign"))
    card = UNTRAINED_CARD.model_copy(update={"classes": classes, "tile_px": 448})
    session = panel._session
    assert session.open_slide() is not None
    painted(tmp_path, TileGrid.over(session.open_slide(), 448, 0.5), card)
    session.show(session.layer, load(tmp_path))
    panel.set_card(None)
    counted({"Fat": ("2", "1", "1"), "Benign": ("2", "1", "1")})  # the last row, moved back, is half of fat too
    panel.set_card(UNTRAINED_CARD)
    counted({"benign": ("4", "1", "1"), "malignant": ("0", "0", "0")})


def test_another_slide_has_its_own_counts(panel: CountsPanel, counted: Any, viewer: Viewer, large_slide: Path) -> None:
    draw(panel, region("benign", 4, 1))
    counted({"benign": ("4", "1", "1"), "malignant": ("0", "0", "0")})
    viewer.open(large_slide, plugin="napari-dala")
    counted({"benign": ("0", "0", "0"), "malignant": ("0", "0", "0")})
    viewer.layers.selection.active = viewer.layers["small"]
    counted({"benign": ("4", "1", "1"), "malignant": ("0", "0", "0")})


@pytest.mark.timed
def test_the_window_never_waits_for_a_count(viewer: Viewer, large_slide: Path, qtbot: Any) -> None:
    with CallbackTimes() as times:
        viewer.open(large_slide, plugin="napari-dala")
        session = session_of(viewer)
        drawing = drawing_of(session)
        qtbot.waitUntil(lambda: drawing.document is not None)
        panel = CountsPanel(session, drawing)
        panel.set_card(UNTRAINED_CARD)
        viewer.window.add_dock_widget(panel)
        regions = [region(("benign", "malignant")[n % 2], 14, 1, n) for n in range(14)]
        for n in range(1, 15):
            draw(panel, *regions[:n])
            qtbot.wait(30)
        qtbot.waitUntil(lambda: shown(panel).get("malignant", ("",))[0] == "98", timeout=20_000)
    drawing.flush()
    slowest = {name: max(call.own_s for call in calls) for name, calls in times.calls.items() if "CountsPanel" in name}
    assert slowest
    assert max(slowest.values()) < 0.05, slowest
