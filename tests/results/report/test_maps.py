"""Maps as other programs open them: values, sizes, places and pyramids are those of the analysis."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_dala.errors import DalaError
from napari_dala.results.report.maps import SlideMap, write_maps, write_ome_tiff, write_ome_zarr
from napari_dala.results.report.pictures import thresholded_cam
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path

OME = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
VALUES = np.random.default_rng(0).random((2, 601, 515), dtype=np.float32)


@pytest.fixture
def large() -> SlideMap:
    values = VALUES.copy()
    values[:, :2, :2] = np.nan
    return SlideMap("probability", ("benign", "malignant"), values, (112.0, 113.0), (0.5, 0.25), (14.0, 7.0))


def pixels_of(file: tifffile.TiffFile) -> Any:
    return ET.fromstring(file.ome_metadata or "").find(".//ome:Pixels", OME)


def test_a_tiff_has_the_values_their_size_in_um_and_a_pyramid(large: SlideMap, tmp_path: Path) -> None:
    write_ome_tiff(large, tmp_path / "map.ome.tif")
    with tifffile.TiffFile(tmp_path / "map.ome.tif") as file:
        assert file.is_ome
        (series,) = file.series
        assert [level.shape for level in series.levels] == [(2, 601, 515), (2, 301, 258), (2, 151, 129)]
        np.testing.assert_array_equal(series.asarray(), large.values)
        coarser = series.levels[1].asarray()
        assert np.isnan(coarser[:, 0, 0]).all(), "where nothing was analysed"
        np.testing.assert_allclose(coarser[0, 3, 4], VALUES[0, 6:8, 8:10].mean(), rtol=1e-6)
        np.testing.assert_allclose(coarser[0, -1, 4], VALUES[0, 600, 8:10].mean(), rtol=1e-6)
        assert series.pages[0].is_tiled
        about = pixels_of(file)
        # QuPath's rule: a pixel size is known where both are there, in a unit of length.
        assert (about.get("PhysicalSizeX"), about.get("PhysicalSizeXUnit")) == ("113.0", "µm")
        assert (about.get("PhysicalSizeY"), about.get("PhysicalSizeYUnit")) == ("112.0", "µm")
        plane = about.find("ome:Plane", OME)
        assert (plane.get("PositionX"), plane.get("PositionY")) == ("7.0", "14.0")
        assert [one.get("Name") for one in about.findall("ome:Channel", OME)] == ["benign", "malignant"]
        across, unit = file.pages[0].tags["XResolution"].value, file.pages[0].tags["ResolutionUnit"].value
        assert across[0] / across[1] == pytest.approx(1e4 / 113)
        assert unit == 3, "per centimetre"


def test_a_zarr_has_the_values_and_their_place_on_the_slide(large: SlideMap, tmp_path: Path) -> None:
    path = tmp_path / "map.ome.zarr"
    write_ome_zarr(large, path)
    root = zarr.open_group(path, mode="r")
    assert root.metadata.zarr_format == 3
    ome = root.attrs["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["c", "y", "x"]
    assert image["axes"][1] == {"name": "y", "type": "space", "unit": "micrometer"}
    np.testing.assert_array_equal(root["0"][...], large.values)
    assert root["0"].metadata.dimension_names == ("c", "y", "x")
    for level, data in enumerate(image["datasets"]):
        scale, move = (one[one["type"]] for one in data["coordinateTransformations"])
        assert scale == [1, 112 * 2**level, 113 * 2**level]
        assert root[data["path"]].shape[1] == -(-601 // 2**level)
        # The corner of the first pixel, from the middle of the slide's first pixel.
        corner = np.array(move[1:]) - np.divide(scale[1:], 2) + np.array((0.25, 0.125))
        np.testing.assert_allclose(corner, (14, 7))
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["benign", "malignant"]


def test_maps_are_those_of_the_analysis(paint_analysis: Any, tmp_path: Path) -> None:
    slide = open_slide(np.full((700, 1000, 3), 200, np.uint8), mpp=0.25)
    analysis = paint_analysis(slide, lambda grid: np.linspace(0, 0.9, 48).reshape(6, 8), todo=((0, 0),))
    thresholded = thresholded_cam(analysis)
    out = tmp_path / "out"
    written = write_maps(analysis, thresholded, out)
    assert {path.name for path in written} == {path.name for path in out.iterdir()}
    with tifffile.TiffFile(out / "probability.ome.tif") as file:
        np.testing.assert_array_equal(file.asarray(), analysis.probability)
        assert float(pixels_of(file).get("PhysicalSizeX")) == pytest.approx(64 * 0.5)
    with tifffile.TiffFile(out / "dt-grad-cam.ome.tif") as file:
        shown = file.asarray().reshape(analysis.grid.cam_shape)
        assert float(pixels_of(file).get("PhysicalSizeX")) == pytest.approx(analysis.cell_um)
    assert np.isnan(shown[:2, :2]).all(), "not analysed is not 0"
    np.testing.assert_array_equal(np.nan_to_num(shown), thresholded.map)
    zarred = zarr.open_group(out / "dt-grad-cam.ome.zarr", mode="r")
    np.testing.assert_array_equal(zarred["0"][0], shown)


def test_maps_name_neither_slide_nor_computer(large: SlideMap, tmp_path: Path) -> None:
    write_ome_tiff(large, tmp_path / "map.ome.tif")
    with tifffile.TiffFile(tmp_path / "map.ome.tif") as file:
        about = ET.fromstring(file.ome_metadata or "")
    assert uuid.UUID(about.get("UUID")).version == 4
    assert f"{uuid.getnode():012x}" not in ET.tostring(about, encoding="unicode")


def test_writing_again_replaces_and_a_folder_of_others_is_left_alone(large: SlideMap, tmp_path: Path) -> None:
    path = tmp_path / "map.ome.zarr"
    write_ome_zarr(large, path)
    write_ome_zarr(large, path)
    assert [one.name for one in tmp_path.iterdir()] == ["map.ome.zarr"]
    other = tmp_path / "other.ome.zarr"
    other.mkdir()
    (other / "mine.txt").write_text("kept")
    with pytest.raises(DalaError, match="is no OME-Zarr"):
        write_ome_zarr(large, other)
    assert (other / "mine.txt").read_text() == "kept"


def test_what_fails_half_way_leaves_what_was_there(
    large: SlideMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.ome.zarr"
    write_ome_zarr(large, path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_dala.results.report.maps.zarr.Group.create_array", full)
    with pytest.raises(OSError, match="No space"):
        write_ome_zarr(large, path)
    assert [one.name for one in tmp_path.iterdir()] == ["map.ome.zarr"]
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["0"][...], large.values)
