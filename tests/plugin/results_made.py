"""Results of a model that never ran, for tests that need no more than what it would have said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.opening import create_store
from napari_dala.results.store import Setting
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_dala.results.store import AnalysisStore


def has_run(
    name: str,
    bundle_hash: str,
    path: Path,
    malignant: float,
    *,
    tiles: Mapping[tuple[int, int], float] | None = None,
    mpp: float | None = None,
    icc_profile: bool = True,
) -> AnalysisStore:
    """Let a model have run on a slide and found `malignant` everywhere but in `tiles`, which have their own."""
    slide = open_slide(path, mpp=mpp, icc_profile=icc_profile)
    grid = TileGrid.over(slide, 224, 0.5)
    card = UNTRAINED_CARD.model_copy(update={"trained": True, "name": name})
    store = create_store(
        slide_folder(slide.fingerprint) / "analyses" / "analysis.zarr",
        Setting(slide.fingerprint, grid, "trunk", "fp32", slide.profile_id),
        slide={"mpp_source": "file"},
        bundle_hash=bundle_hash,
        card=card.model_dump(mode="json"),
    )
    probability = store._arrays["probability"]
    probability[1], probability[0] = malignant, 1 - malignant
    for (row, column), value in (tiles or {}).items():
        probability[1, row, column], probability[0, row, column] = value, 1 - value
    for array, value in (("cam", 0), ("scored", 1), ("exact", 1), ("status", TileStatus.DONE)):
        store._arrays[array][:] = value
    return store
