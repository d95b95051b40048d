"""A model leaves from the window *Models*, by the real child."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_dala.plugin.parts.models_dialog import ModelsDialog
from tests.plugin.conftest import PATIENCE_MS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def dialog(qtbot: Any, child: Any) -> Iterator[ModelsDialog]:
    parent = QWidget()  # whose dialog goes with it
    qtbot.addWidget(parent)
    window = ModelsDialog(parent, "breakhis-ucsb")
    window.show()
    yield window
    window.close()


def choose(qtbot: Any, dialog: ModelsDialog, row: int) -> None:
    """Take a form from the button's menu with the mouse."""
    menu = dialog.export_button.forms
    menu.popup(dialog.mapToGlobal(dialog.export_button.pos()))
    qtbot.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(menu.actions()[row]).center())


def test_a_model_is_exported_from_the_window(
    dialog: ModelsDialog, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: asked.pop())  # a modal dialog
    button, folder = dialog.export_button, tmp_path / "breakhis-ucsb-wsinfer"
    assert button.forms.actions()[0].text() == "For WSInfer and QuPath…"
    asked.append("")
    choose(qtbot, dialog, 0)
    assert button.isEnabled(), "nothing was chosen"
    asked.append(str(tmp_path))
    choose(qtbot, dialog, 0)
    assert not button.isEnabled(), "one at a time"
    assert "Exporting" in dialog.exported.text()
    qtbot.waitUntil(button.isEnabled, timeout=2 * PATIENCE_MS)
    assert (dialog.exported.text().startswith(f"Exported: {folder}"), dialog.error.text()) == (True, "")
    assert json.loads((folder / "config.json").read_text())["class_names"] == ["benign", "malignant"]
    assert (folder / "torchscript_model.pt").stat().st_size > 1e8

    asked.append(str(tmp_path))
    choose(qtbot, dialog, 0)
    qtbot.waitUntil(button.isEnabled, timeout=PATIENCE_MS)
    assert (dialog.exported.text(), "not empty" in dialog.error.text()) == ("", True)


def test_an_untrained_model_cannot_leave(dialog: ModelsDialog) -> None:
    for row in range(dialog.models.count()):
        dialog.models.setCurrentRow(row)
        assert dialog.export_button.isEnabled() == (dialog.entry.name != "untrained")
    dialog.models.setCurrentRow([entry.name for entry in dialog._entries].index("untrained"))
    assert "random weights" in dialog.export_button.toolTip()
