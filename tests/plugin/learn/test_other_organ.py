"""A model of another organ, with three classes, goes through the docks: analysed, explained, drawn on, learned from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.model.card import read_card
from napari_dala.plugin.viewer.session import session_of
from tests.plugin.buttons import press
from tests.plugin.learn.waiting import LONG, until

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("normal", "adenocarcinoma", "squamous")


def test_three_classes_are_analysed_explained_drawn_and_learned(
    qtbot: Any, viewer: Any, child: Any, lung_school: Any, workspace: Path, finished: Any, explained: Any, hand: Any
) -> None:
    lung_school.move_in(workspace)
    docks = {
        name: viewer.window.add_plugin_dock_widget("napari-dala", name)[1]
        for name in ("Analyze slide", "Explain", "Annotate & learn")
    }
    analyze, explain, annotate = docks.values()
    viewer.open(lung_school.slide, plugin="napari-dala")
    session = session_of(viewer)
    qtbot.waitUntil(lambda: annotate.drawing.document is not None, timeout=LONG)

    analyze.model_box.setCurrentText("teacher")
    press(qtbot, analyze.run_button)
    finished(analyze)
    old = session.results
    assert old is not None
    assert old.analysis.card.class_names == CLASSES
    probability = old.analysis.probability[:, old.analysis.analysed]
    assert len(probability) == 3
    np.testing.assert_allclose(probability.sum(0), 1, atol=0.01)

    explain.show_box.setCurrentIndex(2)
    assert [explain.class_box.itemText(place) for place in range(explain.class_box.count())] == list(CLASSES)
    maps = []
    for place in range(3):
        explain.class_box.setCurrentIndex(place)
        explained(old)
        maps.append(np.array(old.cam.data))
    assert np.nanmax(np.abs(maps[0] - maps[2])) > 0  # each class has a map of its own
    row, column = np.argwhere(old.analysis.analysed)[0]
    hand.click(*(float(at) for at in old.analysis.grid.middle(int(row), int(column))))
    assert all(name in explain.probabilities.text() for name in CLASSES)

    marked = [
        replace(region, class_name="squamous") if number % 3 == 0 else region
        for number, region in enumerate(lung_school.marked)
    ]
    assert {region.class_name for region in marked} == set(CLASSES)
    annotate.drawing.edit(replace(annotate.drawing.document, annotations=tuple(marked)))
    panel = annotate.learn
    learning = panel.learning
    assert panel.entry.name == "teacher"
    press(qtbot, panel.learn_button)
    until(qtbot, panel, lambda: learning.learned is not None)
    until(qtbot, panel, lambda: session.results is not old and learning.run is None)
    assert read_card(learning.learned.bundle).class_names == CLASSES
    new = session.results.analysis
    assert not new.approximate.any()
    assert np.abs(new.probability - old.analysis.probability)[:, new.analysed].max() > 0.05
    panel.decision.name.setText("Lung")
    press(qtbot, panel.decision.accept_button)
    until(qtbot, panel, lambda: learning.learned is None)
    assert analyze.model_box.currentText() == "Lung"
