"""Slides on a server: an address where else a path stands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_dala.errors import SlideError

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMES = ("http:", "https:", "s3:")


def url_of(path: Path) -> str | None:
    """Return the address that a path is made of, None for a path on this machine.

    A path keeps one of the two slashes after "https:", and may have been made absolute.

    >>> from pathlib import Path
    >>> url_of(Path("https://example.org/slide.zarr")), url_of(Path("/data/slide.zarr"))
    ('https://example.org/slide.zarr', None)

    Raises
    ------
    SlideError
        When it holds a query or a name and a password, which would be shown and stored along with it.
    """
    parts = path.parts
    at = next((number for number, part in enumerate(parts) if part.lower() in _SCHEMES), None)
    if at is None:
        return None
    url = f"{parts[at].lower()}//{'/'.join(parts[at + 1 :])}"
    if "?" in url or "@" in "".join(parts[at + 1 : at + 2]):
        raise SlideError(f"{path.name.split('?')[0]}: give the address without a query (?...) and without a password")
    return url


def absolute(path: Path) -> Path:
    """Return a path made absolute, an address as it is."""
    return path if url_of(path) else path.absolute()


def exists(path: Path) -> bool:
    """Return whether there is something at a path, whatever its name; an address is taken at its word."""
    return bool(url_of(path)) or os.path.exists(path)
