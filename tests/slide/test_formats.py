"""The slide in a file of several pictures, its levels, its resolution, its place on the glass; or a refusal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from skimage.data import immunohistochemistry

from napari_dala.slide import SlideError, open_slide
from napari_dala.slide.backends.openslide import OpenSlideSlide
from napari_dala.slide.base import downsample_of
from napari_dala.slide.tiles import TileGrid, read_tiles
from tests.drawn_slides import write_czi, write_mrxs, write_scn

if TYPE_CHECKING:
    from pathlib import Path

TILED: dict[str, Any] = {"tile": (64, 64), "compression": "deflate"}
DICOM = "slides/CMU-1-Small-Region-dicom"


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    return np.ascontiguousarray(immunohistochemistry()[:300, :400])


def _about(name: str, axes: str, **more: object) -> dict[str, object]:
    return {"Name": name, "axes": axes, "PhysicalSizeX": 0.4, "PhysicalSizeY": 0.4, **more}


@pytest.mark.parametrize("layout", [TILED, {}], ids=["tiles", "strips"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("label", "size"), [("label image", 100), ("macro", 500), ("Label", 500), ("thumbnail 1", 80)])
def test_the_slide_in_ome_tiff_is_never_its_label(
    tmp_path: Path, tissue: np.ndarray, label: str, size: int, first: bool, layout: dict[str, object]
) -> None:
    path = tmp_path / "several.ome.tif"
    named = [(np.full((size, size, 3), 9, np.uint8), label), (tissue, "label-free case 7")]
    with tifffile.TiffWriter(path, ome=True) as tif:
        for pixels, name in named if first else reversed(named):
            more = {} if name != label else {"PhysicalSizeX": 10.0, "PhysicalSizeY": 10.0}
            tif.write(pixels, photometric="rgb", metadata=_about(name, "YXS", **more), **layout)
    with open_slide(path) as slide:
        assert slide.mpp == (0.4, 0.4)
        np.testing.assert_array_equal(slide.read(0, 0, *slide.dimensions), tissue)


def test_ome_tiff_of_a_label_alone_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    path = tmp_path / "label.ome.tif"
    tifffile.imwrite(path, tissue, photometric="rgb", metadata=_about("label", "YXS"), **TILED)
    with pytest.raises(SlideError, match="only labels"):
        open_slide(path)


@pytest.mark.parametrize(
    ("unit", "size"), [("µm", 0.4), ("\u03bcm", 0.4), ("nm", 400.0), ("mm", 4e-4), ("cm", 4e-5), ("in", 0.4 / 25400)]
)
def test_tiled_ome_tiff_has_its_levels_and_its_resolution(
    tmp_path: Path, tissue: np.ndarray, unit: str, size: float
) -> None:
    path = tmp_path / "pyramid.ome.tif"
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    about = _about("slide", "YXS", **units) | {"PhysicalSizeX": size, "PhysicalSizeY": size}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(tissue, subifds=2, photometric="rgb", metadata=about, **TILED)
        for step in (2, 4):
            tif.write(tissue[::step, ::step], subfiletype=1, photometric="rgb", **TILED)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        xml = (tif.ome_metadata or "").replace('Unit="µm"', f'Unit="{unit}"')
        tif.pages[0].tags["ImageDescription"].overwrite(xml.encode())
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx((0.4, 0.4))
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        np.testing.assert_array_equal(slide.read(40, 80, 20, 10, 2), tissue[80:120:4, 40:120:4])


@pytest.mark.parametrize("layout", [TILED, {}], ids=["tiles", "strips"])
def test_three_planes_of_one_picture_are_its_colours(
    tmp_path: Path, tissue: np.ndarray, layout: dict[str, object]
) -> None:
    path = tmp_path / "planes.ome.tif"
    planes = np.moveaxis(tissue, -1, 0)
    tifffile.imwrite(path, planes, photometric="minisblack", metadata=_about("slide", "CYX"), **layout)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
        assert slide.mpp == (0.4, 0.4)


@pytest.mark.parametrize("layout", [TILED, {}], ids=["tiles", "strips"])
@pytest.mark.parametrize(
    ("axes", "count", "dtype", "more"),
    [
        ("CYX", 5, np.uint8, {}),
        ("CYX", 2, np.uint8, {}),
        ("CYX", 3, np.uint8, {"Channel": {"Name": ["DAPI", "FITC", "Cy5"]}}),
        ("CYX", 3, np.uint16, {}),
        ("ZYX", 3, np.uint8, {}),
        ("TYX", 2, np.uint8, {}),
        ("ZYXS", 3, np.uint8, {}),
        ("YXS", 0, np.uint16, {}),
        ("YX", 0, np.uint16, {}),
    ],
)
def test_stacks_stains_and_deep_pixels_are_refused(
    tmp_path: Path,
    tissue: np.ndarray,
    axes: str,
    count: int,
    dtype: type,
    more: dict[str, object],
    layout: dict[str, object],
) -> None:
    path = tmp_path / "many.ome.tif"
    one = tissue if axes.endswith("S") else tissue[..., 0]
    pixels = (np.stack([one] * count) if count else one).astype(dtype)
    kind = "rgb" if axes.endswith("S") else "minisblack"
    tifffile.imwrite(path, pixels, photometric=kind, metadata=_about("slide", axes, **more), **layout)
    with pytest.raises(SlideError, match=r"many\.ome\.tif: .*8-bit RGB") as caught:
        open_slide(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "per_unit", "mpp"),
    [
        ("micron", 2.5, 0.4),
        ("microns", 2.5, 0.4),
        ("um", 2.5, 0.4),
        ("\\u00B5m", 2.5, 0.4),
        ("mm", 2500, 0.4),
        ("cm", 25000, 0.4),
        ("inch", 63500, 0.4),
        ("pixel", 2.5, None),
        (None, 2.5, None),
    ],
)
def test_imagejs_unit_is_in_its_description(
    tmp_path: Path, tissue: np.ndarray, unit: str | None, per_unit: float, mpp: float | None
) -> None:
    path = tmp_path / "fiji.tif"
    about = {"unit": unit} if unit else {}
    tifffile.imwrite(path, tissue, imagej=True, resolution=(per_unit, per_unit), metadata=about)
    with open_slide(path) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx((mpp, mpp)))


@pytest.mark.parametrize(
    ("power", "mpp"),
    [("40", 0.25), ("1", 10.0), ("150", 10 / 150), ("inf", None), ("-20", None), ("1e9", None), ("0.001", None)],
)
def test_only_a_plausible_power_gives_a_resolution(
    tmp_path: Path, tissue: np.ndarray, power: str, mpp: float | None
) -> None:
    path = tmp_path / "power.svs"
    about = f"Aperio Image Library v11.2.1\n400x300 [0,0 400x300] (64x64) JPEG/RGB Q=70|AppMag = {power}"
    tifffile.imwrite(
        path, tissue, tile=(64, 64), photometric="rgb", compression="jpeg", description=about, metadata=None
    )
    with open_slide(path) as slide:
        assert slide.facts.vendor == "aperio"
        assert slide.mpp == (None if mpp is None else (mpp, mpp))
        json.dumps(slide.properties, allow_nan=False)


def test_a_slide_that_openslide_would_turn_tile_by_tile_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    path = tmp_path / "turned.svs"
    about = "Aperio Image Library v11.2.1\n400x300 [0,0 400x300] (64x64) JPEG/RGB Q=70|AppMag = 40"
    tag = (274, 3, 1, 3, True)
    tifffile.imwrite(path, tissue, photometric="rgb", description=about, metadata=None, extratags=[tag], **TILED)
    with pytest.raises(SlideError, match="orientation 3"):
        open_slide(path)


def test_an_odd_private_tag_is_no_damage(tmp_path: Path, tissue: np.ndarray) -> None:
    path = tmp_path / "gdal.tif"
    tag = (42113, 2, 5, "none", True)  # GDAL's colour of what is not there, which should be a number
    tifffile.imwrite(path, tissue, photometric="rgb", metadata=None, extratags=[tag], **TILED)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)


@pytest.mark.parametrize("finest", [(4999, 3001), (100_000, 1010), (503, 491), (700, 9001)])
@pytest.mark.parametrize("step", [4, 16, 64])
def test_a_levels_far_corner_is_at_most_half_a_pixel_off(finest: tuple[int, int], step: int) -> None:
    size = (max(1, round(finest[0] / step)), max(1, round(finest[1] / step)))
    down = downsample_of(finest, size)
    assert all(abs(whole / down - side) <= 0.5 for whole, side in zip(finest, size, strict=True))


@pytest.mark.parametrize("reader", [open_slide, OpenSlideSlide])
def test_odd_levels_lie_where_level_0_has_them(tmp_path: Path, reader: Any) -> None:
    path, (width, height) = tmp_path / "odd.tif", (4999, 3001)

    def ramp(wide: int, high: int) -> np.ndarray:
        x, y = (np.arange(wide) + 0.5) * 255 / wide, (np.arange(high) + 0.5) * 255 / high
        return np.dstack([*np.broadcast_arrays(x[None], y[:, None]), np.zeros((high, wide))]).astype(np.uint8)

    with tifffile.TiffWriter(path) as tif:
        for index, size in enumerate([(width, height), (1249, 750), (312, 187)]):
            tif.write(ramp(*size), photometric="rgb", subfiletype=1 if index else 0, metadata=None, **TILED)
    with reader(path, mpp=0.1) as slide:
        for level in slide.levels:
            grid = TileGrid.over(slide, 64, 0.1 * level.downsample * 1.02)
            rows, columns = grid.shape
            for row, column in ((0, 0), (rows - 1, columns - 1), (0, columns - 1), (rows - 1, 0)):
                tile = read_tiles(slide, grid, row, column, 1, 1).astype(float)
                x = grid.origins()[0][column] + (np.arange(64) + 0.5) * grid.scale[0]
                y = grid.origins()[1][row] + (np.arange(64) + 0.5) * grid.scale[1]
                across, down = (x > 40) & (x < width - 40), (y > 40) & (y < height - 40)
                most = level.downsample / 2 + 10  # a step of the ramp is 20 px
                if across.any() and down.any():
                    inside = tile[down][:, across]
                    found = (np.median(inside[..., :2], (0, 1)) + 0.5) * (width, height) / 255
                    assert abs(found[0] - np.median(x[across])) < most
                    assert abs(found[1] - np.median(y[down])) < most


def test_a_read_over_the_corner_begins_where_it_says(tmp_path: Path, tissue: np.ndarray) -> None:
    path = tmp_path / "corner.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(tissue, photometric="rgb", metadata=None, **TILED)
        tif.write(tissue[::3, ::3], photometric="rgb", subfiletype=1, metadata=None, **TILED)
    for reader in (open_slide, OpenSlideSlide):
        with reader(path) as slide:
            whole = slide.read(0, 0, 40, 40, 1)
            for start in (-1, -2, -3, -4, -7):
                pixels, (left, top) = slide.read(start, start, 40, 40, 1), slide.corner(start, start, 1)
                assert abs(left - start / slide.levels[1].downsample) <= 0.5
                missing = -round(left)
                inside = pixels[missing:, missing:].astype(int)
                here, beside = (
                    np.abs(inside - np.roll(whole, -step, (0, 1))[: 40 - missing, : 40 - missing])[:-2, :-2].mean()
                    for step in (0, 1)
                )
                assert here < beside, (reader, start)
                assert left == top


@pytest.mark.parametrize("write", [write_scn, write_mrxs])
def test_coordinates_begin_at_the_scan_as_in_qupath(tmp_path: Path, tissue: np.ndarray, write: Any) -> None:
    path = write(tmp_path / "glass", tissue, (700, 900))
    with open_slide(path) as slide:
        assert slide.facts.vendor == {".scn": "leica", ".mrxs": "mirax"}[path.suffix]
        assert slide.dimensions == (400, 300)
        assert slide.mpp == pytest.approx((0.4, 0.4))
        assert slide.properties["bounds"] == [700, 900, 400, 300]
        assert np.abs(slide.read(0, 0, 400, 300).astype(int) - tissue).mean() < 4
        down = round(slide.levels[1].downsample)
        small = slide.read(200, 100, 40, 30, 1).astype(int)
        expected = tissue[100 : 100 + 30 * down : down, 200 : 200 + 40 * down : down]
        assert np.abs(small - expected).mean() < 8
        assert (slide.read(-8, -8, 8, 8) == 255).all()


def test_a_czi_opens_with_its_levels_and_its_resolution(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_czi(tmp_path / "axio", tissue)
    with open_slide(path) as slide:
        assert (slide.facts.vendor, slide.dimensions) == ("zeiss", (400, 300))
        assert [level.downsample for level in slide.levels] == [1, 4]
        assert (slide.mpp, slide.mpp_source) == (pytest.approx((0.4, 0.4)), "file")
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
        np.testing.assert_array_equal(slide.read(0, 0, 100, 75, 1), tissue[::4, ::4])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SlideError, match=r"^axio\.czi: "):
        open_slide(path)


def _described(kind: str) -> str:
    about = f"<DescriptionVersion>3</DescriptionVersion><ImageType>{kind}</ImageType><Objective>20x</Objective>"
    return f"<PerkinElmer-QPI-ImageDescription>{about}</PerkinElmer-QPI-ImageDescription>"


def write_qptiff(path: Path, tissue: np.ndarray, planes: int = 0) -> Path:
    """Write a picture as Akoya's scanners do: thumbnail, levels, the whole glass and the label after it."""
    plain: dict[str, Any] = {"metadata": None, "software": "PerkinElmer-QPI"}
    tiled = plain | {"tile": (256, 256), "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tif:
        for step in (1, 2, 4):
            kind = _described("FullResolution" if step == 1 else "ReducedResolution")
            for plane in range(planes or 1):
                pixels = tissue[::step, ::step, plane % 3] if planes else tissue[::step, ::step]
                stored = {"compression": "lzw" if planes else "jpeg", "subfiletype": int(step > 1)}
                tif.write(np.ascontiguousarray(pixels), description=kind, **stored, **tiled)
            if step == 1:
                tif.write(np.ascontiguousarray(tissue[::8, ::8]), description=_described("Thumbnail"), **plain)
        for kind in ("Overview", "Label"):
            tif.write(np.full((900, 800, 3), 7, np.uint8), description=_described(kind), **plain)
    return path


def test_a_brightfield_qptiff_opens_and_fluorescence_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    with open_slide(write_qptiff(tmp_path / "light.qptiff", tissue)) as slide:
        assert slide.dimensions == (400, 300)
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        assert (slide.mpp, slide.mpp_source) == (pytest.approx((0.5, 0.5)), "file")
        assert np.abs(slide.read(0, 0, 400, 300).astype(int) - tissue).mean() < 4
        assert not slide.is_photograph
    with pytest.raises(SlideError, match=r"stains\.qptiff: axes CYX of 5 x 300 x 400: .*stains one by one"):
        open_slide(write_qptiff(tmp_path / "stains.qptiff", tissue, planes=5))


@pytest.fixture
def dicom(shared_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "dicom"
    folder.mkdir()
    for index, file in enumerate(sorted((shared_data / DICOM).iterdir())):
        shutil.copyfile(file, folder / f"{index}.dcm")
    return folder


def _edited(file: Path, old: bytes, new: bytes, to: Path) -> None:
    """Write a copy of a DICOM file with the value of one element changed, which must be even in length."""
    data = file.read_bytes()
    assert data.count(old) >= 1
    to.write_bytes(data.replace(old, new))


def test_a_dicom_whose_table_of_frames_is_damaged_is_refused(dicom: Path) -> None:
    """OpenSlide ends the process at such a frame."""
    whole = max(dicom.iterdir(), key=lambda file: file.stat().st_size)
    held = bytearray(whole.read_bytes())
    table = held.index(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0") + 20
    held[table + 40 : table + 44] = b"\0\0\xff\xff"
    whole.write_bytes(held)
    for path in (dicom, whole):
        with pytest.raises(SlideError, match=f"{whole.name}: damaged, its frames are not where it says"):
            open_slide(path)


def test_a_dicom_folder_opens_whatever_sorts_first(dicom: Path) -> None:
    (dicom / "._0.dcm").write_bytes(bytes(64))
    (dicom / "!report.dcm").write_text("not a picture")
    label = next(file for file in dicom.glob("[0-9].dcm") if b"LABEL" in file.read_bytes()[:4096])
    series = label.read_bytes().split(b"\x20\x00\x0e\x00UI")[1]
    uid = series[2 : 2 + series[0]]
    _edited(label, uid, uid[:-3] + b"77" + uid[-1:], dicom / "!label.dcm")  # a series of its own
    with open_slide(dicom) as slide:
        assert slide.dimensions == (2220, 2967)
    for file in dicom.glob("[0-9].dcm"):
        file.rename(file.with_suffix(".DCM"))
    with open_slide(dicom) as slide:
        assert slide.dimensions == (2220, 2967)


def test_a_dicom_folder_of_two_slides_is_not_chosen_from(dicom: Path) -> None:
    volume = max(dicom.iterdir(), key=lambda file: file.stat().st_size)
    series = volume.read_bytes().split(b"\x20\x00\x0e\x00UI")[1]
    uid = series[2 : 2 + series[0]]
    _edited(volume, uid, uid[:-3] + b"77" + uid[-1:], dicom / "other.dcm")
    with pytest.raises(SlideError, match="holds 2 slides"):
        open_slide(dicom)
    with open_slide(dicom / "other.dcm") as slide:
        assert slide.dimensions == (2220, 2967)


def test_a_sparse_dicom_does_not_end_the_process(dicom: Path) -> None:
    for file in dicom.iterdir():
        _edited(file, b"CS\x0a\x00TILED_FULL", b"CS\x0c\x00TILED_SPARSE", file)
    code = "import sys; from napari_dala.slide import open_slide; open_slide(sys.argv[1])"
    for path in (dicom, max(dicom.iterdir(), key=lambda file: file.stat().st_size)):
        ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
        assert ended.returncode == 1
        assert "SlideError" in ended.stderr
        assert "TILED_SPARSE" in ended.stderr
