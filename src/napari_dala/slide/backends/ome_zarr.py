"""OME-Zarr 0.4 and 0.5: folders, zip files and addresses, with red, green and blue as planes or side by side."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from napari_dala.errors import DalaError, SlideError, may_pass
from napari_dala.slide.backends.stains import are_red_green_blue, is_no_slide
from napari_dala.slide.backends.zarr_store import is_of_server, opened_group, refuse_codecs
from napari_dala.slide.base import MOST_BYTES, Level, Slide, SlideFacts, downsample_of
from napari_dala.slide.pictures import read_inside
from napari_dala.slide.resolution import um_in
from napari_dala.validation import conforming

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

_KNOWN_AXES = {"t", "c", "z", "y", "x"}
_MOST_SERIES = 64  # pictures of one file
_SAMPLES = 16  # tiles of level 0 by which a slide is known, beside the coarsest level
_SAMPLED_PX = 1 << 22  # of that level; of a larger one so many tiles:
_MORE_SAMPLES = 64
_WHITE = (255, 255, 255)


class _Axis(BaseModel):
    name: str
    unit: str | None = None


class _Transformation(BaseModel):
    type: str
    scale: tuple[float, ...] = ()


class _Dataset(BaseModel):
    path: str
    coordinateTransformations: tuple[_Transformation, ...] = ()


class _Multiscale(BaseModel):
    axes: tuple[_Axis, ...] = Field(min_length=2, max_length=5)
    datasets: tuple[_Dataset, ...] = Field(min_length=1, max_length=64)
    coordinateTransformations: tuple[_Transformation, ...] = ()
    name: str | None = None


class _Channel(BaseModel):
    label: str | int | None = None
    color: str | int | None = None


class _Omero(BaseModel):
    channels: tuple[_Channel, ...] = ()


class _Image(BaseModel):
    """What OME-Zarr says of one picture."""

    multiscales: tuple[_Multiscale, ...] = Field(min_length=1)
    omero: _Omero = _Omero()

    @property
    def axes(self) -> str:
        """The axes' names."""
        return "".join(axis.name.lower() for axis in self.multiscales[0].axes)

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Um per pixel of the finest level (x, y), None where no unit of length is given."""
        first = self.multiscales[0]
        steps = [*first.datasets[0].coordinateTransformations, *first.coordinateTransformations]
        sides = []
        for at in (self.axes.index("x"), self.axes.index("y")):
            scales = [step.scale[at] for step in steps if step.type == "scale" and len(step.scale) == len(first.axes)]
            sides.append(um_in(first.axes[at].unit or "") * float(np.prod(scales)) if scales else 0.0)
        return (sides[0], sides[1]) if min(sides) > 0 else None


class _Picture(NamedTuple):
    """One picture of a file: what is said of it, and its levels as they are stored, finest first."""

    about: _Image
    arrays: tuple[zarr.Array[Any], ...]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each level, px."""
        across, down = self.about.axes.index("x"), self.about.axes.index("y")
        return [(array.shape[across], array.shape[down]) for array in self.arrays]


class OmeZarrSlide(Slide):
    """A slide of an OME-Zarr, read by zarr.

    A part that is not stored has the array's fill value, as zarr has it; so that a share that is lost is not taken for
    such parts, each reading that met one ends with a look whether the slide is still there.
    """

    def __init__(self, path: Path, mpp: float | tuple[float, float] | None = None) -> None:
        try:
            self._group, self._is_there, self._absent = opened_group(path)
            picture = _picture_in(self._group, path.name)
            _check(picture, path.name)
            self._axes, self._arrays = picture.about.axes, picture.arrays
            super().__init__(path, _facts(picture), mpp)
            self.facts = replace(self.facts, identity=_identity(self))
        except (DalaError, OSError):
            raise
        except Exception as error:  # a damaged file can break zarr anywhere
            reason = str(error).partition("\n")[0]
            raise SlideError(f"{path.name}: not an OME-Zarr that can be read, or damaged: {reason}") from error

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> NDArray[np.uint8]:
        """See `Slide.read`."""
        left, top = (int(edge) for edge in self.corner(x, y, level))
        problem: Exception | None = None
        absent = self._absent()
        try:
            box = (left, top, width, height)
            out = read_inside(partial(self._inside, level), box, self.levels[level], self.facts.background)
        except Exception as error:  # codecs and stores raise what they like
            problem = error
        is_in_doubt = problem is not None or self._absent() != absent
        if is_of_server(problem) or (is_in_doubt and not self._is_there()):
            self._say_lost()
        if problem is not None:
            reason = str(problem).partition("\n")[0]
            raise SlideError(
                f"{self.name}: pixels at ({x}, {y}) of level {level} cannot be decoded ({reason})"
            ) from problem
        return out

    def _inside(self, level: int, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
        """Return a rectangle of a level, (h, w, 3)."""
        picked: dict[str, Any] = {"x": slice(left, right), "y": slice(top, bottom), "c": slice(None), "t": 0, "z": 0}
        pixels = np.asarray(self._arrays[level][tuple(picked[axis] for axis in self._axes)])
        left_over = [axis for axis in self._axes if axis in "cyx"]
        if "c" not in left_over:
            pixels, left_over = pixels[None], ["c", *left_over]
        pixels = pixels.transpose([left_over.index(axis) for axis in "yxc"])
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))

    def close(self) -> None:
        """See `Slide.close`."""
        self._group.store.close()


