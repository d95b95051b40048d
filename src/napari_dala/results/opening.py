"""Finding, making and opening stores; a damaged header is made anew, a link is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from napari_dala.errors import DalaError
from napari_dala.files import open_to_read
from napari_dala.model.trunks.names import CHANNELS
from napari_dala.results.chunks import CODECS
from napari_dala.results.store import ARRAYS, CHUNK, AnalysisStore, Setting, arrays_in
from napari_dala.slide.tiles import BLOCK, TileGrid
from napari_dala.validation import parse_json

SCHEMA = 1
_SEAL = "sealed"  # attribute of a group: what `_seal` gave of it; older stores have none
MOST_TILES = 2**26  # of a slide; more is no slide, and would take gigabytes to look at
STORE_FILE = "analysis.zarr"  # in the folder of an analysis

_log = logging.getLogger(__name__)


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
    setting
        Where there are but results of the same on the grid of before (`TileGrid.to_the_edge`), these are opened, unless
        it is to `restart`.
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
    before = replace(setting, grid=setting.grid.regular)
    if not restart and (path / before.key).is_dir() and not (path / setting.key).is_dir():
        setting = before
    _check_headers(path, setting.key, bundle_hash[:12])
    root = zarr.open_group(path, mode="a")
    if root.attrs.get("schema", SCHEMA) != SCHEMA:
        raise DalaError(f"{path}: written by another version of napari-dala; choose another folder")
    if restart and setting.key in root:
        del root[setting.key]
    rows, columns = setting.grid.shape
    cells, classes = setting.grid.cells, len(card["classes"])
    tiles = root.require_group(setting.key)
    _marks(tiles, "status", setting.grid, chunk)
    for name, shape in (("features", (card.get("channels", CHANNELS),)), ("layer4", (cells, cells, components))):
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
    abouts: tuple[tuple[zarr.Group, dict[str, Any]], ...] = (
        (tiles, {"setting": setting.attributes, "slide": slide}),
        (head, {"bundle_hash": bundle_hash, "card": card}),
    )
    for group, about in abouts:
        group.attrs.update({**about, _SEAL: _seal(path / group.path, {**group.attrs.asdict(), **about})})
    root.attrs.update({"schema": SCHEMA, "latest": [setting.key, bundle_hash[:12]]})
    return AnalysisStore(path, tiles, head)


def _check_headers(path: Path, setting: str, bundle: str) -> None:
    """Make room for headers (`zarr.json`) that are damaged, naming them; refuse links, which may lead anywhere."""
    groups = path, path / setting, path / setting / bundle
    arrays = [inside for group in groups[1:] if group.is_dir() for inside in group.iterdir() if inside.is_dir()]
    for folder in (*groups, *arrays):
        for part in (folder, folder / "zarr.json", folder / "c"):
            if part.is_symlink() and part != path:
                raise DalaError(f"{part}: a link, which is not followed; remove it or choose another folder")
        header = folder / "zarr.json"
        if header.is_file() and (_kind(header) not in ("group", "array") or _is_other(folder)):
            _log.warning("%s: damaged; it is made anew", header)
            header.unlink()


def _kind(path: Path) -> Any:
    try:
        return _header(path)["node_type"]
    except (DalaError, LookupError, TypeError):
        return None


def _is_other(array: Path) -> bool:
    """Tell whether an array's header is not the one that its group was sealed with."""
    try:
        return bool(
            _header(array.parent / "zarr.json")["attributes"][_SEAL][array.name] != _digests(array.parent)[array.name]
        )
    except (DalaError, LookupError, TypeError, OSError):
        return False


def _header(path: Path) -> Any:
    return parse_json(_content(path), str(path), DalaError, special=True)


def _content(path: Path) -> bytes:
    with open_to_read(path) as file:
        return file.read()


