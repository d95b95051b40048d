"""TIFF files that OpenSlide declines: OME-TIFF and plain TIFF, 8-bit RGB or grey."""

from __future__ import annotations

import logging
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_dala.errors import SlideError
from napari_dala.slide.base import Level, Slide, SlideFacts, read_inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_UM = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 10000.0}  # inch, centimetre
_PIXELS_OF = "napari-dala pixels of "
_IDENTITY_DIGITS = 64
_AXES = ("YXS", "SYX", "YX")


def write_pixels(slide: Slide, path: Path) -> None:
    """Write a slide without a file losslessly to a TIFF file that opens as the same slide: its fingerprint is kept.

    Parameters
    ----------
    slide
        All its level-0 pixels are held in memory at once.
    path
        Of the new file.
    """
    identity = slide.facts.identity
    assert identity is not None, "a slide with a file is itself"
    pixels = slide.read(0, 0, *slide.dimensions)
    tifffile.imwrite(path, pixels, photometric="rgb", description=_PIXELS_OF + identity.hex())


class TiffSlide(Slide):
    """A slide read by tifffile, through a zarr view of each resolution."""

    def __init__(self, path: Path, mpp: float | tuple[float, float] | None = None) -> None:
        with complaints() as heard:
            self._tiff = tifffile.TiffFile(path)
            weakref.finalize(self, self._tiff.close)
            try:
                facts = self._open()
                if heard:
                    raise SlideError(f"{path.name}: damaged or cut short: {heard[0]}")
                super().__init__(path, facts, mpp)
                self.read(self.dimensions[0] - 1, self.dimensions[1] - 1, 1, 1)  # an unknown compression fails here
            except BaseException:
                self._tiff.close()
                raise

    def _open(self) -> SlideFacts:
        import zarr  # a tenth of a second, which slides that OpenSlide knows need not wait

        series = self._tiff.series[0]
        if series.axes not in _AXES or series.dtype != np.uint8:
            raise SlideError(
                f"{self._tiff.filename}: axes {series.axes} of {series.dtype}; a slide is 8-bit RGB or grey"
            )
        rows, columns = series.axes.index("Y"), series.axes.index("X")
        self._axes = series.axes
        self._arrays = [
            zarr.open_array(self._tiff.aszarr(series=0, level=index), mode="r") for index in range(len(series.levels))
        ]
        self.is_photograph = not series.keyframe.is_tiled
        levels = tuple(
            Level(
                level.shape[columns],
                level.shape[rows],
                (series.shape[columns] / level.shape[columns] + series.shape[rows] / level.shape[rows]) / 2,
                (level.keyframe.tilewidth, level.keyframe.tilelength) if level.keyframe.is_tiled else (512, 512),
            )
            for level in series.levels
        )
        return SlideFacts(levels, _mpp(self._tiff), None, "tiff", identity=_identity(self._tiff))

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """See `Slide.read`."""
        at = self.levels[level]
        left, top = self.corner(x, y, level)
        box = (int(left), int(top), width, height)
        try:
            return read_inside(lambda *inside: self._pixels(level, *inside), box, at, self.facts.background)
        except Exception as error:  # codecs raise what they like
            raise SlideError(
                f"{self.name}: pixels at ({x}, {y}) of level {level} cannot be decoded ({error})"
            ) from error

    def _pixels(self, level: int, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
        array = self._arrays[level]
        if self._axes == "SYX":
            pixels = np.moveaxis(np.asarray(array[:3, top:bottom, left:right]), 0, -1)
        else:
            pixels = np.asarray(array[top:bottom, left:right])
        return pixels[..., :3] if pixels.ndim == 3 and pixels.shape[-1] >= 3 else _as_rgb(pixels)

    def close(self) -> None:
        """See `Slide.close`."""
        self._tiff.close()


class _Collector(logging.Handler):
    """Keeps the messages it is sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs and goes on after: a broken page list is how a file cut short shows."""
    collector, logger = _Collector(), logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


def _as_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat a grey picture (h, w) or (h, w, 1) as (h, w, 3)."""
    return np.repeat(grey.reshape(*grey.shape[:2], -1)[..., :1], 3, axis=-1)


def _identity(tiff: tifffile.TiffFile) -> bytes | None:
    """Return whose pixels the file holds, if `write_pixels` wrote it."""
    identity = tiff.pages.first.description.removeprefix(_PIXELS_OF)
    try:
        return bytes.fromhex(identity) if len(identity) == _IDENTITY_DIGITS else None
    except ValueError:
        return None


def _mpp(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Read um per pixel from OME-XML, else from the resolution tags when they have a unit."""
    if tiff.is_ome and tiff.ome_metadata:
        pixels = ElementTree.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
        if pixels is not None and pixels.get("PhysicalSizeX") and pixels.get("PhysicalSizeY"):
            x, y = (
                float(pixels.get(f"PhysicalSize{axis}", "")) * _UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0)
                for axis in "XY"
            )
            return (x, y) if x > 0 and y > 0 else None
    tags = tiff.pages.first.tags
    unit = _UM_PER_RESOLUTION_UNIT.get(int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2)
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    per_unit = [tags[name].value[0] / max(tags[name].value[1], 1) for name in ("XResolution", "YResolution")]
    return (unit / per_unit[0], unit / per_unit[1]) if min(per_unit) > 0 else None
