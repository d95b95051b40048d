"""A sheet of tiles for a report: small pictures with what is said of each; no slide's name unless it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_dala.errors import DalaError, SlideError
from napari_dala.files import replacing
from napari_dala.model.islands import outlines
from napari_dala.results.report.html import NOTICE
from napari_dala.results.report.pictures import ALARM, FAINT, INK, hatch, heat, wrapped
from napari_dala.slide.tiles import read_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.results.tile_lists import Verdict
    from napari_dala.slide.base import Slide
    from napari_dala.slide.tiles import TileGrid

Color = tuple[int, int, int]

COLUMNS, ROWS = 5, 6  # of tiles on a page
_SIDE, _GAP, _CAPTION, _FRAME = 280, 24, 34, 6  # px; at 200 to the inch a page is as wide as A4
_PER_INCH = 200
_SMALL = 160  # px of a picture, below which outlines are thin
_SUFFIXES = (".png", ".pdf")


@dataclass(frozen=True, eq=False)
class SheetTile:
    """One tile of a sheet.

    Attributes
    ----------
    picture
        Square; None where it cannot be read.
    verdict
        What the model says.
    label
        Name and colour of the class that a user gave it, or None.
    """

    picture: Image.Image | None
    verdict: Verdict
    label: tuple[str, Color] | None = None


@dataclass(frozen=True, eq=False)
class AskedTile:
    """A tile (row, column) that is to come on a sheet, with its map (see `with_cam`) and whether that is outlined."""

    tile: tuple[int, int]
    verdict: Verdict
    label: tuple[str, Color] | None = None
    cam: tuple[NDArray[np.float32], bool] | None = None


def tile_pixels(slide: Slide, grid: TileGrid, tile: tuple[int, int], side: int) -> Image.Image:
    """Return a tile (row, column) as a square of `side` px.

    Raises
    ------
    SlideError
        When it cannot be read.
    """
    pixels = Image.fromarray(read_tiles(slide, grid, *tile, 1, 1))
    return pixels.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2)


def with_cam(picture: Image.Image, cam: NDArray[np.float32], *, outlined: bool) -> Image.Image:
    """Return a tile with its Grad-CAM (cells, cells), 0 to 1, over it, and what is kept of it outlined if asked for."""
    if not cam.any():
        return picture
    return heat(picture, cam, outlines(cam > 0) if outlined else (), thin=picture.width < _SMALL)


def read_sheet_tile(slide: Slide, grid: TileGrid, asked: AskedTile) -> SheetTile:
    """Read a tile for a sheet."""
    try:
        picture = tile_pixels(slide, grid, asked.tile, _SIDE)
    except SlideError:
        return SheetTile(None, asked.verdict, asked.label)
    if asked.cam is not None:
        picture = with_cam(picture, asked.cam[0], outlined=asked.cam[1])
    return SheetTile(picture, asked.verdict, asked.label)


def draw_sheets(tiles: Sequence[SheetTile], title: str, about: str, notes: Sequence[str] = ()) -> list[Image.Image]:
    """Return pages of 5 x 6 tiles.

    Parameters
    ----------
    tiles
        In their order.
    title, about
        What the sheet shows, and of what: above the tiles of each page.
    notes
        What a reader must know before believing a number, a line each.
    """
    pages = [tiles[first : first + COLUMNS * ROWS] for first in range(0, len(tiles), COLUMNS * ROWS)]
    return [
        _page(page, title, about, (*notes, f"{NOTICE} Page {number} of {len(pages)}."))
        for number, page in enumerate(pages, 1)
    ]


def save_sheets(
    path: Path,
    slide: Slide,
    grid: TileGrid,
    asked: Sequence[AskedTile],
    title: str,
    about: str,
    notes: Sequence[str] = (),
) -> Path:
    """Read tiles, write their sheets and return where: some seconds, so not in the main thread.

    See `draw_sheets` and `write_sheets`.

    Raises
    ------
    DalaError
        As `write_sheets` does.
    """
    write_sheets(path, draw_sheets([read_sheet_tile(slide, grid, one) for one in asked], title, about, notes))
    return path


def write_sheets(path: Path, pages: Sequence[Image.Image]) -> None:
    """Write pages as PDF, or below each other as PNG, whichever the file's name ends with; whole or not at all.

    Raises
    ------
    DalaError
        When the name ends otherwise, there is nothing to write, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DalaError(f"{path.name}: a sheet is saved as .png or .pdf; choose a name that ends so")
    if not pages:
        raise DalaError(f"{path.name}: there is no tile to save; choose another list")
    try:
        with replacing(path) as temporary:
            if suffix == ".pdf":
                first, *others = pages
                # A title, else Pillow takes the file's own name for one.
                first.save(temporary, "PDF", save_all=True, append_images=others, resolution=_PER_INCH, title="Tiles")
            else:
                _below_each_other(pages).save(temporary, "PNG", dpi=(_PER_INCH, _PER_INCH))
    except OSError as error:
        raise DalaError(f"{path}: the sheet cannot be written there ({error.strerror or error})") from error


