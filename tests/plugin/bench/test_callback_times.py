"""Callbacks are timed wherever in the plugin they are defined. Opens no window."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING, Any

import napari_dala.plugin
from napari_dala.plugin.bench.callback_times import CallbackTimes

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = {"analyze", "annotate", "bench", "learn", "parts", "viewer"}


def test_callbacks_of_every_folder_of_the_plugin_are_timed() -> None:
    before = dict(_functions())
    with CallbackTimes() as times:
        timed = {name for name, function in _functions() if function is not before[name]}
    assert {name.split(".")[0] for name in timed} & FOLDERS == FOLDERS - {"bench"}
    assert "explain.ExplainWidget" in {name.rpartition(".")[0] for name in timed}  # and of those in no folder
    assert dict(_functions()) == before
    assert not times.calls


def _functions() -> Iterator[tuple[str, Any]]:
    """Yield what the plugin's modules and classes hold, as "folder.module.Class.method"."""
    for found in pkgutil.walk_packages(napari_dala.plugin.__path__, "napari_dala.plugin."):
        module = importlib.import_module(found.name)
        classes = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == found.name]
        for owner in (module, *classes):
            for name, value in vars(owner).items():
                if inspect.isfunction(value) and value.__module__ == found.name:
                    path = found.name.removeprefix("napari_dala.plugin.")
                    yield ".".join((path, *([owner.__name__] if owner is not module else []), name)), value
