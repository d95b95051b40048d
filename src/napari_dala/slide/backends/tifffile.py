"""TIFF that no scanner's format claims: OME-TIFF, pyramids, ImageJ's and plain pictures, 8-bit RGB or grey."""

from __future__ import annotations

import logging
import re
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_dala.errors import SlideError
from napari_dala.slide.backends.jpeg_tiles import JpegTiles
from napari_dala.slide.backends.page_tiles import PageTiles
from napari_dala.slide.backends.stains import are_red_green_blue, is_no_slide
from napari_dala.slide.backends.stored_tiles import SharedFile
from napari_dala.slide.base import Level, Slide, SlideFacts, downsample_of
from napari_dala.slide.colours import is_turned, stored_box, upright
from napari_dala.slide.resolution import um_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_Number = TypeVar("_Number", int, float)
_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 10000.0}  # inch, centimetre
_PIXELS_OF = "napari-dala pixels of "
_IDENTITY_DIGITS = 64
_BACKGROUND = (255, 255, 255)
_OME_WHITE = -1  # signed RGBA
_SAME_COLOUR = 2.0  # grey levels between the means of one tile by two readers; a wrong colour space gives tens
_HARMLESS = re.compile("TiffTag.fromfile|GDAL_NODATA|ignoring predictor|subfiletype|imagej_metadata")  # of odd tags


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
    tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=256, description=_PIXELS_OF + identity.hex())


