"""The analysis of one slide on disk: a zarr store that can be stopped, resumed and read while it grows.

What only the trunk determines (`status`, `features`, `layer4`) lies in a group keyed by slide, grid, trunk and
precision; what the head determines (`probability`, `cam`, `scored`, `exact`) in a group below it, keyed by bundle.
Nothing of another slide, model or setting is ever mixed in. Knows no torch: napari reads it while the child writes.

    analysis.zarr/<setting>/status, features, layer4
    analysis.zarr/<setting>/<bundle>/probability, cam, scored, exact
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from napari_dala.errors import DalaError
from napari_dala.results.chunks import TILES_LAST, DamagedChunk, cells_of, chunk_path, chunk_side, read_chunk
from napari_dala.results.tile_results import LEFT_OUT, RescoredTiles, TileArrays, TileResults, TileStatus
from napari_dala.slide.tiles import BLOCK, CELL_PX, TileGrid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_dala.results.chunk_writer import ChunkWriter

_log = logging.getLogger(__name__)

TRUNK_VALUES = ("features", "layer4")
ARRAYS = ("status", *TRUNK_VALUES, "scored", "exact", "probability", "cam", "unfamiliarity")
"""Of a store: one value, or several, a tile."""
CHUNK = 4 * BLOCK
"""Side, in tiles, of a chunk of what is read of a whole slide at once; for each zarr takes 0.1 ms, be it empty.

