"""Slides that OpenSlide reads: SVS, NDPI, MRXS, SCN, BIF, VMS, DICOM and tiled TIFF."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import openslide

from napari_dala.errors import SlideError
from napari_dala.slide.base import Level, Slide, SlideFacts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class OpenSlideSlide(Slide):
    """A slide read by OpenSlide, with one handle per thread.

    A handle keeps the first error it meets for good, so that every later read fails as well: on an error
    the handle is replaced and the read tried once more.
    """

    def __init__(self, path: Path, mpp: float | tuple[float, float] | None = None) -> None:
        self._file = str(next(iter(sorted(path.glob("*.dcm"))), path) if path.is_dir() else path)
        self._local = threading.local()
        self._handles: list[openslide.OpenSlide] = []
        self._lock = threading.Lock()
        handle = self._open()
        super().__init__(path, _facts(handle), mpp)
        last = self.levels[0]
        handle.read_region((last.width - 1, last.height - 1), 0, (1, 1))  # a truncated file fails here

    def _open(self) -> openslide.OpenSlide:
        handle = openslide.OpenSlide(self._file)
        self._local.handle = handle
        with self._lock:
            self._handles.append(handle)
        return handle

    def _reopen(self) -> openslide.OpenSlide:
        with self._lock:
            self._handles.remove(self._local.handle)
        self._local.handle.close()
        return self._open()

    def corner(self, x: int, y: int, level: int) -> tuple[float, float]:
        """See `Slide.corner`; OpenSlide interpolates."""
        downsample = self.levels[level].downsample
        return x / downsample, y / downsample

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """See `Slide.read`."""
        handle = getattr(self._local, "handle", None) or self._open()
        try:
            try:
                region = handle.read_region((x, y), level, (width, height))
            except openslide.OpenSlideError:
                region = self._reopen().read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            self._reopen()
            raise SlideError(
                f"{self.name}: pixels at ({x}, {y}) of level {level} cannot be decoded ({error})"
            ) from error
        rgba = np.asarray(region)
        alpha = rgba[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(rgba[..., :3])
        over = np.asarray(self.facts.background, np.uint16) * (255 - alpha.astype(np.uint16))
        blended: NDArray[np.uint8] = ((rgba[..., :3] * alpha.astype(np.uint16) + over + 127) // 255).astype(np.uint8)
        return blended

    def close(self) -> None:
        """See `Slide.close`."""
        with self._lock:
            while self._handles:
                self._handles.pop().close()
        self._local = threading.local()


def _facts(handle: openslide.OpenSlide) -> SlideFacts:
    """Read sizes and resolution from OpenSlide's own properties; the vendors' carry patient data."""
    properties = handle.properties

    def number(key: str) -> float | None:
        try:
            return float(properties[key])
        except (KeyError, ValueError):
            return None

    levels = tuple(
        Level(
            *size,
            downsample,
            (
                int(number(f"openslide.level[{i}].tile-width") or 256),
                int(number(f"openslide.level[{i}].tile-height") or 256),
            ),
        )
        for i, (size, downsample) in enumerate(zip(handle.level_dimensions, handle.level_downsamples, strict=True))
    )
    mpp_x, mpp_y = number(openslide.PROPERTY_NAME_MPP_X), number(openslide.PROPERTY_NAME_MPP_Y)
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
    colour = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
    return SlideFacts(
        levels,
        (mpp_x, mpp_y) if mpp_x and mpp_y else None,
        number(openslide.PROPERTY_NAME_OBJECTIVE_POWER),
        vendor,
        (int(colour[0:2], 16), int(colour[2:4], 16), int(colour[4:6], 16)),
        properties[openslide.PROPERTY_NAME_QUICKHASH1].encode() if vendor == "dicom" else None,
    )