def _below_each_other(pages: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(page.width for page in pages), sum(page.height for page in pages)), "white")
    top = 0
    for page in pages:
        whole.paste(page, (0, top))
        top += page.height
    return whole


def _page(tiles: Sequence[SheetTile], title: str, about: str, notes: Sequence[str]) -> Image.Image:
    width = COLUMNS * (_SIDE + _GAP) + _GAP
    above = [(line, INK, 32) for line in wrapped([title], 32, width - 2 * _GAP)]
    above += [(line, FAINT, 22) for line in wrapped([about], 22, width - 2 * _GAP)]
    below = [(line, ALARM, 22) for line in wrapped(notes[:-1], 22, width - 2 * _GAP)] + [(notes[-1], FAINT, 22)]
    row_height, rows = _SIDE + _CAPTION + _GAP, -(-len(tiles) // COLUMNS)
    top = 2 * _GAP + sum(size + 8 for *_, size in above)
    height = top + rows * row_height + sum(size + 8 for *_, size in below) + _GAP
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for lines, start in ((above, _GAP), (below, top + rows * row_height)):
        y = start
        for line, color, size in lines:
            draw.text((_GAP, y), line, color, ImageFont.load_default(size))
            y += size + 8
    for number, tile in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        _draw_tile(page, draw, tile, (_GAP + column * (_SIDE + _GAP), top + row * row_height))
    return page


def _draw_tile(page: Image.Image, draw: ImageDraw.ImageDraw, tile: SheetTile, corner: tuple[int, int]) -> None:
    left, top = corner
    box = (left, top, left + _SIDE, top + _SIDE)
    text = ImageFont.load_default(22)
    if tile.picture is None:
        draw.text((left + _SIDE / 2, top + _SIDE / 2), "cannot be read", FAINT, text, anchor="mm")
    else:
        page.paste(tile.picture, corner)
    if tile.verdict.mark:
        hatch(draw, box)
    draw.rectangle(box, outline=tile.verdict.color, width=_FRAME)
    if tile.label is not None:
        name, color = tile.label
        draw.rectangle((left, box[3] - _CAPTION, box[2], box[3]), color)
        draw.text((left + 10, box[3] - _CAPTION + 4), _fitting(name, text, _SIDE - 20), ink_on(color), text)
    caption = f"{tile.verdict.text}{f', {tile.verdict.mark}' if tile.verdict.mark else ''}"
    draw.text((left, box[3] + 5), _fitting(caption, text, _SIDE), INK, text)


def ink_on(color: Color) -> Color:
    """Return black or white, whichever is read more easily on a colour."""
    return (0, 0, 0) if float(np.dot(color, (0.299, 0.587, 0.114))) > 140 else (255, 255, 255)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Return as much of a text as fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
