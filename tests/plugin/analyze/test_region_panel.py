"""The table of regions in the real window: sorted, copied, flown to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QApplication, QScrollArea

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import save_for
from napari_dala.plugin.viewer.slide_layers import view_of


@pytest.fixture
def panel(qtbot: Any, graded: Any) -> Any:
    """The open table; found are two regions, benign above and malignant below."""
    fold = graded.analyze.panel.regions_fold
    qtbot.mouseClick(fold.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(fold.content.rows) == 2, timeout=10_000)
    return fold.content


def draw(session: Any, *boxes: tuple[float, float, float, float]) -> None:
    tumour = AnnotationClass("tumour", (0, 200, 0))
    drawn = tuple(Annotation.drawn(shapely.box(*box), "tumour") for box in boxes)
    save_for(AnnotationDocument(session.open_slide().fingerprint, (tumour,), drawn))


def click_row(qtbot: Any, panel: Any, row: int, column: int = 0, held: Any = Qt.KeyboardModifier.NoModifier) -> None:
    at = panel.view.visualRect(panel.sorted.index(row, column)).center()
    qtbot.mouseClick(panel.view.viewport(), Qt.MouseButton.LeftButton, held, pos=at)


def test_found_and_drawn_regions_have_their_figures(qtbot: Any, graded: Any, panel: Any) -> None:
    session = graded.analyze._session
    assert [row.name for row in panel.rows] == ["malignant 1", "benign 1"]
    draw(session, (10, 10, 60, 60), (300, 300, 1000, 1000))
    qtbot.waitUntil(lambda: len(panel.rows) == 4, timeout=10_000)  # without a press
    assert panel.count.text() == "2 found, 2 drawn (in italics)"
    assert [row.name for row in panel.rows] == ["tumour 1", "tumour 2", "malignant 1", "benign 1"]
    shown = [panel.sorted.index(2, column).data() for column in range(6)]
    malignant = session.results.analysis.probability[1] >= 0.5
    values = session.results.analysis.probability[1][malignant]
    area = session.results.analysis.summary().area_mm2["malignant"]
    assert shown == ["malignant 1", f"{area:.3f}", f"{values.mean():.0%}", f"{values.max():.0%}", "0%", "1"]


def test_what_is_opened_comes_into_sight(qtbot: Any, graded: Any) -> None:
    window, fold = graded.viewer.window._qt_window, graded.analyze.panel.regions_fold
    window.resize(window.width(), 600)
    qtbot.wait(100)
    area = graded.analyze.findChild(QScrollArea)
    area.ensureWidgetVisible(fold.button)
    QCursor.setPos(fold.button.mapToGlobal(fold.button.rect().center()))
    qtbot.mouseClick(fold.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: fold.content.visibleRegion().boundingRect().height() > 150)


def test_a_click_on_a_heading_sorts(qtbot: Any, graded: Any, panel: Any) -> None:
    draw(graded.analyze._session, (10, 10, 60, 60), (300, 300, 1000, 1000))
    qtbot.waitUntil(lambda: len(panel.rows) == 4, timeout=10_000)
    header = panel.view.horizontalHeader()

    def press(column: int) -> None:
        at = QPoint(header.sectionViewportPosition(column) + 10, header.height() // 2)
        qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=at)

    press(3)
    highest = [row.highest for row in panel.rows]
    assert highest in (sorted(highest), sorted(highest, reverse=True))
    press(3)
    assert [row.highest for row in panel.rows] == highest[::-1]
    press(1)
    areas = [row.area_mm2 for row in panel.rows]
    assert areas in (sorted(areas), sorted(areas, reverse=True))


def test_a_click_flies_there_from_near_and_from_far(qtbot: Any, graded: Any, panel: Any) -> None:
    session = graded.analyze._session
    draw(session, (100, 100, 130, 130))
    qtbot.waitUntil(lambda: len(panel.rows) == 3, timeout=10_000)
    for row in (0, 1, 0, 2):  # also out again, for a large region after a small one
        click_row(qtbot, panel, row)
        left, top, right, bottom = panel.rows[row].bounds
        view = view_of(graded.viewer, session.layer)
        middle = (view[0] + view[2]) / 2, (view[1] + view[3]) / 2
        np.testing.assert_allclose(middle, ((left + right) / 2, (top + bottom) / 2), atol=1)
        assert view[0] <= left
        assert view[1] <= top
        assert view[2] >= right
        assert view[3] >= bottom
    assert panel._mark.layer in graded.viewer.layers


def test_rows_are_copied_for_a_spreadsheet(qtbot: Any, graded: Any, panel: Any) -> None:
    qtbot.mouseClick(panel.copy_button, Qt.MouseButton.LeftButton)
    assert len(QApplication.clipboard().text().splitlines()) == 3
    click_row(qtbot, panel, 1)
    panel.view.setFocus()
    qtbot.keyClick(panel.view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    head, row = (line.split("\t") for line in QApplication.clipboard().text().splitlines())
    assert dict(zip(head, row, strict=True))["Region"] == panel.rows[1].name


def test_the_table_follows_the_threshold_and_the_band(qtbot: Any, graded: Any, panel: Any) -> None:
    results = graded.analyze.panel
    results.doubt.setValue(0.2)
    qtbot.waitUntil(lambda: panel.rows[0].area_mm2 < 0.1, timeout=10_000)
    analysis = graded.analyze._session.results.analysis
    assert sum(row.area_mm2 for row in panel.rows) == pytest.approx(analysis.summary().judged_mm2)
    results.threshold.setValue(0.99)
    qtbot.waitUntil(lambda: [row.name for row in panel.rows] == ["benign 1"], timeout=10_000)


def test_a_closed_table_reads_nothing(qtbot: Any, graded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr("napari_dala.plugin.analyze.region_panel.regions_now", lambda *a: read.append(a) or [])
    panel = graded.analyze.panel
    panel.threshold.setValue(0.3)
    qtbot.wait(800)
    assert not read
    qtbot.mouseClick(panel.regions_fold.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(read), timeout=5000)
