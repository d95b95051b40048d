"""What the dock says of results that are shown or lie on disk: whose they are, and whether they still hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.results.by_model import OTHER_COLOURS, last_results, ran_in_other_colours, results_by
from napari_dala.slide.resolution import is_at

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from napari_dala.model.catalog import ModelEntry
    from napari_dala.results.by_model import ModelResults
    from napari_dala.slide import Slide

    Mpp = tuple[float, float]


def offer_of(
    entry: ModelEntry, slide: Slide, path: Path, shown: Mpp | None, models: Collection[ModelEntry] = ()
) -> tuple[ModelResults | None, str]:
    """Return what lies on disk, the chosen model's or else another's, and what to say: mostly one short sentence.

    Some small files are read. Results of the slide in other colours than the window shows it in are named, not offered.

    Parameters
    ----------
    entry
        The chosen model.
    slide
        Of a known resolution.
    path
        Its `analysis.zarr`; need not exist.
    shown
        Um per level-0 px (x, y) at which the results that are shown were made; None where none are.
    models
        Those there are, for another one's name.
    """
    assert slide.mpp is not None
    how = path, slide.mpp, slide.profile_id
    own = results_by(entry, *how)
    found = own or last_results(*how, models)
    if shown is not None:
        return found, "" if is_at(shown, slide.mpp) else _outdated(shown, slide.mpp)
    if own is not None and not is_at(own.mpp, slide.mpp):
        return found, _outdated(own.mpp, slide.mpp)
    if own is not None:
        return found, f"“{entry.name}” has run on this slide before."
    if ran_in_other_colours(entry, path, slide.profile_id):
        return found, OTHER_COLOURS
    return found, f"“{entry.name}” has not run on this slide yet" + (f"; “{found.card.name}” has." if found else ".")


def _outdated(made_at: Mpp, mpp: Mpp) -> str:
    return (
        f"Outdated: this result was made at {made_at[0]:.4g} µm per pixel, but the slide has {mpp[0]:.4g}. "
        "Run the analysis again."
    )
