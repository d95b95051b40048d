"""Sheets of tiles: the pictures, what is said below them, and nobody's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_dala.errors import DalaError, SlideError
from napari_dala.results.report.ramps import GRAD_CAM
from napari_dala.results.report.tile_sheet import (
    AskedTile,
    SheetTile,
    draw_sheets,
    ink_on,
    read_sheet_tile,
    save_sheets,
    tile_pixels,
    with_cam,
    write_sheets,
)
from napari_dala.results.tile_lists import Verdict
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.slide import Slide

TISSUE = (230, 150, 190)
MALIGNANT = Verdict("malignant 93 %", (200, 30, 30))
STRANGE = Verdict("benign 60 %", (128, 128, 128), "unfamiliar")


@pytest.fixture
def slide() -> Slide:
    return open_slide(np.full((640, 640, 3), TISSUE, np.uint8), mpp=0.5)


@pytest.fixture
def grid(slide: Slide) -> TileGrid:
    return TileGrid.over(slide, 64, 0.5)


def share(picture: Image.Image, color: Any) -> float:
    """Return the part of a picture that has a colour."""
    return float((np.abs(np.asarray(picture, int) - color).max(axis=-1) <= 4).mean())


def sheet(slide: Slide, grid: TileGrid, *asked: AskedTile) -> Image.Image:
    (page,) = draw_sheets([read_sheet_tile(slide, grid, one) for one in asked], "Strongest", "model painted")
    return page


def test_a_tile_is_its_tissue_in_the_colour_of_its_class(slide: Slide, grid: TileGrid) -> None:
    bare = sheet(slide, grid, AskedTile((0, 0), MALIGNANT))
    assert share(bare, TISSUE) > 0.08
    assert share(bare, MALIGNANT.color) > 0.004
    labelled = sheet(slide, grid, AskedTile((0, 0), MALIGNANT, ("benign", (20, 140, 60))))
    assert share(labelled, (20, 140, 60)) > 0.005 > share(bare, (20, 140, 60))
    hatched = sheet(slide, grid, AskedTile((0, 0), STRANGE))
    assert share(bare, TISSUE) > share(hatched, TISSUE) > 0.08


def test_its_grad_cam_lies_over_it(slide: Slide, grid: TileGrid) -> None:
    cam = np.zeros((2, 2), np.float32)
    bare = tile_pixels(slide, grid, (1, 1), 96)
    assert bare.size == (96, 96)
    assert with_cam(bare, cam, outlined=True) is bare, "nothing is kept"
    cam[0, 0] = 1
    shown = np.asarray(with_cam(bare, cam, outlined=False), int)
    strongest = np.round(GRAD_CAM.over(np.array(1.0), np.array(TISSUE) / 255) * 255)
    np.testing.assert_allclose(shown[10, 10], strongest, atol=3)
    np.testing.assert_allclose(shown[90, 90], TISSUE, atol=3)
    assert (np.asarray(with_cam(bare, cam, outlined=True)) != shown).any()


def test_a_tile_that_cannot_be_read_says_so(slide: Slide, grid: TileGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise SlideError("slide.tif: cannot be decoded there")

    monkeypatch.setattr(type(slide), "read", broken)
    tile = read_sheet_tile(slide, grid, AskedTile((0, 0), MALIGNANT))
    assert tile.picture is None
    (page,) = draw_sheets([tile], "Strongest", "model painted")
    assert share(page, TISSUE) == 0


@pytest.mark.parametrize("count", [1, 30, 31, 75])
def test_pages_have_thirty_tiles(slide: Slide, grid: TileGrid, tmp_path: Path, count: int) -> None:
    tiles = [SheetTile(Image.new("RGB", (280, 280), TISSUE), MALIGNANT)] * count
    pages = draw_sheets(tiles, "Strongest: malignant", "model painted", ["This model is untrained."])
    assert len(pages) == -(-count // 30)
    write_sheets(tmp_path / "tiles.pdf", pages)
    assert (tmp_path / "tiles.pdf").read_bytes().count(b"/Type /Page\n") == len(pages)
    write_sheets(tmp_path / "tiles.PNG", pages)
    with Image.open(tmp_path / "tiles.PNG") as whole:
        assert whole.size == (pages[0].width, sum(page.height for page in pages))


def test_a_sheet_names_neither_slide_nor_patient(tmp_path: Path) -> None:
    path = tmp_path / "Jane-Doe-1961.png"
    Image.new("RGB", (256, 256), TISSUE).save(path)
    with open_slide(path, mpp=0.5) as slide:
        grid = TileGrid.over(slide, 64, 0.5)
        for name in ("tiles.pdf", "tiles.png"):
            saved = save_sheets(tmp_path / name, slide, grid, [AskedTile((0, 0), MALIGNANT)], "Strongest", "model m")
            assert saved.name == name
            content = saved.read_bytes()
            for secret in ("Jane-Doe", "1961", tmp_path.name):
                assert secret.encode() not in content
                assert secret.encode("utf-16-be") not in content
    assert sorted(one.name for one in tmp_path.iterdir()) == [path.name, "tiles.pdf", "tiles.png"]


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("tiles.jpg", 1, "tiles.jpg: a sheet is saved as .png or .pdf"),
        ("tiles", 1, "tiles: a sheet is saved as .png or .pdf"),
        ("tiles.pdf", 0, "tiles.pdf: there is no tile to save"),
    ],
)
def test_what_cannot_be_saved_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, name: str, count: int, words: str
) -> None:
    (tmp_path / name).write_text("before")
    with pytest.raises(DalaError, match=words):
        write_sheets(tmp_path / name, [Image.new("RGB", (9, 9))] * count)
    assert (tmp_path / name).read_text() == "before"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DalaError, match=r"tiles\.png: the sheet cannot be written there"):
        write_sheets(tmp_path / "file" / "tiles.png", [Image.new("RGB", (9, 9))])


def test_names_are_read_on_any_colour() -> None:
    assert ink_on((255, 240, 100)) == (0, 0, 0)
    assert ink_on((90, 0, 120)) == (255, 255, 255)
