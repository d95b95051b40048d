"""Where napari-dala keeps what it makes: `<folder>/<fingerprint>/{annotations.geojson, analyses/, jobs/}`."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path


def workspace_folder(folder: str | Path | None = None) -> Path:
    """Return the workspace: `folder` where given, else `$DALA_WORKSPACE`, else the user's data folder."""
    chosen = folder or os.environ.get("DALA_WORKSPACE")
    return Path(chosen).expanduser() if chosen else user_data_path("napari-dala", appauthor=False)


def slide_folder(fingerprint: str, folder: str | Path | None = None) -> Path:
    """Return the folder of one slide's annotations, analyses and jobs."""
    return workspace_folder(folder) / fingerprint


def models_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of imported and trained bundles."""
    return workspace_folder(folder) / "models"


def cache_folder() -> Path:
    """Return the folder of things that can be made again at any time."""
    chosen = os.environ.get("DALA_WORKSPACE")
    return Path(chosen).expanduser() / "cache" if chosen else user_cache_path("napari-dala", appauthor=False)
