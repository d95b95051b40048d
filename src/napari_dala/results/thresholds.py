"""The operating thresholds that a user set, kept beside the results: one for each slide and model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_dala.errors import DalaError
from napari_dala.files import write_json
from napari_dala.validation import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.results.store import AnalysisStore

THRESHOLDS_FILE = "thresholds.json"


def stored_threshold(store: AnalysisStore) -> float | None:
    """Return the threshold, 0 to 1, that was set for these results; None where there is none that can be read."""
    value = _kept(_path(store)).get(store.bundle_hash)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    return None


def keep_threshold(store: AnalysisStore, threshold: float) -> None:
    """Keep a threshold for these results; one that cannot be written is lost, and only that.

    Raises
    ------
    DalaError
        When the folder cannot be written.
    """
    path = _path(store)
    try:
        write_json(path, {**_kept(path), store.bundle_hash: round(threshold, 4)})
    except OSError as error:
        raise DalaError(f"{path}: the threshold cannot be kept there ({error.strerror or error})") from error


def _path(store: AnalysisStore) -> Path:
    return store.path.parent / THRESHOLDS_FILE


def _kept(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path, DalaError))
    except (DalaError, TypeError, ValueError):
        return {}