class _Page(NamedTuple):
    """A level as the file holds it: one page, or one each of red, green and blue."""

    pages: tuple[tifffile.TiffPage, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px, as stored."""
        return self.pages[0].imagewidth, self.pages[0].imagelength


class TiffSlide(Slide):
    """A slide whose tiles or strips are decoded here, the JPEG ones by libjpeg-turbo, others by tifffile's codecs."""

    def __init__(self, path: Path, mpp: float | tuple[float, float] | None = None) -> None:
        self._file = SharedFile(path)
        weakref.finalize(self, self._file.close)
        try:
            with open_tiff(path) as (tiff, heard):
                series = _slide_in(tiff, path.name)
                pages = _levels(tiff, series, path.name)
                facts = self._facts(tiff, series, pages)
                for complaint in heard:
                    if not _HARMLESS.search(complaint):
                        raise SlideError(f"{path.name}: damaged or cut short: {complaint}")
                stored = [PageTiles.of(level.pages, self._file, _BACKGROUND, path.name) for level in pages]
                jpegs = [JpegTiles.of(level.pages[0], self._file) for level in pages]
            super().__init__(path, facts, mpp)
            self._tiles = [_checked(*pair) for pair in zip(jpegs, stored, strict=True)]
            self.jpeg_tiles = tuple(
                tiles if isinstance(tiles, JpegTiles) and self._orientation == 1 else None for tiles in self._tiles
            )
            self._read(self.dimensions[0] - 1, self.dimensions[1] - 1, 1, 1, 0)  # an unknown compression fails here
        except BaseException:
            self._file.close()
            raise

    def _facts(self, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, pages: list[_Page]) -> SlideFacts:
        keyframe = pages[0].pages[0]
        self._orientation = int(keyframe.tags.valueof("Orientation", 1))
        self.is_photograph = not keyframe.is_tiled
        levels = []
        for level in pages:
            page = level.pages[0]
            tile = (page.tilewidth, page.tilelength) if page.is_tiled else (512, 512)
            width, height = self._turned(level.size)
            levels.append(Level(width, height, downsample_of(pages[0].size, level.size), self._turned(tile)))
        mpp = _mpp(tiff, series)
        return SlideFacts(
            tuple(levels),
            mpp and self._turned(mpp),
            vendor="ome-tiff" if tiff.is_ome else "generic-tiff",
            background=_BACKGROUND,
            identity=_identity(tiff),
            icc=keyframe.iccprofile,
        )

    def _turned(self, pair: tuple[_Number, _Number]) -> tuple[_Number, _Number]:
        """Return what is said of a page's x and y as it is of the upright picture's."""
        return pair[::-1] if is_turned(self._orientation) else pair

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> NDArray[np.uint8]:
        """See `Slide.read`."""
        out = np.empty((height, width, 3), np.uint8)
        self._read_into(out, x, y, level)
        return out

    def _read_into(self, out: NDArray[np.uint8], x: int, y: int, level: int) -> None:
        """See `Slide.read_into`."""
        tiles, at = self.jpeg_tiles[level] or self._tiles[level], self.levels[level]
        left, top = (int(edge) for edge in self.corner(x, y, level))
        try:
            if self._orientation == 1:
                tiles.read_into(out, left, top, _BACKGROUND)
                return
            box = stored_box((left, top, out.shape[1], out.shape[0]), (at.width, at.height), self._orientation)
            out[:] = upright(tiles.read(box, _BACKGROUND), self._orientation)
        except Exception as error:  # codecs raise what they like
            raise SlideError(
                f"{self.name}: pixels at ({x}, {y}) of level {level} cannot be decoded ({error})"
            ) from error

    def close(self) -> None:
        """See `Slide.close`."""
        self._file.close()


def refuse_for_openslide(path: Path) -> None:
    """Refuse a scanner's TIFF whose tiles OpenSlide would turn one by one, or take down the process with.

    Raises
    ------
    SlideError
        When a page of tiles has an orientation other than the usual one, or a tile that is larger than the file.
    """
    try:
        with open_tiff(path) as (tiff, _):
            tiled = [page for one in tiff.pages if (page := one.aspage()).is_tiled]
            turns = {int(page.tags.valueof("Orientation", 1)) for page in tiled}
            largest = max((max(page.databytecounts, default=0) for page in tiled), default=0)
    except Exception:  # a page out of the ordinary can break tifffile anywhere; OpenSlide may know it
        return
    if largest > path.stat().st_size:  # as much memory would be asked for; without it OpenSlide aborts
        raise SlideError(f"{path.name}: damaged, one of its tiles says it is larger than the file; copy it again")
    if turns - {1}:
        raise SlideError(f"{path.name}: TIFF orientation {max(turns)}; export the slide upright")


def _slide_in(tiff: tifffile.TiffFile, name: str) -> tifffile.TiffPageSeries:
    """Return the largest image of a file that is no label, macro picture or thumbnail.

    Raises
    ------
    SlideError
        When there is none, or it is a stack, of many stains or not 8-bit.
    """
    images = [one for one in tiff.series if "X" in one.axes and "Y" in one.axes and not is_no_slide(one.name)]
    full = [one for one in images if not one.keyframe.is_reduced] or images
    if not full:
        raise SlideError(f"{name}: no slide in it, only labels or pictures of the glass")
    series = max(full, key=lambda one: one.keyframe.imagewidth * one.keyframe.imagelength)
    if series.axes not in ("YX", "YXS", "SYX") and not _is_rgb_in_planes(tiff, series):
        raise SlideError(
            f"{name}: axes {series.axes} of {' x '.join(map(str, series.shape))}: a stack or stains one by one; "
            "a slide is 8-bit RGB or grey: export one plane as RGB"
        )
    if tiff.is_ome and series.dtype.itemsize > 1:
        raise SlideError(f"{name}: {series.dtype} pixels; a slide is 8-bit RGB or grey")
    return series


def _is_rgb_in_planes(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    """Return whether an image of OME-TIFF is red, green and blue in three planes, and not three stains."""
    pixels = _ome_pixels(tiff, series)
    if pixels is None or (series.axes, series.shape[0]) != ("CYX", 3):
        return False
    channels = pixels.findall("{*}Channel")
    if any(channel.get("Fluor") or channel.get("EmissionWavelength") for channel in channels):
        return False
    colours = [int(channel.get("Color", _OME_WHITE)) for channel in channels]
    shown = [f"{colour >> 8 & 0xFFFFFF:06X}" if colour != _OME_WHITE else "" for colour in colours]
    return are_red_green_blue([channel.get("Name", "") for channel in channels], shown)


def _levels(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, name: str) -> list[_Page]:
    """Return the levels of an image, finest first: its own, and in plain TIFF every reduced page of its proportions."""
    width, height = series.keyframe.imagewidth, series.keyframe.imagelength
    levels = [*series.levels]
    if not tiff.is_ome:
        for other in tiff.series:
            page = other.keyframe
            alike = abs(page.imagewidth * height - page.imagelength * width) <= max(width, height)
            if other is not series and page.is_reduced and other.axes == series.axes and alike:
                levels += other.levels
    found: dict[tuple[int, int], _Page] = {}
    for level in levels:
        pages = [page for page in level.pages if page is not None and page.parent is tiff]
        if len(pages) != (3 if series.axes == "CYX" else 1):
            raise SlideError(f"{name}: its pages are not all in this file; export the slide to a single file")
        one = _Page(tuple(page.aspage() for page in pages))
        found.setdefault(one.size, one)
    return sorted(found.values(), key=lambda one: one.size, reverse=True)


def _checked(jpegs: JpegTiles | None, stored: PageTiles) -> JpegTiles | PageTiles:
    """Return the JPEG tiles if the one with most in it has the colours that tifffile gives it."""
    if jpegs is None or not jpegs.counts.any():
        return stored
    row, column = (int(at) for at in np.unravel_index(np.argmax(jpegs.counts), jpegs.counts.shape))
    (wide, high), background = jpegs.tile, _BACKGROUND
    box = (column * wide, row * high, wide, high)
    try:
        apart = jpegs.read(box, background).mean((0, 1)) - stored.read(box, background).mean((0, 1))
    except Exception:  # damaged, or a kind of JPEG that is not decoded here
        return stored
    return jpegs if np.abs(apart).max() < _SAME_COLOUR else stored


class _Collector(logging.Handler):
    """Keeps the messages it is sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def open_tiff(path: Path) -> Iterator[tuple[tifffile.TiffFile, list[str]]]:
    """Open a TIFF, with what tifffile logs and goes on after: a broken page list is how a file cut short shows."""
    collector, logger = _Collector(), logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        with tifffile.TiffFile(path) as tiff:
            len(tiff.pages)  # or else tifffile goes round for ever where the list of pages leads back into itself
            yield tiff, collector.messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


def _identity(tiff: tifffile.TiffFile) -> bytes | None:
    """Return whose pixels the file holds, if `write_pixels` wrote it."""
    identity = tiff.pages.first.description.removeprefix(_PIXELS_OF)
    try:
        return bytes.fromhex(identity) if len(identity) == _IDENTITY_DIGITS else None
    except ValueError:
        return None


def _mpp(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[float, float] | None:
    """Read um per pixel from OME-XML, else from the resolution tags when they, or ImageJ's description, have a unit."""
    if (pixels := _ome_pixels(tiff, series)) is not None and pixels.get("PhysicalSizeX"):
        sizes = [
            float(pixels.get(f"PhysicalSize{axis}") or 0) * um_in(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
            for axis in "XY"
        ]
        return (sizes[0], sizes[1]) if min(sizes) > 0 else None
    tags = series.keyframe.tags
    unit = _UM_PER_RESOLUTION_UNIT.get(int(tags.valueof("ResolutionUnit", 2)), 0.0)
    if tiff.is_imagej and tiff.imagej_metadata:
        unit = um_in(str(tiff.imagej_metadata.get("unit", ""))) or unit
    if not unit or "XResolution" not in tags or "YResolution" not in tags:
        return None
    per_unit = [tags[name].value[0] / max(tags[name].value[1], 1) for name in ("XResolution", "YResolution")]
    return (unit / per_unit[0], unit / per_unit[1]) if min(per_unit) > 0 else None


def _ome_pixels(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> ElementTree.Element | None:
    """Return what OME-XML says of the pixels of an image, None where there is no such thing."""
    if not tiff.is_ome or not tiff.ome_metadata:
        return None
    size = str(series.keyframe.imagewidth), str(series.keyframe.imagelength)
    alike = [
        (image.get("Name", ""), pixels)
        for image in ElementTree.fromstring(tiff.ome_metadata).iterfind("{*}Image")
        if (pixels := image.find("{*}Pixels")) is not None and (pixels.get("SizeX"), pixels.get("SizeY")) == size
    ]
    named = [pixels for name, pixels in alike if name == series.name]
    return next(iter(named or [pixels for _, pixels in alike]), None)