Larger ones cost more to write, and are more than a small slide has for several workers (`docs/decisions.md`).
"""


@dataclass(frozen=True)
class Setting:
    """What the trunk's results depend on.

    Attributes
    ----------
    fingerprint
        Of the slide.
    grid
        Where its tiles lie.
    trunk_hash
        Of the trunk's weights and of what they expect as input.
    precision
        "fp32" or "bf16".
    profile_id
        Of the slide as it is read, see `Slide.profile_id`.
    """

    fingerprint: str
    grid: TileGrid
    trunk_hash: str
    precision: str
    profile_id: str = ""

    @property
    def key(self) -> str:
        """Name of the group."""
        return hashlib.sha256(json.dumps(self.attributes, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def attributes(self) -> dict[str, Any]:
        """What is written of it."""
        values = asdict(self)
        if not self.grid.to_the_edge:
            del values["grid"]["to_the_edge"]  # as it was written then
        if self.grid.cell_px == CELL_PX:
            del values["grid"]["cell_px"]  # as it was written when there was but one trunk
        if not self.profile_id:
            del values["profile_id"]  # as it was written before profiles were applied
        return values

    @classmethod
    def from_attributes(cls, values: dict[str, Any]) -> Setting:
        """Rebuild from `attributes`.

        Raises
        ------
        LookupError, TypeError
            When something is missing, or of another kind.
        """
        if not isinstance(values["grid"], dict):
            raise TypeError("the grid of a setting is an object")
        grid: dict[str, Any] = {"to_the_edge": False} | {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["grid"].items()
        }
        return cls(
            values["fingerprint"],
            TileGrid(**grid),
            values["trunk_hash"],
            values["precision"],
            values.get("profile_id", ""),
        )


def arrays_in(group: zarr.Group) -> dict[str, zarr.Array[Any]]:
    """Return the arrays of a group by name, looking at no other group in it, for that may be damaged."""
    return {name: cast("zarr.Array[Any]", group[name]) for name in ARRAYS if name in group}


class AnalysisStore:
    """One bundle's results for one slide under one setting; see `open_store` and `create_store`."""

    def __init__(self, path: Path, tiles: zarr.Group, head: zarr.Group) -> None:
        self.path = path
        about_tiles = cast("dict[str, Any]", tiles.attrs.asdict())
        about_head = cast("dict[str, Any]", head.attrs.asdict())
        self.setting = Setting.from_attributes(about_tiles["setting"])
        self.bundle_hash = str(about_head["bundle_hash"])
        self.card: dict[str, Any] = about_head["card"]
        self.slide: dict[str, Any] = about_tiles["slide"]
        self._tiles = tiles
        self._arrays: dict[str, zarr.Array[Any]] = arrays_in(tiles) | arrays_in(head)
        for name in ("status", *TRUNK_VALUES[:1], "scored", "probability", "cam"):
            if name not in self._arrays:
                raise DalaError(f"{path}: its {name} is missing; run the analysis again")
        for name, array in self._arrays.items():
            first, factor = (1, cells_of(name, self.grid.cells)) if name in TILES_LAST else (0, 1)
            expected = tuple(length * factor for length in self.grid.shape)
            if tuple(array.shape[first : first + 2]) != expected:
                raise DalaError(f"{path}: its {name} has not the shape of the slide; run the analysis again")
        self._damaged: dict[str, DamagedChunk] = {}  # by the line that names it

    @cached_property
    def _writer(self) -> ChunkWriter:
        from napari_dala.results.chunk_writer import ChunkWriter  # napari, which reads, need not load it

        return ChunkWriter(self._arrays, self.grid.cells)

    @property
    def damaged(self) -> list[str]:
        """What could not be read of it until now, a line each."""
        return sorted(self._damaged)

    @property
    def grid(self) -> TileGrid:
        """Where the tiles lie."""
        return self.setting.grid

    @property
    def status(self) -> NDArray[np.uint8]:
        """`TileStatus` of every tile for the trunk, (rows, columns)."""
        return self.read("status")

    @property
    def scored(self) -> NDArray[np.bool_]:
        """True where this bundle's probability is there, (rows, columns)."""
        return self.read("scored").astype(bool)

    @property
    def exact(self) -> NDArray[np.bool_]:
        """True where this bundle's CAM is there and was made from the full maps, (rows, columns)."""
        return self.read("exact").astype(bool)

    @property
    def chunk(self) -> int:
        """Side, in tiles, of the squares that processes must own whole to write here at the same time."""
        return max(self._arrays[name].chunks[-1] for name in ("status", "scored", "exact", "probability"))

    @property
    def knows_unfamiliar(self) -> bool:
        """True where the bundle's familiarity is kept."""
        return "unfamiliarity" in self._arrays

    def unfamiliar(self, block: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """Tell of every tile, or of those of a block, whether it is unlike what the model was trained on."""
        if self.knows_unfamiliar:
            return self.read("unfamiliarity", block) > 1
        return np.zeros_like(self.read("scored", block), bool)  # written before it was kept

    @property
    def components(self) -> int:
        """Size of the basis that layer4's maps are projected on; 0 where they are not stored."""
        return int(self._arrays["layer4"].shape[-1]) if self.has_layer4 else 0

    @property
    def has_layer4(self) -> bool:
        """True where projected maps of layer4 are stored, from which a CAM can be made again."""
        return "layer4" in self._arrays

    def make_latest(self) -> None:
        """Let these be the results that `open_store` opens."""
        zarr.open_group(self.path, mode="r+").attrs["latest"] = [self.setting.key, self.bundle_hash[:12]]

    def unset_latest(self) -> None:
        """Let these no longer be the results that `open_store` opens, where they are: then there are none."""
        root = zarr.open_group(self.path, mode="r+")
        if root.attrs.get("latest") == [self.setting.key, self.bundle_hash[:12]]:
            root.attrs["latest"] = None

    def read(self, name: str, block: tuple[int, int] | None = None) -> NDArray[Any]:
        """Read an array ("probability", "cam", "features", ...), whole or one block of 4 x 4 tiles."""
        if name == "exact" and name not in self._arrays:
            name = "scored"  # written before CAMs could be approximate
        array = self._arrays[name]
        region = ... if block is None else _block_region(name, block, self.grid.cells)
        if block is None and not array.nchunks_initialized:  # at once, where zarr would look for each chunk in turn
            return np.full(array.shape, array.fill_value, array.dtype)
        try:
            return np.asarray(array[region])
        except (ValueError, RuntimeError):  # whatever decoding a damaged chunk gives
            return self._read_sound(name, block)[region]

    def _read_sound(self, name: str, block: tuple[int, int] | None) -> NDArray[Any]:
        """Read an array chunk by chunk, with its fill value where one is damaged, which is noted.

        Raises
        ------
        DamagedChunk
            Of features and maps of layer4, which no mark guards.
        """
        array, cells = self._arrays[name], self.grid.cells
        whole = np.full(array.shape, array.fill_value, array.dtype)
        side, factor = chunk_side(array, name, cells), cells_of(name, cells)
        for place in self._places(name, None if block is None else (block[0] * BLOCK, block[1] * BLOCK)):
            try:
                chunk = read_chunk(array, name, place)
            except DamagedChunk as damaged:
                if name in TRUNK_VALUES:
                    raise
                self._damaged[str(damaged)] = damaged
                continue
            at = tuple(slice(index * side * factor, (index + 1) * side * factor) for index in place)
            whole[(slice(None), *at) if name in TILES_LAST else at] = chunk
        return whole

    def _places(self, name: str, tile: tuple[int, int] | None = None) -> list[tuple[int, int]]:
        """Return rows and columns of all chunks of an array, or of the one that holds a tile."""
        side = chunk_side(self._arrays[name], name, self.grid.cells)
        if tile is not None:
            return [(tile[0] // side, tile[1] // side)]
        return list(np.ndindex(*(-(-length // side) for length in self.grid.shape)))

    def mend(self) -> None:
        """Find damaged chunks, name them in the log, and forget what they held, so that it is computed again.

        For the one process that is about to write. Of features and maps of layer4, which are large, it is looked only
        whether the files are there; what else is wrong with them shows when they are read.
        """
        status, scored, exact = self.status, self.scored, self.exact  # notes their own damage
        done = status == TileStatus.DONE
        for name, held in (
            *((name, done) for name in TRUNK_VALUES),
            *((name, scored) for name in ("probability", "unfamiliarity")),
            ("cam", exact),
        ):
            if name not in self._arrays:
                continue
            array, side = self._arrays[name], chunk_side(self._arrays[name], name, self.grid.cells)
            for row, column in sorted({(int(at) // side, int(to) // side) for at, to in np.argwhere(held)}):
                path = Path(chunk_path(array, name, (row, column)))
                try:
                    if not path.is_file() or not path.stat().st_size:
                        raise DamagedChunk(str(path), name, (row, column))
                    if name not in TRUNK_VALUES:
                        read_chunk(array, name, (row, column))
                except DamagedChunk as found:
                    self._damaged[str(found)] = found
        for damaged in list(self._damaged.values()):
            self.forget(damaged)
        self._damaged.clear()

    def forget(self, damaged: DamagedChunk) -> None:
        """Let the tiles of a damaged chunk be computed again."""
        _log.warning("%s; its tiles are computed again", damaged)
        name, array = damaged.name, self._arrays[damaged.name]
        side = chunk_side(array, name, self.grid.cells)
        top, left = (index * side for index in damaged.place)
        rows, columns = (slice(first, first + side) for first in (top, left))
        Path(chunk_path(array, name, damaged.place)).unlink(missing_ok=True)
        marks = {
            "cam": ("exact",),
            "scored": ("exact",),
            "probability": ("exact", "scored"),
            "unfamiliarity": ("exact", "scored"),
        }
        for mark in marks.get(name, ("status",) if name in TRUNK_VALUES else ()):
            part = self.read(mark)[rows, columns]
            gone = part == TileStatus.DONE if mark == "status" else part.astype(bool)
            row, column = np.nonzero(gone)
            self._mark(mark, row + top, column + left, TileStatus.TODO)

    def read_tiles(self, block: tuple[int, int] | None = None) -> TileArrays:
        """Read what is known of all tiles, or of those of a block."""
        status, exact = self.read("status", block), self.read("exact", block).astype(bool)
        scored = self.read("scored", block).astype(bool) & ~np.isin(status, LEFT_OUT)
        probability = self.read("probability", block)
        probability[:, ~scored] = np.nan  # a tile counts once its mark is written
        return TileArrays(probability, status, scored & ~exact, scored & self.unfamiliar(block))

    def read_cams(self, block: tuple[int, int] | None = None) -> NDArray[np.float16]:
        """Read each tile's own raw Grad-CAM, (classes, rows * cells, columns * cells); NaN where there is none."""
        cams = self.read("cam", block)
        scored = self.read("scored", block).astype(bool) & ~np.isin(self.read("status", block), LEFT_OUT)
        cells = self.grid.cells
        tiles = cams.reshape(len(cams), scored.shape[0], cells, scored.shape[1], cells).swapaxes(2, 3)
        tiles[:, ~scored] = np.nan
        return cams

    def read_blocks(self, name: str, blocks: Iterable[tuple[int, int]] | None) -> NDArray[Any]:
        """Read an array of one mark a tile ("status", "scored", "exact"), 0 outside some blocks; None for all."""
        if blocks is None:
            return self.read(name)
        marks = np.zeros(self.grid.shape, np.uint8)
        for block in blocks:
            marks[_block_region(name, block, self.grid.cells)] = self.read(name, block)
        return marks

    def mark_background(
        self, tissue: NDArray[np.bool_], artefacts: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Say of every tile whether it holds tissue, and return its status.

        Tiles that were done stay so, unless they are among `artefacts`, (rows, columns): `TileStatus.INK` or `BLUR`,
        elsewhere 0. Of those nothing counts, whatever was found in them before.
        """
        status = self.status
        settled = (status == TileStatus.DONE) | (status == TileStatus.UNREADABLE)
        wanted = np.where(settled, status, np.where(tissue, TileStatus.TODO, TileStatus.BACKGROUND)).astype(np.uint8)
        if artefacts is not None:
            wanted = np.where(artefacts, artefacts, wanted).astype(np.uint8)
        row, column = np.nonzero(wanted != status)
        self._writer.put(row, column, {"status": wanted[row, column]})
        return wanted

    def write(self, results: TileResults | None, unreadable: list[tuple[int, int]]) -> None:
        """Add tiles that the network has seen: first what it found, then the marks that say so.

        Tiles of neighbouring blocks that are added together cost little more than those of one.
        """
        if results is not None:
            names = (*TRUNK_VALUES, "probability", "cam", "unfamiliarity")
            self._put(results, names, marks=("scored", "exact"))  # so that what is not scored is never exact
            self._mark("status", results.row, results.column, TileStatus.DONE)
        if unreadable:
            row, column = np.array(unreadable, np.intp).T
            self._mark("status", row, column, TileStatus.UNREADABLE)

    def write_rescored(self, results: RescoredTiles) -> None:
        """Add tiles that were scored from what is stored of them: first the values, then the mark."""
        self._put(results, ("probability", "cam", "unfamiliarity"), marks=("scored",))

    def _put(self, results: TileResults | RescoredTiles, names: tuple[str, ...], marks: tuple[str, ...]) -> None:
        """Put in the named values that there are, then the marks, in this order."""
        values = {name: value for name in names if (value := getattr(results, name)) is not None}
        self._store(results.row, results.column, values)
        for name in marks:
            self._mark(name, results.row, results.column, 1)

    def _mark(self, name: str, row: NDArray[np.intp], column: NDArray[np.intp], mark: int) -> None:
        self._store(row, column, {name: np.full(len(row), mark, np.uint8)})

    def _store(self, row: NDArray[np.intp], column: NDArray[np.intp], values: dict[str, NDArray[Any]]) -> None:
        """Put values beside what is stored; where that is damaged, it is forgotten."""
        while True:
            try:
                return self._writer.put(row, column, values)
            except DamagedChunk as damaged:
                self.forget(damaged)


def _block_region(name: str, block: tuple[int, int], cells: int) -> tuple[slice, ...]:
    """Slices of one block in one of the arrays."""
    side = BLOCK * (cells if name == "cam" else 1)
    region = (slice(block[0] * side, (block[0] + 1) * side), slice(block[1] * side, (block[1] + 1) * side))
    return (slice(None), *region) if name in TILES_LAST else region
