"""Text from files is shown as it is: no tag of a class, a slide or a message is read as HTML, no picture opened."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

import napari_dala.plugin
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.model.card_page import card_page, card_table
from napari_dala.plugin.learn.before_after import BeforeAfter
from napari_dala.plugin.learn.check_panel import CheckPanel
from napari_dala.plugin.parts.legend import Legend
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.viewer.plain_text import plain_tip, without_tags
from napari_dala.results.model_check import ModelCheck, Sample

IMAGE = '<img src="file:///etc/passwd">'
OURS = {  # texts without anything from a file, or with it escaped
    "annotate/counts_panel.py": {"self.table"},
    "compare.py": {"mark"},
    "explain.py": {"self.picture", "self.probabilities"},
    "learn/before_after.py": {"self.title", "label"},
    "learn/curves.py": {"self.title"},
    "learn/panel.py": {"self.mode_text"},
    "review/dock.py": {"self.keys"},
    "start_here.py": {"self.steps", "back", "picture"},
}


def _figures() -> dict[str, Any]:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    scores = dict.fromkeys(("accuracy", "gmean", "f1", "iba", "ece"), figure)
    scores["recall"] = {IMAGE: figure, "b": figure}
    return {"n": 4, "classes": [IMAGE, "b"], "scores": scores, "confusion": [[1, 1], [0, 2]], "notes": []}


def _report() -> dict[str, Any]:
    counts = {IMAGE: 3, "b": 1}
    return {
        "split": "slide",
        "optimistic": False,
        "notes": [IMAGE],
        "examples": {"train": counts, "held_out": counts},
        "before": _figures(),
        "after": _figures(),
        "replay": None,
    }


def _check() -> ModelCheck:
    draw = np.random.default_rng(3)
    samples = tuple(
        Sample(label=number % 2, probability=(1 - p, p), group=f"p{number % 8}", slide="s" * 32)
        for number, p in enumerate(draw.random(80).tolist())
    )
    return ModelCheck(
        model="m", classes=(IMAGE, "b"), target=0, unit="patient", threshold=0.5, temperature=1, samples=samples
    )


def _assert_plain(widget: Any, least: int) -> None:
    labels = [label for label in widget.findChildren(QLabel) if IMAGE in label.text()]
    assert len(labels) >= least
    assert {label.textFormat() for label in labels} == {Qt.TextFormat.PlainText}
    for one in widget.findChildren(QWidget):
        assert "<img" not in one.toolTip()


def test_figures_and_notes(qapp: Any, qtbot: Any) -> None:
    panel = BeforeAfter()
    qtbot.addWidget(panel)
    panel.show_report(_report())
    _assert_plain(panel, 3)
    assert [f"{IMAGE} tiles found", "1 of 2<br><small>(40–60 %)</small>"] == panel.texts()[1][:2]
    shown = " ".join(text for row in panel.texts() for text in row)
    assert not any(name in shown for name in ("GMean", "F1", "IBA")), "these are for who asks for more"
    panel.more_figures.open(True)
    assert panel.more.itemAtPosition(1, 0).widget().text().startswith("GMean: ")


def test_check(qapp: Any, qtbot: Any) -> None:
    panel = CheckPanel(SimpleNamespace())
    qtbot.addWidget(panel)
    panel.show_check(_check())
    _assert_plain(panel, 3)
    for button in panel.cells.values():
        assert "<img" not in button.toolTip()
        assert Qt.mightBeRichText(button.toolTip())
    assert "&lt;img" in panel.cells[0, 0].toolTip()


def test_notes_legends_and_what_napari_is_given(qapp: Any, qtbot: Any) -> None:
    note, legend = Note("error"), Legend()
    for widget in (note, legend):
        qtbot.addWidget(widget)
    note.say(f"{IMAGE}.svs: this is not a slide")
    assert note.textFormat() == Qt.TextFormat.PlainText
    legend.show_layer(Image(np.zeros((2, 2))), f"Probability of {IMAGE}", ("a", IMAGE))
    assert "<img" not in legend.toolTip()
    assert not Qt.mightBeRichText(without_tags(f"{IMAGE}: it is cut"))
    assert plain_tip("a & b") == "<qt>a &amp; b</qt>"


def test_a_card_as_a_page_escapes_every_text() -> None:
    classes = tuple(one.model_copy(update={"name": f"{IMAGE}{n}"}) for n, one in enumerate(UNTRAINED_CARD.classes))
    card = UNTRAINED_CARD.model_copy(
        update={"name": IMAGE, "summary": IMAGE, "classes": classes, "training": {IMAGE: {IMAGE: [IMAGE]}}}
    )
    page = card_table(card, IMAGE)
    assert "<img" not in page
    assert "<img" not in card_page(card)
    assert page.count("&lt;img") >= 8


@pytest.mark.parametrize("path", sorted(Path(napari_dala.plugin.__path__[0]).rglob("*.py")), ids=lambda path: path.stem)
def test_every_other_label_is_plain(path: Path) -> None:
    root = Path(napari_dala.plugin.__path__[0])
    ours = OURS.get(path.relative_to(root).as_posix(), set())
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "setOpenExternalLinks"
        if not isinstance(node, ast.Assign):
            continue
        targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else [node.targets[0]]
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        for target, value in zip(targets, values, strict=False):
            calls = [one for one in ast.walk(value) if isinstance(one, ast.Call)]
            labels = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "QLabel"]
            literal = all(label.args and isinstance(label.args[0], ast.Constant) for label in labels)
            assert literal or ast.unparse(target) in ours, f"{path.name}: {ast.unparse(node)}: PlainLabel"
