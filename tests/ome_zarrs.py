"""OME-Zarr files of tests, and a server on this machine for them."""

from __future__ import annotations

import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import zarr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RGB = tuple({"label": name, "color": color} for name, color in (("R", "FF0000"), ("G", "00FF00"), ("B", "0000FF")))


def write_ome_zarr(
    path: Path,
    pixels: np.ndarray,
    *,
    axes: str = "cyx",
    version: str = "0.5",
    levels: int = 3,
    um: float | None = 0.4,
    unit: str = "micrometer",
    channels: tuple[dict[str, Any], ...] = RGB,
    chunk: int = 64,
    name: str = "",
    **more: Any,
) -> Path:
    """Write a picture (h, w, 3) or (h, w) as OME-Zarr, each level half the size of the one before."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        part = pixels[:: 2**level, :: 2**level]
        part = part[..., None] if part.ndim == 2 else part
        part = np.expand_dims(part, (3, 4))  # y, x, c, t, z
        stored = part.transpose(["yxctz".index(axis) for axis in (*axes, *(set("tczyx") - set(axes)))])
        stored = stored.reshape(stored.shape[: len(axes)])
        chunks = tuple(chunk if axis in "yx" else side for axis, side in zip(axes, stored.shape, strict=True))
        group.create_array(str(level), data=np.ascontiguousarray(stored), chunks=chunks, **more)
        scale = [(um or 1) * 2**level if axis in "yx" else 1.0 for axis in axes]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            if um
            else {"path": str(level)}
        )
    kinds = {"t": "time", "c": "channel"}
    about: dict[str, Any] = {
        "multiscales": [
            {
                "name": name,
                "axes": [
                    {"name": axis, "type": kinds.get(axis, "space"), **({"unit": unit} if axis in "yx" and um else {})}
                    for axis in axes
                ],
                "datasets": datasets,
            }
        ],
        **({"omero": {"channels": list(channels)}} if channels else {}),
    }
    if version == "0.4":
        about["multiscales"][0]["version"] = "0.4"
        group.attrs.update(about)
    else:
        group.attrs["ome"] = {"version": "0.5", **about}
    return path


def zipped(folder: Path, path: Path, inside: str = "") -> Path:
    """Put a folder into a zip file, uncompressed, in a folder inside it or as the whole."""
    with zipfile.ZipFile(path, "w") as file:
        for one in sorted(folder.rglob("*")):
            if one.is_file():
                file.write(one, f"{inside}{one.relative_to(folder).as_posix()}")
    return path


class BucketHandler(SimpleHTTPRequestHandler):
    """A web server that says like a bucket what it does not have, and keeps what it was only asked about."""

    heads: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.heads.append(self.path)
        super().do_HEAD()

    def log_message(self, *_: Any) -> None:
        pass

    def send_error(self, code: int, *_: Any) -> None:
        body = b"<Error><Code>NoSuchKey</Code></Error>" if self.command == "GET" else b""
        self.send_response(code)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(BucketHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
