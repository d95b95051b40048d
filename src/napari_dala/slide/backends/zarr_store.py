"""Where an OME-Zarr is stored: a folder, a zip file or an address, opened to be read and no more."""

from __future__ import annotations

import zipfile
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_dala.errors import SlideError
from napari_dala.slide.backends.remote import url_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import zarr

OME_ZARR_SUFFIXES = (".zarr", ".zarr.zip", ".ozx")
_METADATA = ("zarr.json", ".zgroup", ".zattrs")  # of a group: zarr 3, and 2
_MOST_ZIPPED = 1 << 22  # names in a zip file
_CONNECT, _GIVE_UP = timedelta(seconds=10), timedelta(seconds=30)  # of a server that does not answer
_SAFE_CODECS = frozenset(
    "bytes transpose sharding_indexed crc32c blosc zstd gzip zlib lz4 bz2 lzma shuffle delta packbits".split()
)


class OpenedGroup(NamedTuple):
    """A group, what tells whether it is still there, and what counts the parts that its store did not have.

    Where that count has not changed, nothing was passed over, and nobody need look whether the group is there: at a
    server that is a request. Of folders, where it costs nothing, it changes always.
    """

    group: zarr.Group
    is_there: Callable[[], bool]
    absent: Callable[[], int]


def ome_zarr_root(path: Path) -> Path | None:
    """Return the folder, zip file or address of an OME-Zarr that a path names, None where it names something else.

    A folder is named by any file that says what is in it too, since dialogs for files do not choose folders.
    """
    if path.name in _METADATA:
        path = path.parent
    named = path.name.lower().endswith(OME_ZARR_SUFFIXES)
    return path if named or url_of(path) or is_zarr_folder(path) else None


def is_zarr_folder(path: Path) -> bool:
    """Return whether a folder is a zarr group."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


def opened_group(path: Path) -> OpenedGroup:
    """Open the group at a path."""
    import zarr
    from zarr.storage import LocalStore, ZipStore

    is_there: Callable[[], bool]
    store: Any
    absent = count().__next__
    inside, url = "", url_of(path)
    if url is not None:
        store, is_there, absent = _server(url, path.name)
    elif path.is_dir():
        root = [path / name for name in _METADATA if (path / name).is_file()]
        store, is_there = LocalStore(path, read_only=True), lambda: root[0].is_file()
        if not root:
            raise SlideError(f"{path.name}: a folder without a slide; an OME-Zarr holds a zarr.json or .zattrs")
    else:
        inside = _root_in_zip(path)
        store, is_there = ZipStore(path, mode="r"), lambda: True  # it is open and stays so
    try:
        return OpenedGroup(zarr.open_group(store, path=inside, mode="r"), is_there, absent)
    except FileNotFoundError:
        raise SlideError(f"{path.name}: no OME-Zarr there; name the folder that holds zarr.json or .zattrs") from None


def is_of_server(error: Exception | None) -> bool:
    """Return whether an error is a server's, which did not give what it has.

    Absence is none, and some buckets call that forbidden.
    """
    kinds = type(error).__mro__
    is_absent = any(kind.__name__ in ("NotFoundError", "PermissionDeniedError") for kind in kinds)
    return not is_absent and any(kind.__module__.partition(".")[0] == "obstore" for kind in kinds)


def _server(url: str, name: str) -> tuple[Any, Callable[[], bool], Callable[[], int]]:
    """Return the store at an address, what tells whether it answers, and how often it did not have what was asked for.

    Of S3 the usual AWS variables hold.
    """
    try:
        from obstore.store import from_url
        from zarr.storage import ObjectStore
    except ImportError:
        raise SlideError(f"{name}: needs what reads from servers: pip install 'napari-dala[remote]'") from None
    server: Any = from_url(
        url,
        client_options={"allow_http": True, "connect_timeout": _CONNECT},
        retry_config={"max_retries": 2, "retry_timeout": _GIVE_UP},
    )

    def has(about: str) -> bool:
        try:
            server.head(about)
        except Exception:  # each kind of server raises its own
            return False
        return True

    known = next(filter(has, _METADATA), None)
    if known is None:
        raise SlideError(f"{name}: no OME-Zarr at this address, or its server does not answer")

    class Counting(ObjectStore[Any]):
        absent = 0  # counted in zarr's one thread

        async def get(self, *asked: Any, **more: Any) -> Any:
            found = await super().get(*asked, **more)
            self.absent += found is None
            return found

    store = Counting(server, read_only=True)
    return store, lambda: has(known), lambda: store.absent


def _root_in_zip(path: Path) -> str:
    """Return the folder in a zip file that holds the whole, "" for the zip file itself."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except zipfile.BadZipFile as error:
        raise SlideError(f"{path.name}: not a zip file that can be read, or cut short; copy it again") from error
    folders = [name.rpartition("/")[0] for name in names[:_MOST_ZIPPED] if name.rpartition("/")[2] in _METADATA]
    if not folders:
        raise SlideError(f"{path.name}: a zip file without an OME-Zarr in it")
    return min(folders, key=lambda folder: (folder.count("/") if folder else -1, folder))


def refuse_codecs(array: zarr.Array[Any], name: str) -> None:
    """Refuse pixels that are stored in another way than zarr's own: numcodecs knows a pickle, which may run code."""
    said = array.metadata.to_dict()
    listed = [said.get("compressor"), *(said.get("filters") or ()), *(said.get("codecs") or ())]  # type: ignore[misc]
    while listed:
        one = listed.pop()
        if one is None:
            continue
        about = one if isinstance(one, dict) else {"name": str(one)}
        codec = str(about.get("id", about.get("name"))).removeprefix("numcodecs.")
        if codec not in _SAFE_CODECS:
            raise SlideError(f"{name}: its pixels are stored as “{codec}”, which is not read; save it with zstd")
        inner = about.get("configuration") or {}
        listed += [*inner.get("codecs", ()), *inner.get("index_codecs", ())] if isinstance(inner, dict) else []
