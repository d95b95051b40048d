"""What a file that is passed on says instead of a patient's name."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_dala.metrics.scores import ScoreTable


def patient_key(patient: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a patient's name.

    Enough to find the patient again among those of a data set, and no name in a file that is passed on.
    """
    return hashlib.sha256(patient.encode()).hexdigest()[:16]


def without_names(table: ScoreTable) -> dict[str, Any]:
    """Return a table of scores as JSON, its patients under their keys."""
    figures: dict[str, Any] = json.loads(json.dumps(table.as_json()))  # tuples become lists
    figures["patients"] = [{**row, "patient": patient_key(row["patient"])} for row in figures["patients"]]
    return figures
