"""The plugin's page under Preferences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from napari.settings import get_plugin_settings
from npe2 import PluginManifest
from platformdirs import user_data_path
from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox

from napari_dala.plugin.analyze.run import asked_of
from napari_dala.plugin.preferences import PLUGIN, Preferences, load_preferences, set_start_page

if TYPE_CHECKING:
    from napari.viewer import Viewer


@pytest.fixture
def plugin_page(plugin_settings: None, npe2pm: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings as on a fresh machine, saved in the test's folder; no `$DALA_WORKSPACE`."""
    monkeypatch.delenv("DALA_WORKSPACE")
    npe2pm.register(PluginManifest.from_distribution(PLUGIN))
    return get_plugin_settings(PLUGIN)


def test_defaults(plugin_page: Any) -> None:
    expected = Preferences(
        "auto",
        "auto",
        0,
        user_data_path("napari-dala", appauthor=False),
        own_slides=True,
        local_copies=False,
        icc_profile=True,
        one_slide=False,
        start_page=True,
    )
    assert load_preferences() == expected


def test_what_the_user_sets_is_read_and_saved(plugin_page: Any, tmp_path: Path) -> None:
    plugin_page.analysis.device = "cpu"
    plugin_page.analysis.precision = "bf16"
    plugin_page.analysis.threads = 3
    plugin_page.files.workspace = "~/slides"
    plugin_page.files.own_slides = False
    plugin_page.files.icc_profile = False
    plugin_page.files.one_slide = True
    plugin_page.files.local_copies = True
    set_start_page(False)
    assert load_preferences() == Preferences(
        "cpu",
        "bf16",
        3,
        Path("~/slides").expanduser(),
        own_slides=False,
        local_copies=True,
        icc_profile=False,
        one_slide=True,
        start_page=False,
    )
    assert "device: cpu" in (tmp_path / "napari-dala.yaml").read_text()


def test_local_copies_are_asked_of_the_child_where_they_are_wanted(plugin_page: Any) -> None:
    for wanted in (False, True):
        plugin_page.files.local_copies = wanted
        asked = asked_of("f" * 32, Path("a.svs"), None, "default", icc_profile=True)
        assert asked.local_copy is wanted


@pytest.mark.parametrize(("field", "value"), [("device", "gpu"), ("precision", "fp16"), ("threads", -1)])
def test_values_out_of_range_are_refused(plugin_page: Any, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        setattr(plugin_page.analysis, field, value)


def test_the_environment_wins_over_the_saved_folder(
    plugin_page: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugin_page.files.workspace = "/somewhere/else"
    monkeypatch.setenv("DALA_WORKSPACE", str(tmp_path))
    assert load_preferences().workspace == tmp_path


def test_the_preferences_dialog_shows_our_page(viewer: Viewer) -> None:
    dialog = viewer.window._open_preferences_dialog()
    titles = [dialog._list.item(row).text() for row in range(dialog._list.count())]
    assert PLUGIN in titles
    page = dialog._stack.widget(titles.index(PLUGIN))
    counts = {kind: len(page.findChildren(kind)) for kind in (QComboBox, QCheckBox, QLineEdit, QSpinBox)}
    assert counts[QComboBox] >= 2
    assert counts[QCheckBox] >= 1
    dialog.close()