def _picture_in(group: zarr.Group, name: str) -> _Picture:
    """Return the largest picture of a file that is no label or macro picture: its own, or one that it numbers."""
    about = _about(group)
    pictures = (
        [_picture(group, about, name)]
        if "multiscales" in about
        else [_picture(one, _about(one), name) for one in _series(group) if "multiscales" in _about(one)]
    )
    if not pictures:
        what = "a plate: name one of its fields" if "plate" in about else "no picture of OME-Zarr 0.4 or 0.5 in it"
        raise SlideError(f"{name}: {what}")
    slides = [one for one in pictures if not is_no_slide(one.about.multiscales[0].name or "")]
    if not slides:
        raise SlideError(f"{name}: no slide in it, only labels or pictures of the glass")
    return max(slides, key=lambda one: math.prod(one.sizes[0]))


def _series(group: zarr.Group) -> Iterator[zarr.Group]:
    """Give the pictures that Bio-Formats numbers: servers do not list a folder."""
    import zarr

    for number in range(_MOST_SERIES):
        one = group.get(str(number))
        if not isinstance(one, zarr.Group):
            return
        yield one


def _about(group: zarr.Group) -> dict[str, Any]:
    """Return what OME-Zarr says of a group; since 0.5 it stands under "ome"."""
    said = group.attrs.asdict()
    inner = said.get("ome")
    return inner if isinstance(inner, dict) else said


def _picture(group: zarr.Group, about: dict[str, Any], name: str) -> _Picture:
    import zarr

    image = conforming(_Image, about, f"{name}: its multiscales", SlideError)
    axes = set(image.axes)
    if "image-label" in about or not {"y", "x"} <= axes <= _KNOWN_AXES or len(axes) < len(image.axes):
        raise SlideError(f"{name}: axes {image.axes or 'without names'}; a slide has y, x and three colours (c)")
    arrays = [group.get(dataset.path) for dataset in image.multiscales[0].datasets]
    found = [array for array in arrays if isinstance(array, zarr.Array) and array.ndim == len(image.axes)]
    if len(found) != len(arrays):
        raise SlideError(f"{name}: damaged, not all levels that it names are there; copy it again")
    for array in found:
        refuse_codecs(array, name)
    levels = {array.shape: array for array in sorted(found, key=lambda array: array.shape, reverse=True)}
    return _Picture(image, tuple(levels.values()))


def _check(picture: _Picture, name: str) -> None:
    """Refuse stacks, stains one by one and deep pixels."""
    about, first = picture.about, picture.arrays[0]
    shape = dict(zip(about.axes, first.shape, strict=True))
    channels = about.omero.channels
    grey = shape.get("c", 1) == 1
    named = [str(channel.label or "") for channel in channels] if not grey else []
    coloured = [str(channel.color or "") for channel in channels] if not grey else []
    if (
        any(array.dtype != np.uint8 for array in picture.arrays)
        or shape.get("t", 1) != 1
        or shape.get("z", 1) != 1
        or (not grey and (shape["c"] != 3 or not are_red_green_blue(named, coloured)))
        or (grey and _is_stain(channels))
    ):
        stains = f", shown as {' and '.join(filter(None, named))}" if any(named) else ""
        raise SlideError(
            f"{name}: axes {about.axes} of {' x '.join(map(str, first.shape))} {first.dtype}{stains}: a stack or "
            "stains one by one; a slide is 8-bit RGB or grey: export one plane as RGB"
        )
    if any(0 in array.shape for array in picture.arrays):
        raise SlideError(f"{name}: a picture without pixels")
    if any(math.prod(array.chunks) > MOST_BYTES for array in picture.arrays):
        raise SlideError(f"{name}: its chunks are too large to be read at once; save it with chunks of 256 px")


def _is_stain(channels: tuple[_Channel, ...]) -> bool:
    """Return whether the one plane of a picture is shown in a colour, as stains are that glow."""
    return any(str(channel.color or "FFFFFF").upper() not in ("FFFFFF", "808080") for channel in channels)


def _facts(picture: _Picture) -> SlideFacts:
    sizes = picture.sizes
    across, down = picture.about.axes.index("x"), picture.about.axes.index("y")
    levels = tuple(
        Level(*size, downsample_of(sizes[0], size), (array.chunks[across], array.chunks[down]))
        for size, array in zip(sizes, picture.arrays, strict=True)
    )
    return SlideFacts(levels, picture.about.mpp, None, "ome-zarr", _WHITE)


def _identity(slide: OmeZarrSlide) -> bytes:
    """Return what a slide is known by: some of its pixels, wherever they are stored; of other chunks, others.

    Raises
    ------
    SlideError
        When it is lost meanwhile: without some of its pixels it would be known as another slide.
    """
    digest = hashlib.sha256(str([(level.width, level.height) for level in slide.levels]).encode())
    last = len(slide.levels) - 1
    coarsest = slide.levels[last]
    boxes = [(0, box) for box in _spread(slide.levels[0], _SAMPLES)]
    if coarsest.width * coarsest.height <= _SAMPLED_PX:
        boxes.append((last, (0, 0, coarsest.width, coarsest.height)))
    else:
        boxes += [(last, box) for box in _spread(coarsest, _MORE_SAMPLES)]
    for level, (left, top, width, height) in boxes:
        down = slide.levels[level].downsample
        try:
            digest.update(slide.read(round(left * down), round(top * down), width, height, level).data)
        except SlideError as error:  # what is damaged is damaged each time
            if may_pass(error):
                raise
    return digest.digest()


def _spread(level: Level, count: int) -> list[tuple[int, int, int, int]]:
    """Return boxes of at most `count` tiles all over a level (left, top, width, height; its px)."""
    wide, high = level.tile
    columns, rows = -(-level.width // wide), -(-level.height // high)
    places = np.unique(np.linspace(0, columns * rows - 1, count, dtype=np.int64)).tolist()
    return [(place % columns * wide, place // columns * high, wide, high) for place in places]
