"""The operating threshold and band of doubt that a user set, kept beside the results: for each slide and model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_dala.errors import DalaError
from napari_dala.files import write_json
from napari_dala.validation import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.results.store import AnalysisStore

THRESHOLDS_FILE = "thresholds.json"


class KeptThreshold(BaseModel):
    """Where a user draws the line between the classes.

    Attributes
    ----------
    threshold, doubt
        As in `Analysis`.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    threshold: float = Field(ge=0, le=1)
    doubt: float = Field(default=0.0, ge=0, le=0.5)


def stored_threshold(store: AnalysisStore) -> float | None:
    """Return the threshold, 0 to 1, that was set for these results; None where there is none that can be read."""
    point = stored_point(store)
    return None if point is None else point.threshold


def stored_point(store: AnalysisStore) -> KeptThreshold | None:
    """Return threshold and band that were set for these results; None where there are none that can be read."""
    kept = _kept(_path(store)).get(store.bundle_hash)
    try:
        return KeptThreshold.model_validate(kept if isinstance(kept, dict) else {"threshold": kept})
    except ValidationError:
        return None


def keep_threshold(store: AnalysisStore, threshold: float, doubt: float = 0.0) -> None:
    """Keep what was set for these results; what cannot be written is lost, and only that.

    Raises
    ------
    DalaError
        When the folder cannot be written.
    """
    path = _path(store)
    kept = {"threshold": round(threshold, 4), "doubt": round(doubt, 4)}
    try:
        write_json(path, {**_kept(path), store.bundle_hash: kept})
    except OSError as error:
        raise DalaError(f"{path}: the threshold cannot be kept there ({error.strerror or error})") from error


def _path(store: AnalysisStore) -> Path:
    return store.path.parent / THRESHOLDS_FILE


def _kept(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path, DalaError))
    except (DalaError, TypeError, ValueError):
        return {}
