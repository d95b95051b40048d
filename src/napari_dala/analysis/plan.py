"""What an analysis has to do: its store, the tissue, and the tiles that the network must run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_dala.analysis.rescore import rescore
from napari_dala.annotations.adoption import adopt_old_folder
from napari_dala.annotations.artefacts import drawn_artefacts
from napari_dala.annotations.files import annotations_path
from napari_dala.annotations.regions import tiles_in
from napari_dala.results.opening import create_store
from napari_dala.results.store import AnalysisStore, Setting
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide.artefacts import artefacts_of
from napari_dala.slide.mask import SlideMask
from napari_dala.slide.tiles import TileGrid
from napari_dala.slide.tissue import MIN_TISSUE, tissue_mask
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.analysis.control import RunControl
    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle_file import Bundle
    from napari_dala.results.progress import Progress
    from napari_dala.results.request import AnalysisRequest
    from napari_dala.slide import Slide


_MASK_PX_PER_TILE, _MOST_MASK_PX = 16, 1024


@dataclass(frozen=True)
class Work:
    """Tiles to run a model on; every array is (rows, columns), one value a tile.

    Attributes
    ----------
    store
        Where the results go.
    tissue, wanted
        bool, tiles that hold tissue, and those of them that are asked for.
    status, scored, exact
        What the store said of them before; see `AnalysisStore`.
    """

    store: AnalysisStore
    tissue: NDArray[np.bool_]
    wanted: NDArray[np.bool_]
    status: NDArray[np.uint8]
    scored: NDArray[np.bool_]
    exact: NDArray[np.bool_]

    @classmethod
    def on(
        cls,
        store: AnalysisStore,
        tissue: NDArray[np.bool_],
        wanted: NDArray[np.bool_],
        blocks: Iterable[tuple[int, int]] | None = None,
    ) -> Work:
        """Ask the store what it has of all tiles, or, without reading the others, of those in some blocks."""
        status, scored, exact = (store.read_blocks(name, blocks) for name in ("status", "scored", "exact"))
        return cls(store, tissue, wanted, status, scored.astype(bool), exact.astype(bool))

    @property
    def todo(self) -> NDArray[np.bool_]:
        """True where the network must run."""
        # A process killed between two marks leaves a tile exact and not done: `status` is written last, and decides.
        finished = (self.status == TileStatus.UNREADABLE) | ((self.status == TileStatus.DONE) & self.exact)
        todo: NDArray[np.bool_] = self.wanted & ~finished
        return todo


def prepare(
    slide: Slide,
    predictor: Predictor,
    request: AnalysisRequest,
    on_progress: Callable[[Progress], None] | None = None,
    control: RunControl | None = None,
) -> Work:
    """Make the store, score what is stored of tiles that the trunk has seen, find the tissue; see `analyze`."""
    store = results_of(slide, predictor.bundle, predictor.precision, request)
    rescore(store, predictor.bundle, control, on_progress)
    grid = store.grid
    tissue = tissue_tiles(slide, grid)
    drawn = request.annotations or annotations_path(slide.fingerprint)
    artefacts = None if request.keep_artefacts else artefact_tiles(slide, grid, drawn)
    if artefacts is not None:
        tissue &= artefacts == 0
    wanted = tissue if request.region is None else tissue & tiles_in(request.region, grid)
    return Work(store, tissue, wanted, store.mark_background(tissue, artefacts), store.scored, store.exact)


def results_of(slide: Slide, bundle: Bundle, precision: str, request: AnalysisRequest) -> AnalysisStore:
    """Open a bundle's results on a slide to write, creating what is not there or damaged; reads no pixel.

    Parameters
    ----------
    precision
        "fp32" or "bf16", that of the trunk.
    """
    card = bundle.card
    if request.out is None:
        adopt_old_folder(slide)
    grid = TileGrid.over(slide, card.tile_px, card.mpp, request.overlap, cell_px=card.cell_px)
    store = create_store(
        (request.out or slide_folder(slide.fingerprint) / "analyses") / "analysis.zarr",
        Setting(slide.fingerprint, grid, bundle.trunk_hash, precision, slide.profile_id),
        slide={name: value for name, value in slide.properties.items() if name != "name"},  # may be a patient's
        bundle_hash=bundle.hash,
        card=card.model_dump(mode="json"),
        components=0 if bundle.basis is None else bundle.basis.shape[1],
        knows_unfamiliar=bundle.familiarity is not None,
        restart=request.restart,
    )
    store.mend()  # this process will write; the window, which only keeps a threshold, must not wait for it
    return store


def tissue_tiles(slide: Slide, grid: TileGrid) -> NDArray[np.bool_]:
    """Return which tiles hold enough tissue, (rows, columns); of a photograph every tile does."""
    *_, width, height = grid.places()
    inside = np.outer(height, width) >= 0.5 * np.prod(grid.tile_size)
    inside |= grid.to_the_edge or grid.shape == (1, 1)  # a picture smaller than half a tile is still worth one
    if slide.is_photograph:
        return inside
    side = _mask_side(grid)
    mask = tissue_mask(slide, side)
    undecoded = slide.undecoded(side)
    if undecoded.any():  # tissue, for all that is known: reading its tiles says that it is unreadable
        mask = SlideMask(mask.mask | undecoded, mask.scale)
    return inside & (_part(mask, grid) >= MIN_TISSUE)


def artefact_tiles(slide: Slide, grid: TileGrid, drawn: Path | None = None) -> NDArray[np.uint8]:
    """Return which tiles are mostly ink or out of focus: `TileStatus.INK`, `BLUR` or 0, (rows, columns).

    What somebody has outlined in the annotations `drawn` counts, else what is found. Of a photograph, which somebody
    framed by hand, nothing is looked for.
    """
    found = np.zeros(grid.shape, np.uint8)
    covered = None if drawn is None else drawn_artefacts(drawn, grid)
    if covered is not None:
        ink, blur = covered
    elif slide.is_photograph:
        return found
    else:
        ink, blur = (_part(mask, grid) for mask in artefacts_of(slide, _mask_side(grid)))
    mostly = ink + blur > 0.5
    found[mostly] = np.where(ink >= blur, TileStatus.INK, TileStatus.BLUR)[mostly]
    return found


def _mask_side(grid: TileGrid) -> int:
    return min(_MOST_MASK_PX, max(512, _MASK_PX_PER_TILE * max(grid.shape)))


def _part(mask: SlideMask, grid: TileGrid) -> NDArray[np.float64]:
    """Return the part of each tile's place on the slide that a mask covers, (rows, columns)."""
    left, top, width, height = grid.places()
    return mask.fraction(left[None, :], top[:, None], width[None, :], height[:, None])
