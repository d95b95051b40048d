"""What the dock says of results that are shown or lie on disk: whose they are, and whether they still hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.slide.resolution import is_at

if TYPE_CHECKING:
    from napari_dala.model.catalog import ModelEntry
    from napari_dala.results.by_model import ModelResults

    Mpp = tuple[float, float]


def offer_text(entry: ModelEntry, mpp: Mpp, shown: Mpp | None, found: ModelResults | None) -> str:
    """Return one or two short sentences, or nothing where all is plain to see.

    Parameters
    ----------
    entry
        The chosen model.
    mpp
        Of the slide, um per level-0 px (x, y).
    shown
        At which the results that are shown were made; None where none are.
    found
        What lies on disk: the chosen model's, else another's.
    """
    if shown is not None:
        return "" if is_at(shown, mpp) else _outdated(shown, mpp)
    if found is None:
        return f"“{entry.name}” has not run on this slide yet."
    if not entry.made(found.bundle_hash, found.card):
        return f"“{entry.name}” has not run on this slide yet; “{found.card.name}” has."
    if not is_at(found.mpp, mpp):
        return _outdated(found.mpp, mpp)
    return f"“{entry.name}” has run on this slide before."


def _outdated(made_at: Mpp, mpp: Mpp) -> str:
    return (
        f"Outdated: this result was made at {made_at[0]:.4g} µm per pixel, but the slide has {mpp[0]:.4g}. "
        "Run the analysis again."
    )
