"""Where napari-dala keeps what it makes: `<folder>/<fingerprint>/{annotations.geojson, analyses/, jobs/}`."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from napari_dala.errors import DalaError


def workspace_folder(folder: str | Path | None = None) -> Path:
    """Return the workspace: `folder` where given, else `$DALA_WORKSPACE`, else the user's data folder."""
    return _of_user(folder or os.environ.get("DALA_WORKSPACE") or user_data_path("napari-dala", appauthor=False))


def slide_folder(fingerprint: str, folder: str | Path | None = None) -> Path:
    """Return the folder of one slide's annotations, analyses and jobs."""
    return workspace_folder(folder) / fingerprint


def models_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of imported and trained bundles."""
    return workspace_folder(folder) / "models"


def cache_folder() -> Path:
    """Return the folder of things that can be made again at any time."""
    chosen = os.environ.get("DALA_WORKSPACE")
    return _of_user(Path(chosen) / "cache" if chosen else user_cache_path("napari-dala", appauthor=False))


def _of_user(folder: str | Path) -> Path:
    found = os.path.expanduser(folder)
    if found.startswith("~"):
        raise DalaError("your home folder is not known: set DALA_WORKSPACE to a folder that you may write to")
    return Path(found)
