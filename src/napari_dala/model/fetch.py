"""Published weights, downloaded where the user asks for them: resumed, checked, never by itself. No torch."""

from __future__ import annotations

import errno
import os
import shutil
import ssl
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

from napari_dala.errors import FetchError
from napari_dala.files import open_to_append, sha256_of, try_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPResponse
    from typing import BinaryIO

_BLOCK = 1 << 18  # bytes that are read at a time
_PATIENCE_S = 30.0  # for the server's next word


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that its makers publish.

    Attributes
    ----------
    url
        Where they publish it.
    sha256
        Of its bytes, hex.
    size
        Bytes.
    about
        What it is, one sentence.
    """

    url: str
    sha256: str
    size: int
    about: str

    @property
    def file_name(self) -> str:
        """Its name where it is published, which torch looks for too."""
        return urlsplit(self.url).path.rpartition("/")[2]


PUBLISHED = {
    # The hash: its first 8 digits stand in the file's name, where torchvision checks them; all of it and the size are
    # those that several public projects recorded of the file they had downloaded.
    "imagenet-resnet50": PublishedWeights(
        "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        102_540_417,
        "torchvision's ResNet50_Weights.IMAGENET1K_V2: ResNet-50 trained on ImageNet's 1.3 million photographs of "
        "things, of no tissue.",
    ),
}
"""By the name that the user asks for."""


def place_of(weights: PublishedWeights) -> Path:
    """Return where the file belongs: torch's own folder of downloads, where other programs find it too."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(os.environ.get("TORCH_HOME") or Path(cache, "torch")).expanduser()
    return home / "hub" / "checkpoints" / weights.file_name


def by_hand(weights: PublishedWeights) -> str:
    """Return what to do on a machine without internet, one line."""
    return f"without internet: download {weights.url} elsewhere, put it at {place_of(weights)} and do the same again"


def fetch_weights(
    weights: PublishedWeights,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Return the file, downloaded if it is not there yet; None where it was stopped.

    It is written as `.part` beside its place, from where a broken or stopped download goes on, and gets its name once
    its hash is right. Proxies are those of the environment (`https_proxy`, `no_proxy`).

    Parameters
    ----------
    weights
        See `PUBLISHED`.
    on_progress
        Told how many bytes of how many are there.
    should_stop
        Asked before each block.

    Raises
    ------
    FetchError
        If it cannot be downloaded or stored, or is not the file that was published; one line that says what to do.
    """
    path = place_of(weights)
    try:
        if path.is_file() and sha256_of(path) == weights.sha256:
            return path
        if path.exists():
            raise FetchError(f"{path}: this is not the file that was published; remove it and do the same again")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with open_to_append(part) as file:
            if not _is_ours(file):
                raise FetchError(f"{part}: another program is downloading it just now; wait for that")
            if not _download(weights, file, on_progress, should_stop):
                return None
            os.fsync(file.fileno())
        if sha256_of(part) != weights.sha256:
            part.unlink()
            raise FetchError(
                f"{weights.url}: what came is not the file that was published (another SHA-256), and was removed; "
                f"try again, or {by_hand(weights)}"
            )
        os.replace(part, path)
    except OSError as error:
        raise FetchError(_reason(error, weights, path)) from error
    except HTTPException as error:
        raise FetchError(_broken(weights, f"{type(error).__name__}: {error}")) from error
    return path


def _download(
    weights: PublishedWeights,
    file: BinaryIO,
    on_progress: Callable[[int, int], object],
    should_stop: Callable[[], bool],
) -> bool:
    """Add to an open file what it lacks; False where it was stopped."""
    have = file.seek(0, os.SEEK_END)
    if have > weights.size:
        file.truncate(have := 0)
    on_progress(have, weights.size)
    if have == weights.size:
        return True
    headers = {"User-Agent": "napari-dala"} | ({"Range": f"bytes={have}-"} if have else {})
    asked = Request(weights.url, headers=headers)
    with build_opener().open(asked, timeout=_PATIENCE_S) as answer:  # of its own: with the proxies of now
        if have and answer.status != HTTPStatus.PARTIAL_CONTENT:  # a server that knows no ranges sends all of it
            file.truncate(have := 0)
        _check_offer(weights, answer, have)
        if (free := shutil.disk_usage(place_of(weights).parent).free) < weights.size - have:
            raise OSError(errno.ENOSPC, f"{free >> 20} MB are free, {(weights.size - have) >> 20} MB are needed")
        while block := answer.read(_BLOCK):
            if should_stop():
                return False
            _write(file, block)
            have += len(block)
            on_progress(have, weights.size)
    if have < weights.size:
        raise FetchError(_broken(weights, f"it ended after {have >> 20} of {weights.size >> 20} MB"))
    return True


def _check_offer(weights: PublishedWeights, answer: HTTPResponse, have: int) -> None:
    """Raise FetchError where a server sends something else than the file, such as a proxy's page to log in."""
    length = answer.headers.get("Content-Length")
    if length is not None and length.isdigit() and int(length) != weights.size - have:
        raise FetchError(
            f"{weights.url}: the answer has {int(length)} bytes and not {weights.size - have}: it is not the file, but "
            f"perhaps a page of your proxy; {by_hand(weights)}"
        )


def _write(file: BinaryIO, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[file.write(left) :]  # an unbuffered file may take a part of it


def _is_ours(file: BinaryIO) -> bool:
    with suppress(OSError):  # a file system without locks
        return try_lock(file.fileno())
    return True


def _broken(weights: PublishedWeights, what: str) -> str:
    return f"{weights.url}: the connection broke ({what}); do the same again, it goes on from there"


def _reason(error: OSError, weights: PublishedWeights, path: Path) -> str:
    """Return one line for what went wrong, and what to do."""
    if isinstance(error, HTTPError):
        error.close()
        return f"{weights.url}: the server answers {error.code} ({error.reason}); try later, or {by_hand(weights)}"
    if isinstance(error, URLError):
        inner = error.reason
        if isinstance(inner, ssl.SSLError):
            return (
                f"{weights.url}: its certificate is not trusted ({inner.reason}); where your proxy has one of its own, "
                f"name it with SSL_CERT_FILE; {by_hand(weights)}"
            )
        what = getattr(inner, "strerror", None) or inner
        return f"{weights.url}: it cannot be reached ({what}); {by_hand(weights)}"
    if isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
        return _broken(weights, error.strerror or str(error) or type(error).__name__)
    return f"{path}: it cannot be written ({error.strerror or error})"
