"""Slides written here: of scanners that know of more glass than was scanned (SCN and MRXS), and wide ones."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image

from napari_dala.slide.teaching.slide import _write_pyramid
from napari_dala.slide.teaching.tissue import SLIDE_WHITE, DrawnTissue

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_DRAWN, _MARGIN = 1568, 448  # px: 7 x 7 tiles of 224 px that are repeated, and the glass around them


def write_repeated(path: Path, side: int) -> Path:
    """Write a teaching slide, `side` px wide, that repeats a piece of tissue: to draw so much takes half a minute."""
    middle = (side - _DRAWN) // 2
    tissue = DrawnTissue(side).draw(middle, middle, _DRAWN, _DRAWN)
    is_tissue = (np.arange(side) >= _MARGIN) & (np.arange(side) < side - _MARGIN)

    def rows(first: int, count: int) -> NDArray[np.uint8]:
        strip = tissue.take(np.arange(first, first + count), 0, mode="wrap").take(np.arange(side), 1, mode="wrap")
        strip[~(is_tissue[first : first + count, None] & is_tissue)] = SLIDE_WHITE
        return strip

    _write_pyramid(path, side, rows)
    return path


_SCANNED = (
    '<device model="m" version="1"/>',
    "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
    "<numericalAperture>0.6</numericalAperture><illuminationSource>brightfield</illuminationSource>"
    "</illuminationSettings></scanSettings>",
)


def write_scn(path: Path, tissue: np.ndarray, at: tuple[int, int]) -> Path:
    """Write a picture (h, w, 3) of 0.4 um/px as a SCN, in level-0 px at (x, y) of the glass; two levels, 4 apart."""
    path = path.with_suffix(".scn")
    size = tissue.shape[1], tissue.shape[0]
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:0">'
        '<collection name="c" uuid="urn:uuid:1" sizeX="640000" sizeY="800000">'
        f"{_scn_image(0, (160, 200), (0, 0), 4000, range(1))}{_scn_image(1, size, at, 400, range(1, 3))}"
        "</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "tile": (256, 256), "metadata": None}
        options["resolutionunit"] = "CENTIMETER"
        tif.write(np.full((200, 160, 3), 250, np.uint8), description=xml, **options)
        for step in (1, 4):
            tif.write(tissue[::step, ::step], resolution=(25_000 / step, 25_000 / step), **options)
    return path


def _scn_image(number: int, size: tuple[int, int], at: tuple[int, int], nm: int, pages: range) -> str:
    """Describe a picture on the glass as Leica's scanners do: its place in nm."""
    levels = "".join(
        f'<dimension sizeX="{size[0] >> 2 * r}" sizeY="{size[1] >> 2 * r}" r="{r}" ifd="{page}"/>'
        for r, page in enumerate(pages)
    )
    return (
        f'<image name="i{number}" uuid="urn:uuid:2{number}"><creationDate>2020-01-01T00:00:00Z</creationDate>'
        f'{_SCANNED[0]}<pixels sizeX="{size[0]}" sizeY="{size[1]}">{levels}</pixels><view sizeX="{size[0] * nm}" '
        f'sizeY="{size[1] * nm}" offsetX="{at[0] * nm}" offsetY="{at[1] * nm}" spacingZ="0"/>{_SCANNED[1]}</image>'
    )


_IMAGE = 100  # px, of the pictures that a MRXS is made of


def write_mrxs(path: Path, tissue: np.ndarray, at: tuple[int, int]) -> Path:
    """Write a picture (h, w, 3) of 0.4 um/px as a MRXS, in level-0 px at (x, y) of the glass; two levels, 2 apart.

    All its sides and its place are multiples of 100 px.
    """
    across = 2 * _IMAGE
    glass = np.full((2000, 1600, 3), 255, np.uint8)
    glass[at[1] : at[1] + tissue.shape[0], at[0] : at[0] + tissue.shape[1]] = tissue
    columns, rows = glass.shape[1] // _IMAGE, glass.shape[0] // _IMAGE
    scanned = np.zeros((rows, columns), bool)
    scanned[
        at[1] // _IMAGE : (at[1] + tissue.shape[0]) // _IMAGE, at[0] // _IMAGE : (at[0] + tissue.shape[1]) // _IMAGE
    ] = 1
    data, places = BytesIO(), ([], [])  # type: tuple[BytesIO, tuple[list[tuple[int, ...]], ...]]

    def add(level: int, row: int, column: int, pixels: np.ndarray) -> None:
        begin = data.tell()
        Image.fromarray(pixels).save(data, "PNG")
        places[level].append((row * columns + column, begin, data.tell() - begin, 0))

    for row, column in np.argwhere(scanned).tolist():
        top, left = row * _IMAGE, column * _IMAGE
        add(0, row, column, glass[top : top + _IMAGE, left : left + _IMAGE])
    for row in range(0, rows, 2):
        for column in range(0, columns, 2):
            if scanned[row : row + 2, column : column + 2].any():
                top, left = row * _IMAGE, column * _IMAGE
                add(1, row, column, np.ascontiguousarray(glass[top : top + across : 2, left : left + across : 2]))
    folder, path = path.with_suffix(""), path.with_suffix(".mrxs")
    folder.mkdir()
    path.write_bytes(b"drawn")
    (folder / "Data0000.dat").write_bytes(data.getvalue())
    (folder / "Index.dat").write_bytes(_mrxs_index(places))
    (folder / "Slidedat.ini").write_text(_mrxs_about(columns, rows), encoding="utf-8-sig")
    return path


