"""Small pictures of tiles, read in a thread when they are seen; only the last ones are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from PIL import Image
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QImage, QPixmap
from superqt.utils import create_worker

from napari_dala.errors import SlideError
from napari_dala.results.report.tile_sheet import tile_pixels, with_cam

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from napari_dala.slide import Slide
    from napari_dala.slide.tiles import TileGrid

    Tile = tuple[int, int]
    Cam = tuple[NDArray[np.float32], bool]
    Task = tuple[Tile, NDArray[np.uint8] | None, Cam | None]
    Made = tuple["_Source", Tile, int, NDArray[np.uint8] | None, QImage | None]

Value = TypeVar("Value")

_BYTES = 64_000_000  # of pictures that are kept: some 1000 of 96 px
_PER_PX = 3 + 4  # bytes: the tissue, and what is shown
_BATCH = 12  # read before it is looked again what is seen now
_FEWEST = 200  # that are kept, however large


@dataclass(frozen=True)
class _Source:
    """Where pictures come from: the open slide, its tiles, and the side of a picture in px."""

    slide: Slide
    grid: TileGrid
    side: int


class _Recent(Generic[Value]):
    """Values of tiles; those used last are kept."""

    def __init__(self, most: int) -> None:
        self._most, self._values = most, dict[tuple[int, int], Value]()

    def get(self, tile: Tile) -> Value | None:
        value = self._values.pop(tile, None)
        if value is not None:
            self._values[tile] = value
        return value

    def put(self, tile: Tile, value: Value) -> None:
        self._values.pop(tile, None)
        self._values[tile] = value
        while len(self._values) > self._most:
            del self._values[next(iter(self._values))]

    def __len__(self) -> int:
        return len(self._values)


class TilePictures(QObject):
    """Pictures of one slide's tiles, as they are asked for.

    Attributes
    ----------
    is_in_sight
        Tells whether a tile (row, column) is to be seen now: others are not read.
    """

    came = Signal(object)
    """The picture of a tile (row, column) is there, or is another one."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.is_in_sight: Callable[[Tile], bool] = lambda tile: True
        self._source: _Source | None = None
        self._cam_of: Callable[[Tile], Cam] | None = None
        self._version = 0  # of what lies over the tissue
        self._seen: dict[Tile, None] = {}  # in this turn of the event loop
        self._wanted: dict[Tile, None] = {}  # the next one first
        self._reading: dict[Tile, int] = {}  # in which version
        self._collect = QTimer(self)
        self._collect.setSingleShot(True)
        self._collect.timeout.connect(self._on_collected)
        self.forget()

    def forget(self) -> None:
        """Drop all pictures, and what is still wanted."""
        side = self._source.side if self._source else 1
        most = max(_FEWEST, _BYTES // (_PER_PX * side**2))
        self._tissue: _Recent[NDArray[np.uint8]] = _Recent(most)
        self._shown: _Recent[tuple[int, QPixmap]] = _Recent(most)
        self._seen.clear()
        self._wanted.clear()
        self._version += 1

    def look_at(self, slide: Slide | None, grid: TileGrid, side: int, cam_of: Callable[[Tile], Cam] | None) -> None:
        """Take pictures of a slide's tiles from now on.

        Parameters
        ----------
        slide
            Open; None where there is none, and nothing is read.
        grid
            Its tiles.
        side
            Of a picture, px.
        cam_of
            Gives a tile's Grad-CAM (cells, cells), 0 to 1, and whether it is outlined; None for the bare tissue.
            Pictures of before stay until the new ones are there.
        """
        source = None if slide is None else _Source(slide, grid, side)
        self._cam_of = cam_of
        if source != self._source:
            self._source = source
            self.forget()
        self._version += 1

    def picture(self, tile: Tile) -> QPixmap | None:
        """Return a tile's picture; None while there is none, a null one where it cannot be read.

        One that is missing, or is of before, is read: those asked for last come first.
        """
        version, pixmap = self._shown.get(tile) or (0, None)
        if version != self._version and self._reading.get(tile) != self._version and self._source is not None:
            self._seen[tile] = None
            self._collect.start(0)
        return pixmap

    def _on_collected(self) -> None:
        """Let what was just seen come before what was seen earlier."""
        self._wanted = dict.fromkeys([*self._seen, *self._wanted])
        self._seen.clear()
        self._begin()

    def _begin(self) -> None:
        """Read some of what is wanted, if nothing is being read; what has gone out of sight is wanted no more."""
        if self._reading or self._source is None:
            return
        self._wanted = {tile: None for tile in self._wanted if self.is_in_sight(tile)}
        tiles = list(self._wanted)[:_BATCH]
        if not tiles:
            return
        for tile in tiles:
            del self._wanted[tile]
        self._reading = dict.fromkeys(tiles, self._version)
        tasks = [(tile, self._tissue.get(tile), self._cam_of(tile) if self._cam_of else None) for tile in tiles]
        create_worker(
            _draw,
            self._source,
            self._version,
            tasks,
            _connect={"yielded": self._on_made, "finished": self._on_finished},
        )

    def _on_made(self, made: Made) -> None:
        source, tile, version, tissue, image = made
        if source is not self._source:
            return  # of a slide or a size of before
        if tissue is not None:
            self._tissue.put(tile, tissue)
        self._shown.put(tile, (version, QPixmap() if image is None else QPixmap.fromImage(image)))
        self.came.emit(tile)

    def _on_finished(self) -> None:
        self._reading = {}
        self._begin()


def _draw(source: _Source, version: int, tasks: list[Task]) -> Generator[Made, None, None]:
    """Give each tile's tissue and what is shown of it; None for one that cannot be read."""
    for tile, tissue, cam in tasks:
        try:
            bare = (
                tile_pixels(source.slide, source.grid, tile, source.side) if tissue is None else Image.fromarray(tissue)
            )
        except SlideError:
            yield source, tile, version, None, None
            continue
        picture = bare if cam is None else with_cam(bare, cam[0], outlined=cam[1])
        side, data = picture.width, picture.tobytes()
        image = QImage(data, side, side, 3 * side, QImage.Format.Format_RGB888).copy()
        yield source, tile, version, np.asarray(bare), image
