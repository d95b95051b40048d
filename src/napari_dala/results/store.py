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
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import zarr

from napari_dala.errors import DalaError
from napari_dala.results.chunks import COMPRESSOR, TILES_LAST, ChunkWriter
from napari_dala.results.tile_results import RescoredTiles, TileArrays, TileResults, TileStatus
from napari_dala.slide.tiles import BLOCK, TileGrid
from napari_dala.validation import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SCHEMA = 1
STORE_FILE = "analysis.zarr"  # in the folder of an analysis
FEATURES = 2048  # channels of ResNet-50's layer4
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
    """

    fingerprint: str
    grid: TileGrid
    trunk_hash: str
    precision: str

    @property
    def key(self) -> str:
        """Name of the group."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def from_attributes(cls, values: dict[str, Any]) -> Setting:
        """Rebuild from what `asdict` gave."""
        grid: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["grid"].items()
        }
        return cls(values["fingerprint"], TileGrid(**grid), values["trunk_hash"], values["precision"])


class AnalysisStore:
    """One bundle's results for one slide under one setting; see `open_store` and `create_store`."""

    def __init__(self, path: Path, tiles: zarr.Group, head: zarr.Group) -> None:
        self.path = path
        about_tiles, about_head = (
            cast("dict[str, Any]", tiles.attrs.asdict()),
            cast("dict[str, Any]", head.attrs.asdict()),
        )
        self.setting = Setting.from_attributes(about_tiles["setting"])
        self.bundle_hash = str(about_head["bundle_hash"])
        self.card: dict[str, Any] = about_head["card"]
        self.slide: dict[str, Any] = about_tiles["slide"]
        self._tiles = tiles
        self._arrays: dict[str, zarr.Array[Any]] = {**dict(tiles.arrays()), **dict(head.arrays())}
        self._chunks = ChunkWriter(self._arrays, self.grid.cells)

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
    def has_layer4(self) -> bool:
        """True where projected maps of layer4 are stored, from which a CAM can be made again."""
        return "layer4" in self._arrays

    def for_bundle(self, bundle_hash: str, card: dict[str, Any]) -> AnalysisStore:
        """Open another bundle's results on the same tiles, created where they are not there.

        It needs the same trunk, and what it knows of unfamiliar tiles is the same.
        """
        components = self._arrays["layer4"].shape[-1] if self.has_layer4 else 0
        return create_store(
            self.path,
            self.setting,
            slide=self.slide,
            bundle_hash=bundle_hash,
            card=card,
            components=components,
            knows_unfamiliar=self.knows_unfamiliar,
        )

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
        if block is not None:
            return np.asarray(array[_block_region(name, block, self.grid.cells)])
        if not array.nchunks_initialized:  # at once, where zarr would look for each chunk in turn
            return np.full(array.shape, array.fill_value, array.dtype)
        return np.asarray(array[:])

    def read_tiles(self, block: tuple[int, int] | None = None) -> TileArrays:
        """Read what is known of all tiles, or of those of a block."""
        status = self.read("status", block)
        scored, exact = (self.read(name, block).astype(bool) for name in ("scored", "exact"))
        probability = self.read("probability", block)
        probability[:, ~scored] = np.nan  # a tile counts once its mark is written
        return TileArrays(probability, status, scored & ~exact, scored & self.unfamiliar(block))

    def read_cams(self, block: tuple[int, int] | None = None) -> NDArray[np.float16]:
        """Read each tile's own raw Grad-CAM, (classes, rows * cells, columns * cells); NaN where there is none."""
        cams = self.read("cam", block)
        scored, cells = self.read("scored", block).astype(bool), self.grid.cells
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

    def mark_background(self, tissue: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Say of every tile whether it holds tissue, and return its status; tiles that were done stay so."""
        status = self.status
        settled = (status == TileStatus.DONE) | (status == TileStatus.UNREADABLE)
        wanted = np.where(settled, status, np.where(tissue, TileStatus.TODO, TileStatus.BACKGROUND)).astype(np.uint8)
        row, column = np.nonzero(wanted != status)
        self._chunks.put(row, column, {"status": wanted[row, column]})
        return wanted

    def write(self, results: TileResults | None, unreadable: list[tuple[int, int]]) -> None:
        """Add tiles that the network has seen: first what it found, then the marks that say so.

        Tiles of neighbouring blocks that are added together cost little more than those of one.
        """
        if results is not None:
            names = ("features", "layer4", "probability", "cam", "unfamiliarity")
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
        values = {name: getattr(results, name) for name in names}
        self._chunks.put(
            results.row, results.column, {name: value for name, value in values.items() if value is not None}
        )
        for name in marks:
            self._mark(name, results.row, results.column, 1)

    def _mark(self, name: str, row: NDArray[np.intp], column: NDArray[np.intp], mark: int) -> None:
        self._chunks.put(row, column, {name: np.full(len(row), mark, np.uint8)})


def create_store(
    path: Path,
    setting: Setting,
    *,
    slide: dict[str, Any],
    bundle_hash: str,
    card: dict[str, Any],
    components: int = 0,
    knows_unfamiliar: bool = False,
    chunk: int = CHUNK,
    restart: bool = False,
) -> AnalysisStore:
    """Open the results of this setting and bundle, creating what is not there.

    Parameters
    ----------
    path
        The `.zarr` folder; may hold other settings and bundles.
    slide
        The slide's printable properties.
    bundle_hash, card
        Of the model; the card as JSON.
    components
        Size of the bundle's layer4 basis; 0 where it has none.
    knows_unfamiliar
        Whether the bundle has familiarity statistics.
    chunk
        Of arrays that are not there yet, see `AnalysisStore.chunk`; a multiple of `BLOCK`. Smaller ones let more
        processes share a slide.
    restart
        Drop what was computed under this setting before.
    """
    root = zarr.open_group(path, mode="a")
    if root.attrs.get("schema", SCHEMA) != SCHEMA:
        raise DalaError(f"{path}: written by another version of napari-dala; choose another folder")
    if restart and setting.key in root:
        del root[setting.key]
    rows, columns = setting.grid.shape
    cells, classes = setting.grid.cells, len(card["classes"])
    tiles = root.require_group(setting.key)
    _marks(tiles, "status", setting.grid, chunk)
    for name, shape in (("features", (FEATURES,)), ("layer4", (cells, cells, components))):
        if name != "layer4" or components:
            _array(tiles, name, (rows, columns, *shape), (BLOCK, BLOCK, *shape), "float16", 0)
    head = tiles.require_group(bundle_hash[:12])
    scored = _marks(head, "scored", setting.grid, chunk)
    if "exact" not in head:
        earlier = np.asarray(scored[:])  # written before CAMs could be approximate
        exact = _marks(head, "exact", setting.grid, chunk)
        if earlier.any():
            exact[:] = earlier
    for name, factor, kind in (("probability", 1, "float32"), ("cam", cells, "float16")):
        shape, chunks = (classes, rows * factor, columns * factor), (classes, chunk * factor, chunk * factor)
        _array(head, name, shape, chunks, kind, math.nan)
    if knows_unfamiliar:
        _array(head, "unfamiliarity", (rows, columns), (chunk, chunk), "float16", math.nan)
    tiles.attrs.update({"setting": asdict(setting), "slide": slide})
    head.attrs.update({"bundle_hash": bundle_hash, "card": card})
    root.attrs.update({"schema": SCHEMA, "latest": [setting.key, bundle_hash[:12]]})
    return AnalysisStore(path, tiles, head)


def _marks(group: zarr.Group, name: str, grid: TileGrid, chunk: int) -> zarr.Array[Any]:
    """Open or create an array of one mark a tile."""
    return _array(group, name, grid.shape, (chunk, chunk), "uint8", 0)


def _array(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, empty: float
) -> zarr.Array[Any]:
    """Open or create an array that a `ChunkWriter` writes."""
    return group.require_array(name, shape=shape, chunks=chunks, dtype=dtype, fill_value=empty, compressors=COMPRESSOR)


def open_store(
    path: Path, bundle_hash: str | None = None, setting: str | None = None, *, mode: Literal["r", "r+"] = "r"
) -> AnalysisStore:
    """Open the results that were written last, or a bundle's, or a bundle's under one setting.

    Parameters
    ----------
    path
        The `.zarr` folder.
    bundle_hash
        The bundle's.
    setting
        `Setting.key`; needs `bundle_hash`.
    mode
        "r+" to write tiles.

    Raises
    ------
    DalaError
        When there is no analysis at `path`, or none by this bundle.
    """
    try:
        root = zarr.open_group(path, mode=mode)
        latest: Any = root.attrs["latest"]
        if setting is not None and bundle_hash is not None:
            latest = [setting, bundle_hash[:12]]
        elif bundle_hash is not None:
            settings = [name for name, group in root.groups() if bundle_hash[:12] in group]
            latest = [latest[0] if latest and latest[0] in settings else settings[0], bundle_hash[:12]]
        tiles, head = root[latest[0]], root["/".join(latest)]
        return AnalysisStore(Path(path), cast("zarr.Group", tiles), cast("zarr.Group", head))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise DalaError(f"{path}: not an analysis by napari-dala{' with this model' if bundle_hash else ''}") from error


def store_in(path: Path) -> Path:
    """Return the `analysis.zarr` in a folder; the path itself where that is one."""
    return path / STORE_FILE if (path / STORE_FILE).is_dir() else path


def has_results(path: Path) -> bool:
    """Tell whether `open_store` would find results at a path, from one small file."""
    try:
        return read_json(Path(path) / "zarr.json", DalaError)["attributes"]["latest"] is not None
    except (DalaError, LookupError, TypeError):
        return False


def _block_region(name: str, block: tuple[int, int], cells: int) -> tuple[slice, ...]:
    """Slices of one block in one of the arrays."""
    side = BLOCK * (cells if name == "cam" else 1)
    region = (slice(block[0] * side, (block[0] + 1) * side), slice(block[1] * side, (block[1] + 1) * side))
    return (slice(None), *region) if name in TILES_LAST else region