def _digests(group: Path) -> dict[str, str]:
    headers = {name: group / name / "zarr.json" for name in ARRAYS}
    return {name: hashlib.sha256(_content(path)).hexdigest() for name, path in headers.items() if path.is_file()}


def _seal(group: Path, attributes: dict[str, Any]) -> dict[str, str]:
    """Return digests of a group's attributes (under "") and of the headers of the arrays in it, by name."""
    about = {name: value for name, value in attributes.items() if name != _SEAL}
    return {"": hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest(), **_digests(group)}


def reseal(path: Path) -> None:
    """Seal a store's groups anew, those that were sealed, after something in them was changed with good reason."""
    for header in path.glob("**/zarr.json"):
        if _is_sealed(header):
            group = zarr.open_group(header.parent, mode="r+")
            group.attrs[_SEAL] = _seal(header.parent, group.attrs.asdict())


def _is_sealed(header: Path) -> bool:
    try:
        return _SEAL in _header(header)["attributes"]
    except (DalaError, LookupError, TypeError):
        return False


def _check_seal(group: Path, attributes: dict[str, Any], is_checked: bool) -> None:
    """Raise DalaError where what describes a group or its arrays is not what was written.

    A group without a seal is an older version's, unless its chunks have checksums (`is_checked`).
    """
    sealed = attributes.get(_SEAL, {})
    if not sealed and not is_checked:
        return
    found = _seal(group, attributes)
    for name in ("", *ARRAYS):
        if not isinstance(sealed, dict) or sealed.get(name) != found.get(name):
            raise DalaError(f"{group / name / 'zarr.json'}: damaged; run the analysis again, which keeps what is sound")


def for_bundle(store: AnalysisStore, bundle_hash: str, card: dict[str, Any]) -> AnalysisStore:
    """Open another bundle's results on the same tiles, created where they are not there.

    It needs the same trunk, and what it knows of unfamiliar tiles is the same.
    """
    return create_store(
        store.path,
        store.setting,
        slide=store.slide,
        bundle_hash=bundle_hash,
        card=card,
        components=store.components,
        knows_unfamiliar=store.knows_unfamiliar,
    )


def _marks(group: zarr.Group, name: str, grid: TileGrid, chunk: int) -> zarr.Array[Any]:
    """Open or create an array of one mark a tile."""
    return _array(group, name, grid.shape, (chunk, chunk), "uint8", 0)


def _array(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, empty: float
) -> zarr.Array[Any]:
    """Open or create an array that a `ChunkWriter` writes."""
    return group.require_array(name, shape=shape, chunks=chunks, dtype=dtype, fill_value=empty, compressors=CODECS)


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
            name = f"*/{bundle_hash[:12]}/zarr.json"
            settings = sorted(header.parts[-3] for header in Path(path).glob(name))
            latest = [latest[0] if latest and latest[0] in settings else settings[0], bundle_hash[:12]]
        tiles, head = root[latest[0]], root["/".join(latest)]
        rows, columns = Setting.from_attributes(cast("Any", tiles.attrs["setting"])).grid.shape
        if rows * columns > MOST_TILES:
            raise DalaError(f"{path}: says it holds {rows} x {columns} tiles; more than {MOST_TILES} are not read")
        for group in (cast("zarr.Group", tiles), cast("zarr.Group", head)):
            codecs = [codec for array in arrays_in(group).values() for codec in array.compressors]
            is_checked = any(isinstance(codec, Crc32cCodec) for codec in codecs)
            _check_seal(Path(path) / group.path, group.attrs.asdict(), is_checked)
        store = AnalysisStore(Path(path), cast("zarr.Group", tiles), cast("zarr.Group", head))
    except (OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DalaError(f"{path}: not an analysis by napari-dala{' with this model' if bundle_hash else ''}") from error
    return store


def store_in(path: Path) -> Path:
    """Return the `analysis.zarr` in a folder; the path itself where that is one."""
    return path / STORE_FILE if (path / STORE_FILE).is_dir() else path
