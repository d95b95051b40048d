"""The model card as HTML, for reports and for the docks. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_dala.model.card import ModelCard


def card_table(card: ModelCard, bundle_hash: str | None = None) -> str:
    """Return a card as an HTML table, what the reader must know of it first.

    Parameters
    ----------
    card
        Of the model.
    bundle_hash
        Of its bundle, where it is known.
    """
    rows = {
        "Name": card.name,
        "Trained": "yes" if card.trained else "NO: random weights, its numbers mean nothing",
        "Summary": card.summary,
        "Intended use": card.intended_use,
        "Limits": card.limits,
        "Classes": card.class_names,
        "Operating threshold": f"{card.operating_threshold:.2f} for {card.class_names[card.target_class]}",
        "Softening of probabilities (temperature)": f"{card.temperature:.2f}",
        "Tile": f"{card.tile_px} px at {card.mpp:g} µm/px",
        "Data": card.data,
        "Metrics": card.metrics or "none stated",
        "Training": card.training,
        "Architecture": card.architecture,
        "Licence": card.licence,
        "Citation": card.citation,
    }
    return table(rows | ({} if bundle_hash is None else {"Hash": bundle_hash}))


def table(values: Mapping[str, Any]) -> str:
    """Return a mapping of JSON values as an HTML table of two columns."""
    rows = (
        f"<tr><th>{escape(str(key).replace('_', ' '))}</th><td>{_cell(value)}</td></tr>"
        for key, value in values.items()
    )
    return "<table><tbody>" + "".join(rows) + "</tbody></table>"


def _cell(value: Any) -> str:
    """Show any JSON value: a mapping as a table, a list as lines or with commas, nothing as a dash."""
    if isinstance(value, Mapping) and value:
        return table(value)
    if isinstance(value, (list, tuple)) and value:
        flat = all(isinstance(part, (int, float)) or len(str(part)) < 24 for part in value)
        return (", " if flat else "<br>").join(_cell(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return escape(str(value)) if value or value == 0 else "–"
