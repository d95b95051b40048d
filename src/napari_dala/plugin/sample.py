"""Sample slides in napari's File menu: one drawn here, one fetched once from OpenSlide's public test data."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

from napari.utils import progress
from qtpy.QtCore import QCoreApplication, QEventLoop

from napari_dala.errors import DalaError
from napari_dala.files import replacing
from napari_dala.plugin.reader import slide_layer
from napari_dala.slide.open import open_slide
from napari_dala.slide.teaching.slide import cached_teaching_slide
from napari_dala.workspace import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.plugin.reader import LayerData

CMU_URL = "https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs"
CMU_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
_TIMEOUT_S = 15


def teaching_sample() -> list[LayerData]:
    """Return the drawn teaching slide, drawing it the first time."""
    _window_alive(cached_teaching_slide, "Drawing the teaching slide, this once")
    return [slide_layer(open_slide(cached_teaching_slide()))]


def cmu_sample() -> list[LayerData]:
    """Return OpenSlide's CMU-1-Small-Region, fetching it the first time.

    Raises
    ------
    DalaError
        When it cannot be fetched, or what comes is not that file.
    """
    path = _samples_folder() / "CMU-1-Small-Region.svs"
    if not path.exists():
        _window_alive(partial(_fetch, CMU_URL, CMU_SHA256, path), f"Fetching {path.name}, this once")
    return [slide_layer(open_slide(path))]


def _samples_folder() -> Path:
    return cache_folder() / "samples"


def _window_alive(work: Callable[[], object], description: str) -> None:
    """Do `work` in a thread; until it is done the window draws itself and shows what goes on, but takes no input.

    napari wants a sample's layers as the answer to its call.
    """
    with progress(total=0, desc=description), ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        while not working.done():
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
            time.sleep(0.02)
        working.result()


def _fetch(url: str, sha256: str, path: Path) -> None:
    """Store what lies at `url` as `path` if its SHA-256 is the expected one."""
    host = urlsplit(url).hostname
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as answer:
            content = answer.read()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DalaError(
            f"{path.name}: cannot be fetched from {host}, which needs the internet this once: {reason}"
        ) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DalaError(f"{path.name}: what {host} sent is another file than expected; nothing was kept")
    with replacing(path) as temporary:
        temporary.write_bytes(content)