_MRXS_ID = "0" * 32


def _mrxs_about(columns: int, rows: int) -> str:
    level = (
        f"OVERLAP_X = 0\nOVERLAP_Y = 0\nIMAGE_FORMAT = PNG\nIMAGE_FILL_COLOR_BGR = 16777215\n"
        f"DIGITIZER_WIDTH = {_IMAGE}\nDIGITIZER_HEIGHT = {_IMAGE}\n"
    )
    sections = "".join(
        f"[LEVEL_{number}]\nIMAGE_CONCAT_FACTOR = {number}\nMICROMETER_PER_PIXEL_X = {um}\n"
        f"MICROMETER_PER_PIXEL_Y = {um}\n{level}"
        for number, um in enumerate((0.4, 0.8))
    )
    return (
        f"[GENERAL]\nSLIDE_VERSION = 01.02\nSLIDE_ID = {_MRXS_ID}\nIMAGENUMBER_X = {columns}\nIMAGENUMBER_Y = {rows}\n"
        "OBJECTIVE_MAGNIFICATION = 20\nCameraImageDivisionsPerSide = 1\n[HIERARCHICAL]\nHIER_COUNT = 1\n"
        "NONHIER_COUNT = 0\nINDEXFILE = Index.dat\nHIER_0_NAME = Slide zoom level\nHIER_0_COUNT = 2\n"
        "HIER_0_VAL_0_SECTION = LEVEL_0\nHIER_0_VAL_1_SECTION = LEVEL_1\n[DATAFILE]\nFILE_COUNT = 1\n"
        f"FILE_0 = Data0000.dat\n{sections}"
    )


def _mrxs_index(places: tuple[list[tuple[int, ...]], ...]) -> bytes:
    """Return where pictures lie in the data: a pointer to pointers, one a level, each to a page of records."""
    root = len("01.02") + len(_MRXS_ID)
    pages, pointers = b"", []
    first = root + 8 + 4 * len(places)
    for level in places:
        here = first + len(pages)
        pointers.append(here)
        page = struct.pack("<2i", len(level), 0) + b"".join(struct.pack("<4i", *place) for place in level)
        pages += struct.pack("<2i", 0, here + 8) + page
    return b"01.02" + _MRXS_ID.encode() + struct.pack(f"<2i{len(places)}i", root + 8, 0, *pointers) + pages


def write_czi(path: Path, tissue: np.ndarray) -> Path:
    """Write a picture (h, w, 3) of 0.4 um/px as a CZI of uncompressed blocks of 100 px; two levels, 4 apart."""
    path = path.with_suffix(".czi")
    height, width = tissue.shape[:2]
    blocks = [(x, y, 1) for y in range(0, height, _IMAGE) for x in range(0, width, _IMAGE)] + [(0, 0, 4)]
    body, entries = b"", []
    for number, (x, y, step) in enumerate(blocks):
        part = tissue[::step, ::step] if step > 1 else tissue[y : y + _IMAGE, x : x + _IMAGE]
        entry = _czi_entry(number, (x, y), part.shape[:2], step, 544 + len(body))
        data = np.ascontiguousarray(part[..., ::-1]).tobytes()
        head = struct.pack("<2iq", 0, 0, len(data)) + entry
        body += _czi_segment("ZISRAWSUBBLOCK", head.ljust(256, b"\0") + data)
        entries.append(entry)
    directory = 544 + len(body)
    body += _czi_segment("ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    metadata = 544 + len(body)
    xml = (
        f"<ImageDocument><Metadata><Information><Image><SizeX>{width}</SizeX><SizeY>{height}</SizeY><SizeS>1</SizeS>"
        '</Image></Information><Scaling><Items><Distance Id="X"><Value>4e-07</Value></Distance><Distance Id="Y">'
        "<Value>4e-07</Value></Distance></Items></Scaling></Metadata></ImageDocument>"
    ).encode()
    body += _czi_segment("ZISRAWMETADATA", struct.pack("<2i248x", len(xml), 0) + xml)
    attachments = 544 + len(body)
    body += _czi_segment("ZISRAWATTDIR", struct.pack("<i252x", 0))
    head = struct.pack("<4i32xi2qiq", 1, 0, 0, 0, 0, directory, metadata, 0, attachments)
    path.write_bytes(_czi_segment("ZISRAWFILE", head.ljust(512, b"\0")) + body)
    return path


def _czi_segment(name: str, data: bytes) -> bytes:
    data = data.ljust(-(-len(data) // 32) * 32, b"\0")
    return struct.pack("<16s2q", name.encode(), len(data), len(data)) + data


def _czi_entry(number: int, at: tuple[int, int], stored: tuple[int, ...], step: int, place: int) -> bytes:
    """Describe a block: where it lies, how large it is there, and how large it is stored."""
    sides = [(b"X", at[0], stored[1] * step, stored[1]), (b"Y", at[1], stored[0] * step, stored[0])]
    sides += [(b"C", 0, 1, 1), (b"S", 0, 1, 1), *([(b"M", number, 1, 1)] if step == 1 else [])]
    dimensions = b"".join(struct.pack("<4s2ifi", name, start, size, 0.0, kept) for name, start, size, kept in sides)
    return struct.pack("<2siqiiB5xi", b"DV", 3, place, 0, 0, 2 * (step > 1), len(sides)) + dimensions
